# SPDX-License-Identifier: Apache-2.0
"""Oracles: decide whether a smaller reproducer still shows its crash."""
