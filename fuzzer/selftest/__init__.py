# SPDX-License-Identifier: Apache-2.0
"""Checks and tests of the project itself, for ``pkvfuzz test``; no other command uses them."""
