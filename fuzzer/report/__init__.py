# SPDX-License-Identifier: Apache-2.0
"""The reports of a campaign to a person."""
