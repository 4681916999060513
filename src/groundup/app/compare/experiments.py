"""The experiments that DVC knows in a checkout: what each changed, and its headline figures."""

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from groundup.runner.figures import INTERVAL
from groundup.runner.nested import flatten
from groundup.runner.pipeline import read_pipeline

WORKSPACE = "workspace"
UNFINISHED = ("queued", "running", "failed")  # states of what DVC's queue has not finished


class Figure(NamedTuple):
    value: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        value = f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.3f}"
        return f"{value} ({self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else value


@dataclass(frozen=True)
class Experiment:
    name: str
    params: dict[str, Any]  # under dotted names
    figures: dict[str, Figure]  # STAGE/FIGURE, in the pipeline's order


@dataclass(frozen=True)
class Comparison:
    experiments: list[Experiment]
    unfinished: list[str]  # names

    @property
    def changed(self) -> list[str]:
        """The params in which the experiments differ."""
        names = dict.fromkeys(name for it in self.experiments for name in it.params)
        return [name for name in names if self._differ([it.params.get(name) for it in self.experiments])]

    @property
    def figures(self) -> list[str]:
        """The figures in which they differ."""
        names = dict.fromkeys(name for it in self.experiments for name in it.figures)
        return [name for name in names if self._differ([it.figures.get(name) for it in self.experiments])]

    @staticmethod
    def _differ(values: list[Any]) -> bool:
        return any(value != values[0] for value in values)


def read_comparison(root: Path, names: Collection[str]) -> Comparison:
    """The workspace, each commit that has experiments, and these; only the named ones, if there are names.

    A commit whose params and figures are those of the workspace is left out. Raises ValueError if DVC cannot show them
    or knows no experiment of such a name.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "show", "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise ValueError(f"`dvc exp show` failed: {(ran.stderr.strip() or ran.stdout.strip()).splitlines()[-1]}")
    found = comparison(json.loads(ran.stdout), {name: spec.shown for name, spec in read_pipeline(root).items()})
    known = [it.name for it in found.experiments]
    if unknown := [name for name in names if name not in known]:
        late = [name for name in unknown if name in found.unfinished]
        what = f"{', '.join(late)}: not finished" if late else f"DVC knows no experiment {', '.join(unknown)}"
        raise ValueError(f"{what}; there are {', '.join(known)}")
    return Comparison([it for it in found.experiments if not names or it.name in names], found.unfinished)


def comparison(shown: list[dict[str, Any]], headlines: dict[str, tuple[str, ...]]) -> Comparison:
    """shown: what `dvc exp show --json` prints. headlines: stage -> names of its headline figures."""
    experiments: list[Experiment] = []
    unfinished: list[str] = []
    for baseline in shown:
        made = _experiment(baseline, headlines)
        if not any((made.params, made.figures) == (it.params, it.figures) for it in experiments):
            experiments.append(made)
        for group in baseline["experiments"] or []:
            newest = group["revs"][0]
            if (group["executor"] or {}).get("state") in UNFINISHED or not newest["data"]:
                unfinished.append(_name(newest))
            else:
                experiments.append(_experiment(newest, headlines))
    return Comparison(experiments, unfinished)


def _name(shown: dict[str, Any]) -> str:
    return str(shown["name"] or (WORKSPACE if shown["rev"] == WORKSPACE else shown["rev"][:7]))


def _experiment(shown: dict[str, Any], headlines: dict[str, tuple[str, ...]]) -> Experiment:
    data = shown["data"] or {"params": {}, "metrics": {}}
    params = data["params"].get("params.yaml", {}).get("data", {})
    figures = {}
    for stage, names in headlines.items():
        measured = data["metrics"].get(f"metrics/{stage}.json", {}).get("data", {})
        for name in names:
            if name in measured:
                ends = [measured.get(name + end) for end in INTERVAL]
                interval = None if None in ends else (ends[0], ends[1])
                figures[f"{stage}/{name}"] = Figure(measured[name], interval)
    return Experiment(_name(shown), flatten(params), figures)
