# SPDX-License-Identifier: Apache-2.0
"""Kernels: their sources, configurations, flavours and variants, built and cached."""
