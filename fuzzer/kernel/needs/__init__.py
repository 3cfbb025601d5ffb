# SPDX-License-Identifier: Apache-2.0
"""From a failed build of a driver to the kernel options that it needs."""
