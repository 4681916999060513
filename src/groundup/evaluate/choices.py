"""Multiple-choice items and the chats that they are about."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from groundup.core.decoding.history import fit_prompt
from groundup.core.formats.chat_format import render
from groundup.core.formats.records import said
from groundup.core.model.branches import Branches


def check_items(items: Sequence[Mapping[str, Any]], name: str) -> None:
    """ValueError lists every item that cannot be scored."""
    problems = [f"item {i}: {problem}" for i, item in enumerate(items) for problem in _problems(item)]
    if problems:
        shown = problems[:10] + [f"and {len(problems) - 10} more"] * (len(problems) > 10)
        listed = "\n  ".join(shown)
        raise ValueError(
            f"evaluation task {name} cannot be scored:\n  {listed}\n`dvc repro -f prepare` writes its items again"
        )


def _problems(item: Mapping[str, Any]) -> list[str]:
    missing = [key for key in ("query", "choices", "gold", "group_id") if key not in item]
    if missing:
        return [f"{', '.join(missing)} missing"]
    query, choices = item["query"], item["choices"]
    if not (
        isinstance(query, list)
        and all(isinstance(message, Mapping) and "role" in message for message in query)
        and isinstance(choices, list)
        and all(isinstance(choice, str) for choice in choices)
        and isinstance(item["gold"], int)
    ):
        return ["query must be a list of messages, choices a list of texts, gold a whole number"]
    return [
        problem
        for holds, problem in (
            (query and query[-1]["role"] == "user", "query must end on a user message"),
            (len(choices) >= 2, f"needs at least 2 choices, has {len(choices)}"),
            (len(set(choices)) == len(choices), "two choices are the same"),
            (0 <= item["gold"] < len(choices), f"gold {item['gold']} is not one of the {len(choices)} choices"),
        )
        if not holds
    ]


def item_texts(item: Mapping[str, Any]) -> list[str]:
    """The texts of an item: the query with its true reply, then every other choice."""
    right = item["choices"][item["gold"]]
    return [
        said([*item["query"], {"role": "assistant", "content": right}]),
        *(c for c in item["choices"] if c != right),
    ]


def choice_branches(
    tokenizer: PreTrainedTokenizerFast,
    query: Sequence[Mapping[str, str]],
    choices: Sequence[str],
    context_length: int,
) -> Branches:
    """The choices as the assistant's turn after the query; a long query loses its oldest turns first.

    A choice longer than half the context is cut, because some of the query must precede every choice.
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
