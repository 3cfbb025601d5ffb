# SPDX-License-Identifier: Apache-2.0
"""Drivers: built as their authors build them, and what is read from the result."""
