"""How a stage is started: launch.yaml beside params.yaml, or variables. It belongs to a machine, not to the params."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from groundup.runner.environment import DEVICES, LAUNCH_PREFIX, main_root
from groundup.runner.files import read_yaml
from groundup.runner.pipeline import read_pipeline

FILE = "launch.yaml"  # ignored by git
LAUNCHER_NAMES = ("local", "slurm", "nodes")
STRATEGIES = ("ddp", "fsdp2")
EXAMPLE = "lines such as `device: cuda` and `processes: 2`"


class LaunchError(ValueError):
    """The launch file or a variable cannot be used; the message lists every problem."""


def number(text: Any, kind: type[int] | type[float]) -> Any:
    """A positive one."""
    value = kind(str(text))
    if not 0 < value < float("inf"):
        raise ValueError(value)
    return value


def choice(text: Any, names: Mapping[str, Any]) -> Any:
    return names[str(text).lower()]


def options(value: Any) -> tuple[str, ...]:
    """A list, or in a variable what a shell would split."""
    found = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(it, str) and it.startswith("-") for it in found):
        raise ValueError(value)
    return tuple(found)


class Setting(NamedTuple):
    default: Any
    read: Callable[[Any], Any]  # ValueError or KeyError for what it cannot be
    hint: str


SETTINGS = {
    "device": Setting(
        "auto", lambda x: choice(x, {it: it for it in ("auto", *DEVICES)}), "use auto, cpu, cuda or mps"
    ),
    "compile": Setting(True, lambda x: choice(x, {"true": True, "false": False}), "use true or false"),
    "processes": Setting(1, lambda x: number(x, int), "use a whole number from 1"),
    "nodes": Setting(1, lambda x: number(x, int), "use a whole number from 1"),
    "strategy": Setting("ddp", lambda x: choice(x, {it: it for it in STRATEGIES}), f"use {' or '.join(STRATEGIES)}"),
    "launcher": Setting("local", lambda x: choice(x, {it: it for it in LAUNCHER_NAMES}), "use local, slurm or nodes"),
    "slurm": Setting((), options, "use a list of sbatch's options, such as [--partition=gpu, --gpus-per-node=8]"),
    "timeout": Setting(1800.0, lambda x: number(x, float), "use a number of seconds above 0"),
}


@dataclass(frozen=True)
class Launch:
    device: str  # auto: not decided
    compile: bool  # torch.compile, where a stage would use it
    processes: int  # of a node: one per GPU, or sharing the CPU's cores
    nodes: int
    strategy: str  # ddp: each has a whole copy of the model; fsdp2: a shard of it
    launcher: str  # what starts them
    slurm: Sequence[str]  # options of sbatch
    timeout: float  # seconds that a process waits for the others
    device_said_by: str  # for messages: the text before the value

    @property
    def num_processes(self) -> int:
        return self.nodes * self.processes

    @property
    def is_spread(self) -> bool:
        """Whether a stage's body runs elsewhere than in the stage's own process."""
        return self.num_processes > 1 or self.launcher != "local"


def read_launch(root: Path, stage: str | None = None) -> Launch:
    """A variable comes before the stage's own section of the file, that before the rest of the file.

    A stage that does not spread (dvc.yaml), and what is no stage, is one process here.
    """
    written, problems = _written(root)
    values = {name: setting.default for name, setting in SETTINGS.items()}
    said_by = f"{LAUNCH_PREFIX}DEVICE is not set: "
    for section, name, text, where in written:
        try:
            value = SETTINGS[name].read(text)
        except (ValueError, KeyError):
            problems.append(f"{where}{text}: {SETTINGS[name].hint}")
            continue
        if section in (None, stage):
            values[name] = value
            said_by = where if name == "device" else said_by
    if values["nodes"] > 1 and values["launcher"] == "local":
        problems.append(
            f"nodes: {values['nodes']}, but this machine is one: set launcher to slurm or nodes, or nodes to 1"
        )
    spreads = read_pipeline(root)[stage].spreads if stage else ()
    if spreads and values["strategy"] not in spreads:
        problems.append(
            f"strategy: {values['strategy']}, but {stage} has {', '.join(spreads)}: set `{stage}: "
            f"{{strategy: {spreads[0]}}}`"
        )
    if spreads and values["launcher"] != "local" and values["device"] == "auto":
        problems.append("device: auto, but what the nodes have is not known here: set cpu or cuda")
    if problems:
        raise LaunchError("\n".join(problems))
    if not spreads:
        values |= {"processes": 1, "nodes": 1, "launcher": "local"}
    return Launch(**values, device_said_by=said_by)


def _written(root: Path) -> tuple[list[tuple[str | None, str, Any, str]], list[str]]:
    """(stage or None, setting, value, where it stands), what comes first last; and what is no setting."""
    path = main_root(root) / FILE
    file: Any = {}
    if path.is_file():
        file = read_yaml(path, f"write {EXAMPLE}, or delete the file")
        if not isinstance(file, dict) or not file:
            raise LaunchError(f"{path} holds {file!r:.80}: write {EXAMPLE}, or delete the file")
    stages = read_pipeline(root).keys() if file.keys() - SETTINGS.keys() else set()
    found: list[tuple[str | None, str, Any, str]] = []
    problems = []
    for name, value in sorted(file.items(), key=lambda item: (item[0] not in SETTINGS, str(item[0]))):
        if name in SETTINGS:
            found.append((None, name, value, f"{FILE}: {name}: "))
        elif name not in stages:
            problems.append(f"{FILE}: {name}: no setting and no stage: there are {', '.join((*SETTINGS, *stages))}")
        elif not isinstance(value, dict) or (unknown := value.keys() - SETTINGS.keys()):
            named = ", ".join(map(str, sorted(unknown))) if isinstance(value, dict) else repr(value)
            problems.append(f"{FILE}: {name}: {named}: no setting: there are {', '.join(SETTINGS)}")
        else:
            found += [(name, key, text, f"{FILE}: {name}: {key}: ") for key, text in value.items()]
    for name in SETTINGS:
        if (variable := LAUNCH_PREFIX + name.upper()) in os.environ:
            found.append((None, name, os.environ[variable], f"{variable}="))
    return found, problems
