# SPDX-License-Identifier: Apache-2.0
"""The state of a campaign as one document, which the campaign writes and every view reads."""
