"""The reward model's report, for people."""

import json
from pathlib import Path
from typing import Any


def write_report(metrics: dict[str, Any], report: Path) -> None:
    report.mkdir(parents=True, exist_ok=True)
    (report / "report.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    verdict = (
        "It beats the rule that prefers the longer side: the lower end of its interval is above that rule's accuracy."
        if metrics["beats_length_only"]
        else "It does not provably beat the rule that prefers the longer side."
    )
    (report / "report.md").write_text(
        f"""# Reward model

{verdict} Intervals are 95 %, resampled over conversations, since pairs share them; a tie counts half.

| on held-out pairs | accuracy | interval |
|---|---|---|
| reward model | {metrics["heldout_accuracy"]:.3f} | {_interval(metrics, "heldout_accuracy")} |
| prefer the longer side | {metrics["length_only_accuracy"]:.3f} | {_interval(metrics, "length_only_accuracy")} |

Accuracy on the {metrics["num_pairs_train"]} training pairs: {metrics["train_accuracy"]:.3f},
on the {metrics["num_pairs_val"]} validation pairs: {metrics["val_accuracy"]:.3f}.
{metrics["num_pairs_too_long"]} pairs were left out as too long.
""",
        encoding="utf-8",
    )


def _interval(metrics: dict[str, Any], name: str) -> str:
    return f"{metrics[f'{name}_ci_low']:.3f} to {metrics[f'{name}_ci_high']:.3f}"
