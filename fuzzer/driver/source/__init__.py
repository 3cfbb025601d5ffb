# SPDX-License-Identifier: Apache-2.0
"""The interface of a driver, read from its C source."""
