# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the machines that run workflow files: it runs their lines in a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_CONDITIONS = {None: False, "success() || failure()": True}
"""Conditions of steps, and whether they run after a step that failed."""


@dataclass(slots=True)
class Job:
    """The result of a job: each step that ran with its exit status, and all that was printed."""

    steps: list[tuple[str, int]] = field(default_factory=list)
    output: str = ""

    @property
    def failed(self) -> bool:
        """True if a step failed."""
        return any(status for _, status in self.steps)

    def run(self, name: str, script: str, cwd: Path, env: Mapping[str, str]) -> None:
        """Run a script as GitHub and GitLab do: it ends at the first line that fails."""
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=cwd,
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        self.steps.append((name, done.returncode))
        self.output += done.stdout


def read_workflow(path: Path) -> Mapping[str, Any]:
    """Return the only job of a GitHub workflow; ``on`` has to be a key, and not YAML's true."""
    document = yaml.safe_load(path.read_text())
    assert {"name", "jobs"} <= set(document)
    (job,) = document["jobs"].values()
    content: Mapping[str, Any] = job
    return content


def run_github(path: Path, cwd: Path, env: Mapping[str, str]) -> Job:
    """Run the steps of a workflow that are scripts; ``env`` overrules that of the job."""
    content, job = read_workflow(path), Job()
    for step in content["steps"]:
        after_failure = _CONDITIONS[step.get("if")]
        if "run" in step and (after_failure or not job.failed):
            job.run(step["name"], step["run"], cwd, content["env"] | env)
    return job


def run_gitlab(path: Path, cwd: Path, env: Mapping[str, str]) -> Job:
    """Run the scripts of the only job of a file for GitLab."""
    (content,) = yaml.safe_load(path.read_text()).values()
    variables = {name: str(value) for name, value in content["variables"].items()} | dict(env)
    job = Job()
    script = "\n".join([*content["before_script"], *content["script"]])
    job.run("script", script, cwd, variables)
    job.run("after_script", "\n".join(content["after_script"]), cwd, variables)
    return job
