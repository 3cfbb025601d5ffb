# SPDX-License-Identifier: Apache-2.0
"""The minimizer: passes that make a reproducer smaller, and their driver."""
