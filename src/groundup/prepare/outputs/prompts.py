"""Prompts for alignment: the first turns of dialogues, ending on the user."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Prompt, Record, is_dialogue, read_records, to_messages
from groundup.prepare.outputs.rows import Records, Sizes, write_splits
from groundup.runner.params.prepare import PrepareParams, PromptParams


def write(params: PrepareParams, records: Records, target: Path) -> Sizes:
    return write_splits(target, records, lambda path: prompts(read_records(path), params.prompts))


def prompts(records: Iterable[Record], params: PromptParams) -> Iterator[Row]:
    """{id, conversation_id, source, messages, reply}; an odd number of turns ends on the user.

    reply: the person's reply, or None; replies of models are compared with it.
    """
    for record in records:
        if isinstance(record, Prompt):
            yield prompt_row(record.id, record.id, record.source, record.messages, None)
        elif isinstance(record, Conversation) and is_dialogue(record):
            lengths = [turns for turns in params.turns if turns <= len(record.turns)]
            for turns in lengths[: params.max_per_conversation]:
                reply = record.turns[turns][1] if turns < len(record.turns) else None
                yield prompt_row(f"{record.id}#{turns}", record.id, record.source, to_messages(record, turns), reply)


def prompt_row(name: str, conversation: str, source: str, messages: list[dict[str, str]], reply: str | None) -> Row:
    return {"id": name, "conversation_id": conversation, "source": source, "messages": messages, "reply": reply}
