"""The launchers of launch.yaml: what each would run, as text to read, and the job that it starts."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from groundup.runner.launch.jobs import Job, local_command, local_job
from groundup.runner.launch.nodes import NodesJob, node_command
from groundup.runner.launch.settings import Launch
from groundup.runner.launch.slurm import LOG, SlurmJob, slurm_script


class Launcher(NamedTuple):
    text: Callable[[Launch, str], str]
    # (launch, stage, root, folder for what the job leaves, environment)
    start: Callable[[Launch, str, Path, Path, dict[str, str]], Job]


LAUNCHERS = {
    "local": Launcher(lambda launch, stage: shlex.join(local_command(launch, stage)), local_job),
    "nodes": Launcher(
        lambda launch, stage: "on every node: " + shlex.join(node_command(launch, stage, "HEAD:PORT", "JOB")), NodesJob
    ),
    "slurm": Launcher(
        lambda launch, stage: slurm_script(launch, stage, f".work/{stage}/FINGERPRINT/scratch/{LOG}"),
        SlurmJob,
    ),
}
