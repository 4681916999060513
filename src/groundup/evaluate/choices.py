"""Multiple choice: the model's choice is the reply it finds most likely per token."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.assistant.history import fit_prompt
from groundup.evaluate.branches import Branches, branch_nats
from groundup.model.chat_format import render


class ChoiceResult(TypedDict):
    correct: list[float]  # 1 or 0 an item
    groups: list[str]  # what is resampled for an interval
    chance: float  # accuracy of a guess


def check_items(items: Sequence[Mapping[str, Any]], name: str) -> None:
    """ValueError that lists every item which cannot be scored."""
    problems = [f"item {i}: {problem}" for i, item in enumerate(items) for problem in _problems(item)]
    if not items:
        problems = ["no items"]
    if problems:
        shown = problems[:10] + [f"and {len(problems) - 10} more"] * (len(problems) > 10)
        raise ValueError(f"evaluation task {name} cannot be scored:\n  " + "\n  ".join(shown) + "\nCorrect its file.")


def _problems(item: Mapping[str, Any]) -> list[str]:
    missing = [key for key in ("query", "choices", "gold", "group_id") if key not in item]
    if missing:
        return [f"{', '.join(missing)} missing"]
    choices = item["choices"]
    return [
        problem
        for holds, problem in (
            (item["query"] and item["query"][-1]["role"] == "user", "query must end on a user message"),
            (len(choices) >= 2, f"needs at least 2 choices, has {len(choices)}"),
            (len(set(choices)) == len(choices), "two choices are the same"),
            (0 <= item["gold"] < len(choices), f"gold {item['gold']} is not one of the {len(choices)} choices"),
        )
        if not holds
    ]


def score_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Mapping[str, Any]],
    context_length: int,
    batch_size: int,
) -> ChoiceResult:
    """Picks, for each item, the choice with the least nats per token (end-of-turn included) as the next reply."""
    branches = [choice_branches(tokenizer, item["query"], item["choices"], context_length) for item in items]
    correct = []
    for item, branch, nats in zip(items, branches, branch_nats(model, branches, batch_size), strict=True):
        per_token = [value / len(reply) for value, reply in zip(nats, branch.replies, strict=True)]
        correct.append(float(per_token.index(min(per_token)) == item["gold"]))
    return ChoiceResult(
        correct=correct,
        groups=[item["group_id"] for item in items],
        chance=sum(1 / len(item["choices"]) for item in items) / len(items),
    )


def choice_branches(
    tokenizer: PreTrainedTokenizerFast,
    query: Sequence[Mapping[str, str]],
    choices: Sequence[str],
    context_length: int,
) -> Branches:
    """The choices as the assistant's turn after the query; a long query loses its oldest turns first.

    A choice longer than half the context is cut, for all choices need some of the query before them.
    """
    messages = [dict(message) for message in query]
    start = len(render(tokenizer, messages, reply_next=True))
    replies = [
        render(tokenizer, [*messages, {"role": "assistant", "content": choice}], reply_next=False)[start:]
        for choice in choices
    ]
    replies = [reply[: context_length // 2] for reply in replies]
    prompt = fit_prompt(tokenizer, messages, context_length + 1 - max(map(len, replies))).ids
    return Branches(prompt, replies)
