# SPDX-License-Identifier: Apache-2.0
"""Campaigns: workers and the judge, supervised over a working directory."""
