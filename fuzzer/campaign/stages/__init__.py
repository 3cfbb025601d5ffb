# SPDX-License-Identifier: Apache-2.0
"""Stages: the kinds of work that the judge does while nothing waits to be judged."""
