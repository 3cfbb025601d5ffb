# SPDX-License-Identifier: Apache-2.0
"""Commands and exit codes."""
