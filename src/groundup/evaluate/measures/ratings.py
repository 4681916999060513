"""Ratings of all checkpoints from pairwise comparisons, by the gold judge and by the model of evaluate.openai."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.measure import Context, Measure
from groundup.evaluate.pairwise.server import judge_server
from groundup.evaluate.pairwise.tournament import Standings, gold_standings, make_entrants
from groundup.evaluate.shown import MODELS, Cell, Row, Section, Shown, Table
from groundup.runner.files import write_json

FILE = "ratings.json"
VERDICTS = "verdicts.jsonl"  # of a paid judge
JUDGES = {"gold": "Gold judge", "openai": "Model of evaluate.openai"}
PLAYERS = {**MODELS, "human": "People"}


class Ratings(Measure):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.standings: list[Standings] = []
        if context.params.judge == "openai":
            judge_server(context.params.openai)

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        context, params = self.context, self.context.params
        entrants = make_entrants(context.prompts, context.replies, context.points)
        if not isinstance(context.judge, Absent):
            self.standings.append(gold_standings(context.judge, entrants, params))
        if params.judge == "openai":
            from groundup.evaluate.pairwise.openai_games import openai_standings  # importing its client takes a second

            ask = partial(openai_standings, params, context.kept / VERDICTS, entrants)
            self.standings.append(context.steps.processes.from_first(ask))
        return {name: value for standings in self.standings for name, value in standings.metrics.items()}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        write_json(self.context.out / FILE, [standings.to_json() for standings in self.standings])

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        if not self.standings:
            return Shown()
        tables = [Table([JUDGES[found.judge], "Rating", "Comparisons"], _rows(found)) for found in self.standings]
        hint = "Elo points from pairwise comparisons of all checkpoints, the SFT model at 1000; 95\u00a0% intervals."
        return Shown(
            sections=[Section("Ratings", hint, tables)],
            method=[
                "Ratings: one Bradley-Terry model of all comparisons, on Elo's scale (400 points are odds of ten to "
                "one), the SFT model at 1000. Iterations are align's evaluation points, on validation prompts."
            ],
        )


def _rows(standings: Standings) -> list[Row]:
    rows = []
    for rating in standings.ratings:
        title = PLAYERS.get(rating.player, rating.player.replace("_", " ").capitalize())
        interval = f"{rating.ci_low:.0f} to {rating.ci_high:.0f}" if rating.player != "sft" else ""
        rows.append(Row(title, "", [Cell(f"{rating.rating:.0f}", interval), Cell(f"{rating.num_games:,}")]))
    return rows
