# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: QEMU, templates, and the channel to the guest."""
