# SPDX-License-Identifier: Apache-2.0
"""``python -m fuzzer``."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    try:
        from fuzzer.cli.main import main

        # It was held back since the start, so that no import is interrupted.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
