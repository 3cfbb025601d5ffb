# SPDX-License-Identifier: Apache-2.0
"""libFuzzer as the engine: counters, mutator, and the worker that runs it."""
