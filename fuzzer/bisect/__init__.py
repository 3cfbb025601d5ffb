# SPDX-License-Identifier: Apache-2.0
"""Search of a driver's git history for the commit that brought a crash."""
