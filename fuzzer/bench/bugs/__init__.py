# SPDX-License-Identifier: Apache-2.0
"""Benchmark of planted bugs: how soon each is found, over several runs, as table, JSON and plot."""
