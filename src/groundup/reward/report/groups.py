"""Each group of pairs beside what may explain it: chance, the longer side, words of the reply alone, moved prompts.

A model that reads the conversation falls to chance when the prompts of people's replies are moved; a model that does
not stays as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.judging.gates import NUM_ITEMS
from groundup.core.judging.statistics import wins
from groundup.reward.pairs import MOVED_TO, PREFIX, RELEVANCE, REPEAT, SAME_OPENING, SAMPLED, Pair
from groundup.reward.report.bag_of_words import BagOfWords
from groundup.reward.report.figures import interval_of_mean
from groundup.reward.report.scores import ScoredPairs
from groundup.runner.params.training import RewardParams

MEASURED = {"val": "val", "test": "heldout"}  # split -> prefix of its figures
# Group of pairs whose sides reply to one prompt -> what it tests, and what the person's reply is up against.
TITLES = {
    RELEVANCE: ("which reply belongs there", "a person's from another conversation"),
    SAME_OPENING: ("which reply belongs there", "a person's from a conversation with the same opening"),
    SAMPLED: ("which reply a person wrote", "the SFT model's"),
    REPEAT: ("which reply is no repeat", "an earlier turn of the conversation"),
}


def moved_prompts(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast, max_length: int, seed: int) -> list[Pair]:
    """The pairs of each group that share a prompt, each after the prompt of a pair of another conversation.

    Those that become longer than max_length, and those of a group with one conversation, are left out.
    """
    moved = []
    for group in TITLES:
        here = [pair for pair in pairs if pair.group == group]
        rng = np.random.default_rng(seed)
        for pair in here:
            others = [other for other in here if other.row["chosen_id"] not in pair.conversations]
            if others:
                there = others[rng.integers(len(others))].row
                sides = {side: [*there["chosen"][:-1], pair.row[side][-1]] for side in ("chosen", "rejected")}
                rendered = [render(tokenizer, messages, reply_next=False) for messages in sides.values()]
                if max(map(len, rendered)) <= max_length:
                    row = pair.row | sides | {MOVED_TO: there["chosen_id"]}
                    moved.append(replace(pair, chosen=rendered[0], rejected=rendered[1], row=row))
    return moved


def group_figures(
    scored: Mapping[str, ScoredPairs], moved: Mapping[str, ScoredPairs], params: RewardParams
) -> dict[str, Any]:
    """scored: train, val and test; moved: val and test with moved prompts. Names: docs/metrics.md."""
    figures: dict[str, Any] = {}
    for group in TITLES:
        prefix = PREFIX[group]
        by_split = {split: here.of_group(group) for split, here in scored.items()}
        if trained := by_split["train"].pairs:
            figures[f"train_{prefix}accuracy"] = float(by_split["train"].right.mean())
            figures[f"train_{prefix}accuracy{NUM_ITEMS}"] = len(trained)
        for split, name in MEASURED.items():
            if by_split[split].pairs:
                figures |= _of_split(f"{name}_{prefix}", by_split, split, moved[split].of_group(group), params)
    return figures


def _of_split(
    name: str, by_split: Mapping[str, ScoredPairs], split: str, moved: ScoredPairs, params: RewardParams
) -> dict[str, Any]:
    here = by_split[split]
    figures: dict[str, Any] = {}

    def add(figure: str, values: np.ndarray, of: ScoredPairs) -> None:
        figures.update(interval_of_mean(f"{name}{figure}", values, of.conversations))
        figures[f"{name}{figure}{NUM_ITEMS}"] = len(values)

    add("accuracy", here.right, here)
    add("length_only_accuracy", wins(*here.lengths.T), here)
    if moved.pairs:
        add("moved_accuracy", moved.right, moved)
    if by_split["train"].pairs and by_split["val"].pairs:
        said = {part: by_split[part].replies for part in ("train", "val")}
        words = BagOfWords.fit(said["train"], said["val"], params.report.bag_of_words_strengths)
        by_words = wins(*words.score_pairs(here.replies).T)
        add("bag_of_words_accuracy", by_words, here)
        add("accuracy_above_bag_of_words", here.right - by_words, here)
    return figures
