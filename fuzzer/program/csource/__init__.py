# SPDX-License-Identifier: Apache-2.0
"""Programs as plain C, which needs nothing of pkvfuzz to run.

Start at :func:`fuzzer.program.csource.source.c_source`.
"""
