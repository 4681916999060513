"""One sampled reply to each test prompt: its reward, its KL to the SFT model, its length and diversity."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from groundup.core.judging.statistics import wins
from groundup.core.model.generation import DISTINCT_2_TOKENS
from groundup.evaluate.intervals import Metrics, with_interval
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.replies import reply_metrics, style_changes
from groundup.evaluate.shown import (
    LEGEND,
    MODELS,
    Cell,
    Row,
    Section,
    Shown,
    Table,
    Tile,
    models_table,
    number,
    number_cell,
    percent,
    percent_interval,
    percent_with_interval,
    verdict,
    win_cell,
)

WINS = {"win_rate_vs_sft": "Aligned against SFT", "win_rate_vs_base": "Aligned against base"}


class Rewards(Measure):
    def of_model(self, name: str, model: PreTrainedModel) -> Metrics:
        replies, conversations, params = self.context.replies[name], self.context.conversations, self.context.params
        return {
            **with_interval("reward", replies["rewards"], conversations, params),
            **with_interval("kl_to_sft", replies["kl"], conversations, params),
            "kl_to_sft_num_items": len(conversations),
            **reply_metrics(replies, conversations, params),
        }

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        replies, conversations, params = self.context.replies, self.context.conversations, self.context.params
        found = style_changes(replies["sft"], replies["aligned"], conversations, params)
        for opponent in ("sft", "base"):
            won = wins(replies["aligned"]["rewards"], replies[opponent]["rewards"]).tolist()
            found |= with_interval(f"win_rate_vs_{opponent}", won, conversations, params)
        return found

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        base, sft, aligned = scores = [metrics[model] for model in MODELS]
        params = self.context.params
        before = f"SFT {number(sft['reward'])}, base {number(base['reward'])}"
        return Shown(
            tiles=[
                Tile(
                    "Win rate against SFT, reward model",
                    percent(metrics["win_rate_vs_sft"]),
                    f"{percent_interval(metrics, 'win_rate_vs_sft')}; a tie is {percent(0.5)}",
                ),
                Tile("Reward", number(aligned["reward"]), before),
            ],
            sentences=[_win(metrics), _reward(sft, aligned), _style(metrics)],
            sections=[
                Section(
                    "Replies",
                    LEGEND,
                    [
                        models_table(
                            [
                                Row("Reward", "higher is better", [number_cell(s, "reward") for s in scores]),
                                Row("KL to SFT", "nats per reply", [number_cell(s, "kl_to_sft") for s in scores]),
                                Row("Length", "tokens", [number_cell(s, "reply_length") for s in scores]),
                                Row(
                                    "Distinct-2",
                                    f"of {DISTINCT_2_TOKENS} tokens",
                                    [number_cell(s, "distinct_2") for s in scores],
                                ),
                                Row(
                                    "End-of-turn rate",
                                    "ended by themselves",
                                    [Cell(percent(s["end_of_turn_rate"])) for s in scores],
                                ),
                            ]
                        ),
                        Table(
                            ["Win rate", "Reward model"],
                            [Row(title, "", [win_cell(metrics, name)]) for name, title in WINS.items()],
                        ),
                    ],
                )
            ],
            method=[
                f"Replies: one sample for each of {metrics['num_prompts']} test prompts, temperature "
                f"{params.temperature}, at most {params.max_new_tokens} tokens, seed {params.seed}, the same random "
                "numbers for every model. A reply that did not end is scored as if it had.",
                "Reward and plain win rates come from the reward model that alignment optimised: they show that it "
                "worked, not that people would agree.",
                "KL to SFT: the log-probability of the reply under the model minus that under the SFT model, in nats, "
                "on the model's own replies. Distinct-2: distinct bigrams of tokens over all bigrams, in "
                f"{DISTINCT_2_TOKENS} tokens of replies at a time, since the share falls with their number; interval "
                "over these segments.",
                f"Intervals: 95\u00a0%, percentile bootstrap with {params.bootstrap_samples} resamples of "
                "conversations, since prompts of one conversation are not independent. They do not cover the chance "
                "of training with other seeds.",
            ],
        )


def _win(metrics: Mapping[str, Any]) -> str:
    name = "win_rate_vs_sft"
    said = verdict(metrics, name, 0.5, "beats", "loses to", "cannot be told apart from")
    low, high = (percent(metrics[f"{name}{end}"]) for end in ("_ci_low", "_ci_high"))
    return (
        f"Under the reward model the aligned model {said} the SFT model: its reply is preferred in "
        f"{percent(metrics[name])} of {metrics['num_prompts']} held-out prompts (95\u00a0% CI {low} to {high}; ties "
        "count half)."
    )


def _reward(sft: Mapping[str, float], aligned: Mapping[str, float]) -> str:
    before, after = number(sft["reward"]), number(aligned["reward"])
    moved = "stayed at" if before == after else f"went from {before} to"
    return (
        f"With alignment the mean reward {moved} {after}, at a distance of {number(aligned['kl_to_sft'])} nats per "
        "reply from the SFT model."
    )


def _style(metrics: Mapping[str, Any]) -> str:
    sft, aligned = metrics["sft"], metrics["aligned"]
    diversity = "distinct_2_change"
    change = f"; change {percent_with_interval(metrics, diversity)}" if diversity in metrics else ""
    return (
        f"A reply has {aligned['reply_length']:.1f} tokens on average (SFT {sft['reply_length']:.1f}; change "
        f"{percent_with_interval(metrics, 'reply_length_change')}), {percent(aligned['end_of_turn_rate'])} of them "
        f"end by themselves (SFT {percent(sft['end_of_turn_rate'])}), and {percent(aligned['distinct_2'])} of the "
        f"bigrams in {DISTINCT_2_TOKENS} tokens are distinct (SFT {percent(sft['distinct_2'])}{change})."
    )
