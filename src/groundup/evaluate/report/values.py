"""Values, ratings and gates of the report: table rows, sentences, and JSON for other pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.evaluate.gates import Gate
from groundup.evaluate.pairwise.tournament import Standings
from groundup.evaluate.probes.figures import TITLES, is_share
from groundup.evaluate.probes.measure import Values
from groundup.evaluate.report.sentences import MODELS, number, percent, percent_range
from groundup.runner.files import write_json

JUDGES = {"gold": "Gold judge", "openai": "Model of evaluate.openai"}
PLAYERS = {**MODELS, "human": "People"}
ENDS = ("", "_ci_low", "_ci_high")


def probe_title(measure: str) -> tuple[str, str]:
    """What it is called, and which way is better."""
    if measure in TITLES:
        return TITLES[measure]
    figure, _, count = measure.rpartition("_")
    figures = {"canary_exposure": "bits, lower is better", "canary_extraction": "lower is better"}
    return f"{figure.replace('_', ' ').capitalize()}, planted {count} times", figures[figure]


def shown(measure: str, value: float) -> str:
    """A share in percent; bits and differences as they are."""
    return percent(value) if is_share(measure) else number(value)


def shown_interval(measure: str, low: float, high: float) -> str:
    return percent_range(low, high) if is_share(measure) else f"{number(low)} to {number(high)}"


def player_title(player: str) -> str:
    return PLAYERS.get(player, player.replace("_", " ").capitalize())


def rating_tables(standings: Sequence[Standings]) -> list[dict[str, Any]]:
    return [
        {
            "judge": JUDGES[judged.judge],
            "rows": [
                {
                    "player": player_title(rating.player),
                    "rating": f"{rating.rating:.0f}",
                    "interval": f"{rating.ci_low:.0f} to {rating.ci_high:.0f}",
                    "games": rating.num_games,
                }
                for rating in judged.ratings
            ],
        }
        for judged in standings
    ]


def gate_sentence(gates: Sequence[Gate]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    if not gates:
        return "There are no gates: evaluate.gates is empty."
    if not failed:
        return f"The aligned model passes all {len(gates)} gates and may be promoted."
    return (
        f"The aligned model fails {len(failed)} of {len(gates)} gates and is not promoted: "
        + "; ".join(f"{gate.name} ({gate.reason})" for gate in failed)
        + "."
    )


def write_values(
    metrics: Mapping[str, Any],
    values: Mapping[str, Values],
    standings: Sequence[Standings],
    gates: Sequence[Gate],
    out: Path,
) -> None:
    """probes.json, ratings.json, gates.json."""
    write_json(
        out / "probes.json",
        [
            {
                "measure": measure,
                "title": probe_title(measure)[0],
                "better": probe_title(measure)[1],
                "models": {model: _interval(metrics[model], measure) for model in values},
                "change": _interval(metrics, f"{measure}_change"),
                "items": {model: items[measure] for model, items in values.items()},
            }
            for measure in values["aligned"]
        ],
    )
    write_json(out / "ratings.json", [judged.to_json() for judged in standings])
    write_json(out / "gates.json", [vars(gate) for gate in gates])


def _interval(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    return {key: metrics[f"{name}{end}"] for key, end in zip(("value", "ci_low", "ci_high"), ENDS, strict=True)}
