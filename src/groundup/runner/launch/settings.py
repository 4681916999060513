"""How a stage is started: launch.yaml beside params.yaml, or variables. It belongs to a machine, not to the params."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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


def truth(text: Any) -> bool:
    return bool(choice(text, {"true": True, "false": False}))


def options(value: Any) -> tuple[str, ...]:
    """A list, or in a variable what a shell would split."""
    found = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(it, str) and it.startswith("-") for it in found):
        raise ValueError(value)
    return tuple(found)


def addresses(value: Any) -> tuple[str, ...]:
    """A list, or in a variable words: without a path, which the protocol has of its own."""
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list):
        raise ValueError(value)
    urls = [str(url).rstrip("/") for url in found]
    for parts in map(urlsplit, urls):
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise ValueError(value)
    return tuple(urls)


class Setting(NamedTuple):
    default: Any
    read: Callable[[Any], Any]  # ValueError or KeyError for what it cannot be
    hint: str


SETTINGS = {
    "device": Setting(
        "auto", lambda x: choice(x, {it: it for it in ("auto", *DEVICES)}), "use auto, cpu, cuda or mps"
    ),
    "compile": Setting(True, truth, "use true or false"),
    "deterministic": Setting(False, truth, "use true or false"),
    "processes": Setting(1, lambda x: number(x, int), "use a whole number from 1"),
    "nodes": Setting(1, lambda x: number(x, int), "use a whole number from 1"),
    "strategy": Setting("ddp", lambda x: choice(x, {it: it for it in STRATEGIES}), f"use {' or '.join(STRATEGIES)}"),
    "launcher": Setting("local", lambda x: choice(x, {it: it for it in LAUNCHER_NAMES}), "use local, slurm or nodes"),
    "slurm": Setting((), options, "use a list of sbatch's options, such as [--partition=gpu, --gpus-per-node=8]"),
    "rollouts": Setting((), addresses, "use the URLs of servers, such as [http://10.0.0.5:8000]"),
    "timeout": Setting(1800.0, lambda x: number(x, float), "use a number of seconds above 0"),
}


@dataclass(frozen=True)
class Launch:
    device: str  # auto: not decided
    compile: bool  # torch.compile, where a stage would use it
    deterministic: bool  # on cuda, kernels that repeat their results alone; those of a CPU always do
    processes: int  # of a node: one per GPU, or sharing the CPU's cores
    nodes: int
    strategy: str  # ddp: each has a whole copy of the model; fsdp2: a shard of it
    launcher: str  # what starts them
    slurm: Sequence[str]  # options of sbatch
    rollouts: Sequence[str]  # servers that sample replies; none: the stage does
    timeout: float  # seconds that a process waits for the others, and for a server
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
    read: list[tuple[str | None, str, Any, str]] = []
    for section, name, text, where in written:
        try:
            read.append((section, name, SETTINGS[name].read(text), where))
        except (ValueError, KeyError):
            problems.append(f"{where}{text}: {SETTINGS[name].hint}")
    pipeline = read_pipeline(root) if stage else {}
    launches = {name: _launch(read, name, spec.spreads) for name, spec in pipeline.items()}
    for name, launch in launches.items():
        problems += _problems(name, launch, pipeline[name].spreads)  # of all stages, before the first one starts
    if problems:
        raise LaunchError("\n".join(dict.fromkeys(problems)))
    return launches[stage] if stage else _launch(read, None, ())


def _launch(read: Sequence[tuple[str | None, str, Any, str]], stage: str | None, spreads: Sequence[str]) -> Launch:
    values = {name: setting.default for name, setting in SETTINGS.items()}
    said_by = f"{LAUNCH_PREFIX}DEVICE is not set: "
    for section, name, value, where in read:
        if section in (None, stage):
            values[name] = value
            said_by = where if name == "device" else said_by
    if not spreads:
        values |= {"processes": 1, "nodes": 1, "launcher": "local"}
    return Launch(**values, device_said_by=said_by)


def _problems(stage: str, launch: Launch, spreads: Sequence[str]) -> list[str]:
    """Settings that do not go together."""
    found = []
    if launch.nodes > 1 and launch.launcher == "local":
        found.append(f"nodes: {launch.nodes}, but this machine is one: set launcher to slurm or nodes, or nodes to 1")
    if spreads and launch.strategy not in spreads:
        found.append(
            f"strategy: {launch.strategy}, but {stage} has {', '.join(spreads)}: set `{stage}: "
            f"{{strategy: {spreads[0]}}}`"
        )
    if launch.launcher != "local" and launch.device == "auto":
        found.append("device: auto, but what the nodes have is not known here: set cpu or cuda")
    if launch.deterministic and launch.device == "mps":
        found.append("deterministic: true, but of mps torch promises nothing: set it to false, or device to cpu")
    if launch.num_processes > 1 and launch.device == "mps":
        found.append("device: mps, which one process at most can use: set processes to 1, or device to cpu")
    return found


def _written(root: Path) -> tuple[list[tuple[str | None, str, Any, str]], list[str]]:
    """(stage or None, setting, value, where it stands), the strongest last; and a sentence for each unknown name."""
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
            problems.append(f"{FILE}: {name}: not a setting or a stage: there are {', '.join((*SETTINGS, *stages))}")
        elif not isinstance(value, dict) or (unknown := value.keys() - SETTINGS.keys()):
            named = ", ".join(map(str, sorted(unknown))) if isinstance(value, dict) else repr(value)
            problems.append(f"{FILE}: {name}: {named}: not a setting: there are {', '.join(SETTINGS)}")
        else:
            found += [(name, key, text, f"{FILE}: {name}: {key}: ") for key, text in value.items()]
    for name in SETTINGS:
        if (variable := LAUNCH_PREFIX + name.upper()) in os.environ:
            found.append((None, name, os.environ[variable], f"{variable}="))
    return found, problems
