"""The experiments that DVC shows in a checkout: what each changed, and its headline figures."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from groundup.runner.figures import FINGERPRINT, INTERVAL, as_text
from groundup.runner.nested import flatten
from groundup.runner.pipeline import dvc_json, read_pipeline

WORKSPACE = "workspace"
UNFINISHED = ("queued", "running", "failed")  # states that DVC gives an experiment of its queue


class Measured(NamedTuple):
    value: float
    interval: tuple[float, float] | None  # 95 %

    def __str__(self) -> str:
        ends = f" ({as_text(self.interval[0])} to {as_text(self.interval[1])})" if self.interval else ""
        return as_text(self.value) + ends


@dataclass(frozen=True)
class Experiment:
    name: str
    params: dict[str, Any]  # under dotted names
    figures: dict[str, Measured]  # STAGE/FIGURE, in the pipeline's order


@dataclass(frozen=True)
class Experiments:
    finished: list[Experiment]
    unfinished: dict[str, str]  # name -> state

    @property
    def changed(self) -> list[str]:
        """The params in which they differ."""
        return _differing([it.params for it in self.finished])

    @property
    def figures(self) -> list[str]:
        """The figures in which they differ."""
        return _differing([it.figures for it in self.finished])


def _differing(rows: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if any(row.get(name) != rows[0].get(name) for row in rows)]


def read_experiments(root: Path, names: Collection[str]) -> Experiments:
    """Those of the present commit; only the named ones, if there are names.

    Raises PipelineError if DVC cannot show them, ValueError if a name is not among them.
    """
    found = parse_experiments(dvc_json(root, "exp", "show"), read_pipeline(root))
    if not names:
        return Experiments(_distinct(found.finished), found.unfinished)
    problems = [f"{name} is {found.unfinished[name]}" for name in names if name in found.unfinished]
    known = {it.name: it for it in found.finished}
    if unknown := [name for name in names if name not in known and name not in found.unfinished]:
        problems.append(
            f"no experiment of this commit is named {', '.join(unknown)} (`dvc exp list -A` names those of other ones)"
        )
    if problems:
        raise ValueError(f"{'; '.join(problems)}; there are {', '.join(known)}")
    return Experiments([known[name] for name in names], found.unfinished)


def _distinct(experiments: list[Experiment]) -> list[Experiment]:
    """Without the workspace, if it is the same as what has a name."""
    workspace, *named = experiments
    is_same = any((it.params, it.figures) == (workspace.params, workspace.figures) for it in named)
    return named if is_same else experiments


def parse_experiments(printed: list[dict[str, Any]], stages: Iterable[str]) -> Experiments:
    """printed: what `dvc exp show --json` prints, the workspace first."""
    finished: list[Experiment] = []
    unfinished: dict[str, str] = {}
    for baseline in printed:
        finished.append(_experiment(baseline, stages))
        for group in baseline["experiments"] or []:
            newest, state = group["revs"][0], (group["executor"] or {}).get("state")
            if state in UNFINISHED or not newest["data"]:
                unfinished[_name(newest)] = state or "failed"
            else:
                finished.append(_experiment(newest, stages))
    return Experiments(finished, unfinished)


def _name(revision: dict[str, Any]) -> str:
    return str(revision["name"] or (WORKSPACE if revision["rev"] == WORKSPACE else revision["rev"][:7]))


def _experiment(revision: dict[str, Any], stages: Iterable[str]) -> Experiment:
    data = revision["data"] or {"params": {}, "metrics": {}}
    figures = {}
    for stage in stages:
        measured = data["metrics"].get(f"metrics/{stage}.json", {}).get("data", {})
        for name, value in measured.items():
            if name != FINGERPRINT and not name.endswith(INTERVAL):
                ends = [measured.get(name + end) for end in INTERVAL]
                figures[f"{stage}/{name}"] = Measured(value, None if None in ends else (ends[0], ends[1]))
    params = data["params"].get("params.yaml", {}).get("data", {})
    return Experiment(_name(revision), flatten(params), figures)
