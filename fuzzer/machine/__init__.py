# SPDX-License-Identifier: Apache-2.0
"""Kernel and driver builds, QEMU, templates, and the channel to the guest."""
