# SPDX-License-Identifier: Apache-2.0
"""Programs: sequences of calls, their wire and text forms, generation and mutation.

``program`` has the types, ``wire`` and ``text`` the codecs, ``generate`` makes
calls from a target's description and ``mutate`` changes wire programs.
"""
