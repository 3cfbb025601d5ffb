# SPDX-License-Identifier: Apache-2.0
"""Splats, crashes, and their verification and replay."""
