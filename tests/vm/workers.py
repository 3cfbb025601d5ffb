# SPDX-License-Identifier: Apache-2.0
"""A worker process on its own, without a campaign."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

from fuzzer.campaign.seeds import load_seeds
from fuzzer.crash.sighting import Spool
from fuzzer.driver.provision import Guest
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.worker import WorkerTask


def run_worker(guest: Guest, options: LoopOptions, racing: Guest | None = None) -> Path:
    """Run a worker in a new working directory until it is done; return its corpus."""
    workdir = options.workdir
    corpus = workdir / "corpus"
    corpus.mkdir(parents=True)
    Spool(workdir).create()
    for number, seed in enumerate(load_seeds(guest.target, None, 1)):
        (corpus / f"seed-{number}").write_bytes(seed)
    task = WorkerTask(guest, corpus, options, reload=False, parent=os.getpid(), racing=racing)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fuzzer.engine.worker"],
        input=pickle.dumps(task),
        capture_output=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert not (workdir / f"{options.name}.error").exists()
    return corpus
