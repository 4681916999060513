"""What a reward model says of pairs and chats, and how good that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.records import Message
from groundup.core.judging.statistics import cluster_bootstrap, wins
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.runtime import draw
from groundup.reward.pairs import PREFERENCE, PREFIX, RELEVANCE, SAMPLED, Pair
from groundup.reward.report.figures import PairTable
from groundup.reward.report.out_of_distribution import KINDS, unlike
from groundup.reward.report.uncertainty import (
    Floats,
    PairErrors,
    Resampling,
    Scored,
    ood_figures,
    pair_figures,
    section,
)
from groundup.runner.params.training import RewardParams

Chat = tuple[list[Message], str]  # and the conversation it comes from


@dataclass(frozen=True)
class ScoredPairs:
    """Of two columns the first is the chosen side's."""

    pairs: list[Pair]
    means: Floats  # [N, 2]
    stds: Floats  # [N, 2]

    @classmethod
    def score(cls, scorer: RewardScorer, pairs: Sequence[Pair]) -> "ScoredPairs":
        sequences = sorted({tuple(side) for pair in pairs for side in (pair.chosen, pair.rejected)})
        index = {sequence: i for i, sequence in enumerate(sequences)}  # a chat is in many pairs: score it once
        places = np.array([[index[tuple(pair.chosen)], index[tuple(pair.rejected)]] for pair in pairs])
        mean, std = scorer.score(sequences)
        return cls(list(pairs), mean.double().numpy()[places], std.double().numpy()[places])

    def of_group(self, group: str) -> "ScoredPairs":
        rows = [i for i, pair in enumerate(self.pairs) if pair.group == group]
        return ScoredPairs([self.pairs[i] for i in rows], self.means[rows], self.stds[rows])

    @property
    def right(self) -> Floats:
        """For each pair 1 if the chosen side scores higher, 0 if lower, a half for a tie."""
        return wins(self.means[:, 0], self.means[:, 1])

    @property
    def conversations(self) -> list[tuple[str, str]]:
        return [pair.conversations for pair in self.pairs]

    @property
    def table(self) -> PairTable:
        lengths = np.array([(len(pair.chosen), len(pair.rejected)) for pair in self.pairs], dtype=np.float64)
        return PairTable.from_rows([pair.row for pair in self.pairs], lengths, self.means)


def accuracies(model: PreTrainedModel, split: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """Share of pairs of each group that are in order; TRL's own figure is the mean of batch means."""
    scored = ScoredPairs.score(RewardScorer(model), pairs)
    groups = {prefix: scored.of_group(group).right for group, prefix in PREFIX.items()}
    return {f"{split}_{prefix}accuracy": float(right.mean()) for prefix, right in groups.items() if len(right)}


def judged(scored: Mapping[str, ScoredPairs]) -> dict[str, ScoredPairs]:
    """The pairs of what people prefer; all pairs, if a split has none of these."""
    preference = {split: here.of_group(PREFERENCE) for split, here in scored.items()}
    return preference if all(here.pairs for here in preference.values()) else dict(scored)


REJECTED = {RELEVANCE: "one from elsewhere", SAMPLED: "what the SFT model says there"}


def reply_figures(scored: Mapping[str, ScoredPairs], params: RewardParams) -> dict[str, Any]:
    """Accuracy on pairs of replies, by group and split, on test with its interval over conversations."""
    figures: dict[str, Any] = {}
    for group in REJECTED:
        for split, name in (("train", "train"), ("val", "val"), ("test", "heldout")):
            here = scored[split].of_group(group)
            figures[f"num_{group}_pairs_{split}"] = len(here.pairs)
            if here.pairs:
                figures[f"{name}_{group}_accuracy"] = float(here.right.mean())
            if here.pairs and split == "test":
                low, high = cluster_bootstrap(here.right, here.conversations, params.bootstrap_samples, params.seed)
                figures |= {
                    f"heldout_{group}_accuracy_ci_low": None if math.isnan(low) else low,
                    f"heldout_{group}_accuracy_ci_high": None if math.isnan(high) else high,
                }
    return figures


def reply_section(figures: Mapping[str, Any]) -> str:
    """Markdown of the report."""
    told = "\n\n".join(_told(figures, group, rejected) for group, rejected in REJECTED.items())
    return f"## Which reply a person gave\n\n{told}\n"


def _told(figures: Mapping[str, Any], group: str, rejected: str) -> str:
    if f"heldout_{group}_accuracy" not in figures:
        return f"There are no {group} pairs in test."
    low, high = (figures[f"heldout_{group}_accuracy_ci_{end}"] for end in ("low", "high"))
    interval = "" if low is None or high is None else f" (interval {low:.3f} to {high:.3f})"
    return (
        f"Of {figures[f'num_{group}_pairs_test']} test pairs of the true next reply against {rejected} the true one "
        f"scores higher in {figures[f'heldout_{group}_accuracy']:.3f}{interval}. "
        f"{figures[f'num_{group}_pairs_train']} such pairs were trained on."
    )


def measure_uncertainty(
    scorer: RewardScorer, scored: ScoredPairs, tokenizer: PreTrainedTokenizerFast, params: RewardParams
) -> tuple[dict[str, float | None], str]:
    """Figures, and the report's section; scored: of the test pairs that are judged."""
    errors = PairErrors.of(scored.means, scored.stds)
    inside, outside = score_unlike(scorer, scored.pairs, tokenizer, params)
    resampling = Resampling(params.bootstrap_samples, params.seed)
    figures = pair_figures(errors, scored.conversations, resampling) | ood_figures(inside, outside, resampling)
    text = section(figures, errors.at_coverages(), inside, outside)
    return {name: None if math.isnan(value) else value for name, value in figures.items()}, text


def score_unlike(
    scorer: RewardScorer, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast, params: RewardParams
) -> tuple[Scored, dict[str, Scored]]:
    """Some chats of the pairs, and what becomes of them out of distribution, by kind; chats over the limit are out."""
    sides: dict[tuple[int, ...], Chat] = {}  # each chat once
    for pair in pairs:
        sides[tuple(pair.chosen)] = pair.row["chosen"], pair.row["chosen_id"]
        sides[tuple(pair.rejected)] = pair.row["rejected"], pair.row["rejected_id"]
    chats = draw(list(sides.values()), params.variational.num_ood_chats, params.seed)

    def score(changed: Sequence[list[Message] | None]) -> Scored:
        rendered = [
            (render(tokenizer, messages, reply_next=False), [conversation])
            for messages, (_, conversation) in zip(changed, chats, strict=True)
            if messages is not None
        ]
        fitting = [row for row in rendered if len(row[0]) <= params.max_length]
        mean, std = scorer.score([ids for ids, _ in fitting])
        return Scored(mean.double().numpy(), std.double().numpy(), [conversation for _, conversation in fitting])

    originals = [messages for messages, _ in chats]
    changed = {kind: score(unlike(originals, kind, params.seed)) for kind in KINDS}
    return score(originals), {kind: scored for kind, scored in changed.items() if len(scored.std)}
