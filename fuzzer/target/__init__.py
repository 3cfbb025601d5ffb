# SPDX-License-Identifier: Apache-2.0
"""The description of a device under test: a YAML file and a C header become a ``Target``.

Start at :func:`fuzzer.target.target.load_target`.
"""
