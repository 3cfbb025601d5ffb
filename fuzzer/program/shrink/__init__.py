# SPDX-License-Identifier: Apache-2.0
"""Passes that make calls of a program simpler, and its text plainer."""
