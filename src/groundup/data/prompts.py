"""Prompts for alignment: beginnings of dialogues, up to a turn of the user."""

from collections.abc import Iterable, Iterator

from groundup.data.jsonl import Row
from groundup.data.records import Conversation, Prompt, Record, is_dialogue, to_messages
from groundup.frame.params.prepare import PromptParams


def prompts(records: Iterable[Record], params: PromptParams) -> Iterator[Row]:
    """{id, conversation_id, source, messages}; odd numbers of turns end on the user."""
    for record in records:
        if isinstance(record, Prompt):
            yield prompt_row(record.id, record.id, record.source, record.messages)
        elif isinstance(record, Conversation) and is_dialogue(record):
            lengths = [turns for turns in params.turns if turns <= len(record.turns)]
            for turns in lengths[: params.max_per_conversation]:
                yield prompt_row(f"{record.id}#{turns}", record.id, record.source, to_messages(record, turns))


def prompt_row(name: str, conversation: str, source: str, messages: list[dict[str, str]]) -> Row:
    return {"id": name, "conversation_id": conversation, "source": source, "messages": messages}
