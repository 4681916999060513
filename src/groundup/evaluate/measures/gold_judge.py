"""The gold judge's scores of the same replies, shown with the judge's agreement with people."""

from collections.abc import Mapping
from typing import Any

from groundup.evaluate.controls import CONSTANTS, TEMPLATES, TITLES
from groundup.evaluate.gold import (
    HUMAN_WIN_RATE,
    NUM_MOVES,
    TIE,
    UNCENTRED,
    WIN_RATE,
    Absent,
    all_gold_metrics,
)
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import (
    Cell,
    Row,
    Section,
    Shown,
    Table,
    Tile,
    models_table,
    number_cell,
    number_with_interval,
    percent,
    percent_cell,
    percent_interval,
    percent_with_interval,
    verdict,
    win_bars,
)
from groundup.runner.params.evaluate import EvaluateParams

CHANCE = 0.5  # accuracy of guessing the given reply among two
BARS = {
    WIN_RATE: "Aligned against SFT, gold judge",
    f"{WIN_RATE}_length_controlled": "Aligned against SFT, gold judge, equal length",
    HUMAN_WIN_RATE: "What people answered against SFT, gold judge",
}
MUST_LOSE = {f"win_rate_{name}_vs_sft_gold": title for name, title in TITLES.items()}
ROWS = {
    WIN_RATE: ("Aligned", ""),
    f"{WIN_RATE}_moved": ("Aligned, replies of other conversations", "must be a tie"),
    f"{WIN_RATE}_moved_within_opening": ("Aligned, of others with the same opening", "what the opening explains"),
    HUMAN_WIN_RATE: ("People", "must win"),
    f"{HUMAN_WIN_RATE}_moved": ("People, replies of other conversations", "must be a tie"),
    f"{HUMAN_WIN_RATE}_moved_within_opening": ("People, of others with the same opening", "what the opening explains"),
    **{name: (title, "must lose") for name, title in MUST_LOSE.items()},
}


class GoldJudge(Measure):
    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        context, sft = self.context, self.context.replies["sft"]
        if isinstance(context.judge, Absent):
            return {}
        aligned = context.replies["aligned"]
        return all_gold_metrics(context.judge, context.prompts, sft, aligned, context.points, context.params)

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        if isinstance(self.context.judge, Absent):
            reason = self.context.judge.reason
            return Shown(
                sentences=[f"There is no gold judge ({reason}): figures of reward are the reward model's own view."]
            )
        agreement = number_with_interval(metrics, "judge_agreement")
        golds = [number_cell(metrics, f"gold_reward_{when}") for when in ("before", "after")]
        table = models_table([Row("Gold score", f"judge's agreement {agreement}", [Cell(""), *golds])])
        hint = "A judge that no model was trained on, with what must not win under it."
        return Shown(
            tiles=[
                Tile(
                    "Win rate against SFT, gold judge",
                    percent(metrics[WIN_RATE]),
                    f"{percent_interval(metrics, WIN_RATE)}; in other conversations "
                    + (percent(metrics[f"{WIN_RATE}_moved"]) if f"{WIN_RATE}_moved" in metrics else "not measured"),
                )
            ],
            sentences=[_verdict(metrics), _trust(metrics, agreement)],
            sections=[Section("Gold judge", hint, [table, _controls(metrics)], win_bars(metrics, BARS))],
            method=[_method(metrics, self.context.params)],
        )


