# SPDX-License-Identifier: Apache-2.0
"""Programs as plain C, which runs without pkvfuzz.

Start at :func:`fuzzer.program.csource.source.c_source`.
"""
