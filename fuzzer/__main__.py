# SPDX-License-Identifier: Apache-2.0
"""``python -m fuzzer``."""

from __future__ import annotations

import sys

from fuzzer.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