def _verdict(metrics: Mapping[str, Any]) -> str:
    """One seed is never called better."""
    said = verdict(metrics, WIN_RATE, TIE, "wins", "loses", "cannot be told apart from SFT's")
    won = [title for name, title in MUST_LOSE.items() if metrics[f"{name}_ci_low"] > TIE]
    doubt = (
        f" But under this judge these win too, so it proves nothing: {'; '.join(won)}."
        if won
        else " Nothing that must lose wins."
    )
    above = f"{WIN_RATE}_above_moved"
    if above in metrics:
        due = verdict(metrics, above, 0.0, "is", "is not", "is not shown to be")
        doubt += (
            f" In other conversations the same replies win {percent_with_interval(metrics, f'{WIN_RATE}_moved')}, so "
            f"what it wins {due} due to the conversation: {number_with_interval(metrics, above)}."
        )
    against = "" if said.startswith("cannot") else " against SFT's"
    return (
        f"Under the gold judge the aligned model's reply {said}{against}: "
        f"{percent_with_interval(metrics, WIN_RATE)} of {metrics['num_prompts']} test prompts, in this run with one "
        f"seed.{doubt}"
    )


def _controls(metrics: Mapping[str, Any]) -> Table:
    rows = [
        Row(title, wanted, [percent_cell(metrics, name), percent_cell(metrics, UNCENTRED.format(name))])
        for name, (title, wanted) in ROWS.items()
        if name in metrics
    ]
    return Table(["Win rate against SFT", "Gold judge", "The same judge, not centred"], rows)


def _trust(metrics: Mapping[str, Any], agreement: str) -> str:
    known = f"The judge finds the reply that a person gave with an accuracy of {agreement} in held-out pairs"
    if metrics["judge_agreement_ci_low"] > CHANCE:
        return f"{known}; chance is {CHANCE}."
    return f"{known}: not better than chance as far as the interval tells, so its verdicts prove nothing either way."


def _method(metrics: Mapping[str, Any], params: EvaluateParams) -> str:
    by_model = params.judge == "model"
    return (
        f"Gold judge: {_model_judge(metrics, params) if by_model else _word_judge(metrics)} What fits a conversation "
        "need not be what people like best. Intervals of gold figures are over other prompts"
        + (
            " alone, as if this model were right. "
            if by_model
            else " and over judges whose weights are fitted on resamples of these conversations. "
        )
        + "At equal length: logistic regression of the win on the difference in length, read off at no difference. "
        f"Replies of other conversations: both models' replies, moved to {NUM_MOVES} prompts of other conversations; "
        f"the interval is over both. The best of {len(CONSTANTS)} constant replies and of {len(TEMPLATES)} templates, "
        "and the pair of constant replies, are chosen by the same judge on validation prompts. The judge that is not "
        + (
            "centred takes the log-probability given the conversation alone: what wins there and not here is likely "
            "everywhere."
            if by_model
            else "centred leaves out the mean over other conversations: what wins there and not here fits everywhere."
        )
    )


def _word_judge(metrics: Mapping[str, Any]) -> str:
    return (
        "what the words of a reply have to do with the words said before (TF-IDF, latent semantic "
        "analysis and a linear discriminant), fitted on the "
        f"{metrics['judge_num_conversations']} conversations of the judge split, which no training stage reads: of "
        "two replies of like length, which one did a person give there? The gold score is a reply's fit to its "
        "conversation less its mean fit to the other test prompts at the same point (first, second, third or a later "
        "exchange; after a question or not), so that a reply that fits everywhere fits nothing. It sees neither "
        "length nor what a reply copies from its conversation, common words excepted. Agreement is the share of "
        f"{metrics['judge_num_pairs']} such pairs that it gets right in conversations it was not fitted on, 0.5 "
        "being chance."
    )


def _model_judge(metrics: Mapping[str, Any], params: EvaluateParams) -> str:
    return (
        f"the language model in {params.model_judge.path} (sha256 {params.model_judge.digest}), fitted on nothing "
        "here. The gold score is the log-probability of a reply's words given its conversation less that given a "
        "message that says nothing, in nats, so that what is likely everywhere gains little. Words that a reply "
        "copies from its conversation do not count, common words excepted. Agreement is the share of "
        f"{metrics['judge_num_pairs']} pairs that it gets right in the {metrics['judge_num_conversations']} "
        "conversations of the judge split, which no training stage reads: of two replies of like length, which one "
        "did a person give there? 0.5 is chance. A model is no independent judge of models that were made from it."
    )
