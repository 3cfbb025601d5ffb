# SPDX-License-Identifier: Apache-2.0
"""Tests of drivers with pytest: each on a fresh machine, failing with what the kernel reports."""
