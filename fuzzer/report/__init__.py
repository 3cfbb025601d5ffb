# SPDX-License-Identifier: Apache-2.0
"""What a campaign looks like to a person."""
