# SPDX-License-Identifier: Apache-2.0
"""Archives of the cache: what a campaign needs, in one file."""
