"""The gold judge's scores of the same replies, shown with the judge's agreement with people."""

from collections.abc import Mapping
from typing import Any

from groundup.evaluate.controls import CONSTANTS, TEMPLATES, TITLES
from groundup.evaluate.gold import (
    HUMAN_WIN_RATE,
    NUM_MOVES,
    UNCENTRED,
    WIN_RATE,
    Absent,
    all_gold_metrics,
)
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.model_judge.independence import INDEPENDENT, Independence
from groundup.evaluate.pairwise.games import SFT_RATING
from groundup.evaluate.pairwise.tournament import BASE_WIN_RATE
from groundup.evaluate.shown import (
    ENDS,
    LEGEND,
    TIE,
    Cell,
    Row,
    Section,
    Shown,
    Table,
    Tile,
    number_cell,
    number_with_interval,
    percent,
    percent_interval,
    percent_with_interval,
    verdict,
    win_cell,
)
from groundup.runner.params.evaluate import EvaluateParams

CHANCE = 0.5  # accuracy of guessing the given reply among two
PLAYERS = {  # title, win rate against SFT, gold score
    "base": ("Base", BASE_WIN_RATE, "gold_reward_base"),
    "sft": ("SFT", "", "gold_reward_before"),
    "aligned": ("Aligned", WIN_RATE, "gold_reward_after"),
    "human": ("People", HUMAN_WIN_RATE, "gold_reward_human"),
}
CONTROLS = {f"win_rate_{name}_vs_sft_gold": title for name, title in TITLES.items()}
MUST_WIN, MUST_NOT_WIN, BY_OPENING = "must win", "must not win", "what the opening explains"
ROWS = {
    WIN_RATE: ("Aligned", ""),
    f"{WIN_RATE}_length_controlled": ("Aligned, at equal length", ""),
    f"{WIN_RATE}_moved": ("Aligned, replies moved to other conversations", MUST_NOT_WIN),
    f"{WIN_RATE}_moved_within_opening": ("Aligned, replies moved within the same opening", BY_OPENING),
    HUMAN_WIN_RATE: ("People", MUST_WIN),
    f"{HUMAN_WIN_RATE}_moved": ("People, replies moved to other conversations", MUST_NOT_WIN),
    f"{HUMAN_WIN_RATE}_moved_within_opening": ("People, replies moved within the same opening", BY_OPENING),
    **{name: (title, MUST_NOT_WIN) for name, title in CONTROLS.items()},
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
        independent = self.context.independence
        hint = (
            f"{independent or 'A judge that no model was trained on.'} It finds the reply that a person gave in "
            f"{agreement} of held-out pairs; chance is {CHANCE}. A win counts only if people win too, and nothing "
            "does that must not. The judge that is not centred likes replies that fit everywhere: it shows that these "
            f"controls can fail (\u2717). {LEGEND}"
        )
        return Shown(
            tiles=[
                Tile(
                    "Win rate against SFT, gold judge",
                    percent(metrics[WIN_RATE]),
                    f"{percent_interval(metrics, WIN_RATE)}; in other conversations "
                    + (percent(metrics[f"{WIN_RATE}_moved"]) if f"{WIN_RATE}_moved" in metrics else "not measured"),
                )
            ],
            sentences=[_verdict(metrics), _trust(metrics, agreement), *_not_independent(independent)],
            sections=[Section("Gold judge", hint, [_players(metrics), _controls(metrics)])],
            method=[_method(metrics, self.context.params, independent)],
        )


def _verdict(metrics: Mapping[str, Any]) -> str:
    """One seed is never called better."""
    said = verdict(metrics, WIN_RATE, TIE, "wins", "loses", "cannot be told apart from SFT's")
    won = [title for name, title in CONTROLS.items() if metrics[f"{name}_ci_low"] > TIE]
    doubt = (
        f" But under this judge these win too, so it proves nothing: {'; '.join(won)}."
        if won
        else " No control wins: neither constant replies, nor an echo, nor a template."
    )
    above = f"{WIN_RATE}_above_moved"
    if above in metrics:
        due = verdict(metrics, above, 0.0, "is", "is not", "is not shown to be")
        moved = percent_with_interval(metrics, f"{WIN_RATE}_moved")
        doubt += (
            f" Moved to other conversations the same replies win {moved}, so what it wins {due} due to the "
            f"conversation: difference {number_with_interval(metrics, above)}."
        )
    against = "" if said.startswith("cannot") else " against SFT's"
    return (
        f"Under the gold judge the aligned model's reply {said}{against}: "
        f"{percent_with_interval(metrics, WIN_RATE)} of {metrics['num_prompts']} test prompts, in this run with one "
        f"seed.{doubt}"
    )


def _players(metrics: Mapping[str, Any]) -> Table:
    """All models and people side by side."""
    rows = []
    for player, (title, win_rate, score) in PLAYERS.items():
        if player == "sft":
            found = [Cell(percent(TIE), "a tie"), Cell(f"{SFT_RATING:.0f}", "fixed")]
        elif win_rate in metrics:
            rating, low, high = (metrics[f"rating_{player}_gold{end}"] for end in ENDS)
            found = [win_cell(metrics, win_rate), Cell(f"{rating:.0f}", f"{low:.0f} to {high:.0f}")]
        else:  # people who answered no prompt
            continue
        rows.append(Row(title, "", [*found, number_cell(metrics, score)]))
    return Table(["", "Win rate against SFT", "Rating", "Gold score"], rows)


def _controls(metrics: Mapping[str, Any]) -> Table:
    def cell(name: str, wanted: str) -> Cell:
        wins = metrics.get(f"{name}_ci_low", TIE) > TIE
        return win_cell(metrics, name, failed=wins if wanted == MUST_NOT_WIN else wanted == MUST_WIN and not wins)

    rows = [
        Row(title, wanted, [cell(name, wanted), cell(UNCENTRED.format(name), wanted)])
        for name, (title, wanted) in ROWS.items()
        if name in metrics
    ]
    return Table(["Win rate against SFT", "Gold judge", "Not centred"], rows)


def _trust(metrics: Mapping[str, Any], agreement: str) -> str:
    known = f"The judge finds the reply that a person gave with an accuracy of {agreement} in held-out pairs"
    if metrics["judge_agreement_ci_low"] > CHANCE:
        return f"{known}; chance is {CHANCE}."
    return f"{known}: not better than chance as far as the interval tells, so its verdicts prove nothing either way."


def _not_independent(independence: Independence | None) -> list[str]:
    if independence is None or independence.kind == INDEPENDENT:
        return []
    return [f"The gold judge is a language model. {independence} What it likes may be what they share."]


def _method(metrics: Mapping[str, Any], params: EvaluateParams, by_model: Independence | None) -> str:
    return (
        f"Gold judge: {_model_judge(metrics, params, by_model) if by_model else _word_judge(metrics)} What fits a "
        "conversation need not be what people like best. Intervals of gold figures are over other prompts"
        + (
            " alone, as if this model were right. "
            if by_model
            else " and over judges whose weights are fitted on resamples of these conversations; all keep the "
            "words, the latent dimensions and the mean of this judge, so the intervals are a little too narrow. "
        )
        + "At equal length: logistic regression of the win on the difference in length, read off at no difference. "
        f"Replies of other conversations: both models' replies, moved to {NUM_MOVES} prompts of other conversations"
        + (f", on {params.model_judge.num_control_prompts} prompts at most; " if by_model else "; ")
        + f"the interval is over both. The best of {len(CONSTANTS)} constant replies and of {len(TEMPLATES)} "
        "templates, and the pair of constant replies, are chosen by the same judge on validation prompts. The judge "
        "that is not "
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


def _model_judge(metrics: Mapping[str, Any], params: EvaluateParams, independence: Independence) -> str:
    return (
        f"the language model in {params.model_judge.path} (sha256 {params.model_judge.digest}), fitted on nothing "
        "here. The gold score is the log-probability of a reply's words given its conversation less its mean given "
        f"{params.model_judge.num_others} other prompts at the same point (first, second, third or a later exchange; "
        "after a question or not), in nats, so that a reply that fits everywhere fits nothing. Words that a reply "
        "copies from its conversation do not count, common words excepted. Agreement is the share of "
        f"{metrics['judge_num_pairs']} pairs that it gets right in the {metrics['judge_num_conversations']} "
        "conversations of the judge split, which no training stage reads: of two replies of like length, which one "
        f"did a person give there? 0.5 is chance. {independence}"
    )
