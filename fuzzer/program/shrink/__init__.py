# SPDX-License-Identifier: Apache-2.0
"""Simpler forms of a program's calls and texts, for the minimizer to try."""
