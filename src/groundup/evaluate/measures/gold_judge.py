"""The gold judge's scores of the same replies, shown with the judge's agreement with people."""

from collections.abc import Mapping
from typing import Any

from groundup.evaluate.gold import Absent, gold_metrics, human_metrics
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import (
    Cell,
    Row,
    Section,
    Shown,
    models_table,
    number_cell,
    number_with_interval,
    win_bars,
)

CHANCE = 0.5  # accuracy of guessing the given reply among two
WIN_RATE, HUMAN = "win_rate_vs_sft_gold", "win_rate_human_vs_sft_gold"
CAUTION = (
    "The gold judge also rewards replies that fit any conversation, so a win under it is not evidence of better "
    "replies; it is being replaced."
)
BARS = {
    WIN_RATE: "Aligned against SFT, gold judge",
    f"{WIN_RATE}_length_controlled": "Aligned against SFT, gold judge, equal length",
    HUMAN: "What people answered against SFT, gold judge",
}


class GoldJudge(Measure):
    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        context, sft = self.context, self.context.replies["sft"]
        if isinstance(context.judge, Absent):
            return {}
        return {
            **gold_metrics(context.judge, context.prompts, sft, context.replies["aligned"], context.params),
            **human_metrics(context.judge, context.prompts, sft, context.params),
        }

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        if isinstance(self.context.judge, Absent):
            reason = self.context.judge.reason
            return Shown(
                sentences=[f"There is no gold judge ({reason}): figures of reward are the reward model's own view."]
            )
        agreement = number_with_interval(metrics, "judge_agreement")
        golds = [number_cell(metrics, f"gold_reward_{when}") for when in ("before", "after")]
        table = models_table([Row("Gold score", f"judge's agreement {agreement}", [Cell(""), *golds])])
        return Shown(
            sentences=[CAUTION, _trust(metrics, agreement)],
            sections=[
                Section("Gold judge", "A judge that no training stage has seen.", [table], win_bars(metrics, BARS))
            ],
            method=[_method(metrics)],
        )


def _trust(metrics: Mapping[str, Any], agreement: str) -> str:
    known = f"The judge finds the reply that a person gave with an accuracy of {agreement} in held-out pairs"
    if metrics["judge_agreement_ci_low"] > CHANCE:
        return f"{known}; chance is {CHANCE}."
    return f"{known}: not better than chance as far as the interval tells, so its verdicts prove nothing either way."


def _method(metrics: Mapping[str, Any]) -> str:
    return (
        "Gold judge: TF-IDF, latent semantic analysis and logistic regression, fitted on the "
        f"{metrics['judge_num_conversations']} conversations of the judge split, which no training stage reads: of "
        "two replies of like length, which one did a person give there? It sees neither length nor what a reply "
        "copies from its conversation. The gold score is the log-odds that a reply fits, up to a constant; "
        f"agreement is the share of {metrics['judge_num_pairs']} such pairs that it gets right in conversations it "
        "was not fitted on, 0.5 being chance. What fits a conversation need not be what people like best. Intervals "
        "of gold figures are over other prompts and over judges fitted on resamples of these conversations. At "
        "equal length: logistic regression of the win on the difference in length, read off at no difference."
    )
