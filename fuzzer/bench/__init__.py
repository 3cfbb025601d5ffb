# SPDX-License-Identifier: Apache-2.0
"""The benchmark: how fast programs run, what they cost, and where the time goes."""
