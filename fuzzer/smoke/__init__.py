# SPDX-License-Identifier: Apache-2.0
"""The verdict on a commit, in bounded time."""
