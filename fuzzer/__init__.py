# SPDX-License-Identifier: Apache-2.0
"""pkvfuzz: a coverage-guided fuzzer for Linux character-device drivers."""

__version__ = "0.1.0"
