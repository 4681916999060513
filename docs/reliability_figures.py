"""The tables of docs/reliability.md, as Markdown."""

import json
from pathlib import Path
from typing import Any

from groundup.prepare.clean.pii_quality import QUALITY_HEAD, measure_pii, planted_rows, quality_rows

# Block -> (the file its figures are in, what writes that file).
MEASURED = {
    "kills": ("docs/reliability.json", "`make test-chaos`"),
    "processes": ("docs/reliability_processes.json", "`python -m tests.chaos.processes`"),
    "bad-input": ("docs/tried.json", "`make test-chaos`"),
    "mlflow": ("docs/tried.json", "`make test-chaos`"),
}


def blocks(root: Path, times: dict[str, Any] | None) -> tuple[dict[str, str], list[str]]:
    """The tables by name of their block, and what is missing for the others."""
    found = {
        "pii": table(QUALITY_HEAD, quality_rows(measure_pii(planted_rows()))),
    }
    if times:
        found["checkpoints"] = checkpoints(times["stages"])
    missing = []
    for (name, (path, command)), render in zip(MEASURED.items(), (kills, processes, bad_input, mlflow), strict=True):
        if (root / path).exists():
            found[name] = render(json.loads((root / path).read_text(encoding="utf-8")))
        else:
            missing.append(f"{path} is missing: {command} writes it")
    return found, missing


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [" | ".join(map(str, cells)) for cells in (head, *rows)]
    rule = "|".join("---" for _ in head)
    return "\n".join(f"| {line} |" if i != 1 else f"|{rule}|\n| {line} |" for i, line in enumerate(lines))


def kills(results: dict[str, Any]) -> str:
    """One row a stage, and all together."""
    total = results["totals"]
    again = f"{total['num_trained_again_after_finish']} of {total['num_after_finish']}"
    rows = [kill_row(name, row) for name, row in (*results["stages"].items(), ("all", total))]
    head = ("", "planned", "kills", "survived", "with one remedy", "identical", "history whole")
    return table((*head, "most steps lost (checkpoint every)", "most seconds lost"), rows) + (
        f"\n\nMedian time lost: {total['median_seconds_lost']:.1f} s. Kills after the result was finished that led to "
        f"training again: {again}. Planned kills that the stage outran: {total['num_planned'] - total['num_kills']}. "
        f"Seed {results['seed']}."
    )


def kill_row(name: str, row: dict[str, Any]) -> tuple[Any, ...]:
    counts = ("planned", "kills", "survived", "survived_with_remedy", "identical", "histories_whole")
    every = row.get("checkpoint_every")
    steps = f"{row['max_steps_lost']} ({every})" if every else ""
    return (name, *(row[f"num_{key}"] for key in counts), steps, f"{row['max_seconds_lost']:.1f}")


def processes(results: dict[str, Any]) -> str:
    """One row for each kind of kill, and all together."""
    counts = ("planned", "kills", "clean", "survived", "identical", "histories_whole")
    rows = [
        (name, *(row[f"num_{key}"] for key in counts), f"{row['max_seconds_to_end']:.1f}")
        for name, row in (*results["kinds"].items(), ("all", results["totals"]))
    ]
    head = ("", "planned", "kills", "clean end", "survived", "identical", "history whole", "most seconds to the end")
    return table(head, rows) + f"\n\nSeed {results['seed']}."


def checkpoints(stages: dict[str, dict[str, float]]) -> str:
    rows = []
    for stage, run in stages.items():
        if "checkpoint_seconds" not in run:
            continue
        train, saving = run["train_seconds"], run["checkpoint_seconds"]
        rows.append((stage, f"{train:.1f}", f"{saving:.2f}", f"{saving / train:.2%}"))
    return table(("stage", "training, seconds", "saving checkpoints, seconds", "share"), rows)


def bad_input(results: dict[str, Any]) -> str:
    return counted("bad input", "clear error", results["bad input"])


def mlflow(results: dict[str, Any]) -> str:
    return counted("fault", "survived", results["MLflow"])


def counted(what: str, good: str, rows: dict[str, dict[str, int]]) -> str:
    counts = [(row, count["tried"], count["passed"]) for row, count in rows.items()]
    together = [sum(count[key] for count in rows.values()) for key in ("tried", "passed")]
    return table((what, "tried", good), [*counts, ("all", *together)])
