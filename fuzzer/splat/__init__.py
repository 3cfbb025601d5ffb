# SPDX-License-Identifier: Apache-2.0
"""Kernel reports ("splats") in a log: found, described, told apart. Runs nothing."""
