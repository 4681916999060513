"""Chats as training examples: split between turns, tokenized with a mask of the assistant's tokens, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render, render_trained
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Message


@dataclass(frozen=True)
class ChatExample:
    input_ids: list[int]
    assistant_masks: list[int]  # 1 on the trained tokens: the reply and its end-of-turn token
    is_prefix_preserving: bool  # whether the prompt of every reply is a prefix of the chat


@dataclass
class ChatExamples:
    examples: list[ChatExample] = field(default_factory=list)
    num_split: int = 0  # chats that were split between turns
    num_dropped_exchanges: int = 0  # exchanges that exceed the limit on their own


def tokenize_chats(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row], max_length: int) -> ChatExamples:
    """Every chat as one or more examples of at most max_length tokens; no turn is cut."""
    result = ChatExamples()
    for row in rows:
        chat = _without_open_end(row["messages"])
        examples, dropped = [tokenize_chat(tokenizer, chat)] if chat else [], 0
        if any(len(example.input_ids) > max_length for example in examples):
            pieces, dropped = split_chat(tokenizer, chat, max_length)
            examples = [tokenize_chat(tokenizer, piece) for piece in pieces]
        result.examples += examples
        result.num_split += len(examples) > 1
        result.num_dropped_exchanges += dropped
    return result


def tokenize_chat(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> ChatExample:
    return ChatExample(*render_trained(tokenizer, messages))


def _without_open_end(messages: Sequence[Message]) -> list[Message]:
    """Without turns behind the last reply; empty if there is no reply."""
    chat = list(messages)
    while chat and chat[-1]["role"] != "assistant":
        chat.pop()
    return chat


def split_chat(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], max_length: int
) -> tuple[list[list[Message]], int]:
    """(pieces that fit, number of exchanges that do not). A piece keeps the system message and starts with a user."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    pieces: list[list[Message]] = []
    piece: list[Message] = []
    dropped = 0

    def fits(turns: Sequence[Message]) -> bool:
        return len(render(tokenizer, [*system, *turns], reply_next=False)) <= max_length

    for exchange in _exchanges(messages[len(system) :]):
        if piece and not fits([*piece, *exchange]):
            pieces.append(system + piece)
            piece = []
        if piece or fits(exchange):
            piece = [*piece, *exchange]
        else:
            dropped += 1
    if piece:
        pieces.append(system + piece)
    return pieces, dropped


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    """Runs of messages that end on an assistant turn; a last user turn without a reply is left out."""
    exchanges: list[list[Message]] = []
    current: list[Message] = []
    for message in messages:
        current.append(message)
        if message["role"] == "assistant":
            exchanges.append(current)
            current = []
    return exchanges


def check_chats(tokenizer: PreTrainedTokenizerFast, examples: ChatExamples) -> None:
    """ValueError names every way in which the template or the data would train something other than replies."""
    problems = []
    if not examples.examples:
        problems.append("no chat is left to train on: add chats or raise sft.max_length")
    if untrained := sum(1 not in example.assistant_masks for example in examples.examples):
        problems.append(f"{untrained} examples have no trained token: every chat needs an assistant turn")
    if unended := sum(not ends_are_trained(example, tokenizer.eos_token_id) for example in examples.examples):
        problems.append(
            f"in {unended} examples the end-of-turn token of a reply is not trained, so the model would not learn to "
            "stop: put it inside the template's generation block"
        )
    if broken := sum(not example.is_prefix_preserving for example in examples.examples):
        problems.append(
            f"in {broken} examples the rendered prompt is not a prefix of the rendered chat, so training and "
            "generation would see different tokens: make the template render turn by turn"
        )
    if problems:
        raise ValueError("sft cannot train on these chats:\n" + "\n".join(f"  {problem}" for problem in problems))


def ends_are_trained(example: ChatExample, end_id: int) -> bool:
    """Whether every run of trained tokens ends with the end-of-turn token."""
    following = [*example.assistant_masks[1:], 0]
    return all(
        token == end_id
        for token, trained, next_trained in zip(example.input_ids, example.assistant_masks, following, strict=True)
        if trained and not next_trained
    )
