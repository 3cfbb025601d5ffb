# SPDX-License-Identifier: Apache-2.0
"""The report on a campaign as one HTML file, live on loopback, and campaigns side by side."""
