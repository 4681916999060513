"""Chats for SFT: dialogues as user and assistant turns, and encyclopedia questions with answers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Article, Conversation, Record, is_dialogue, read_records, to_messages
from groundup.prepare.outputs.encyclopedia import questions
from groundup.prepare.outputs.rows import Records, Sizes, write_splits
from groundup.runner.params.prepare import ChatParams, PrepareParams


def write(params: PrepareParams, records: Records, target: Path) -> Sizes:
    return write_splits(target, records, lambda path: chats(read_records(path), params.chats, params.seed))


def chats(records: Iterable[Record], params: ChatParams, seed: int) -> Iterator[Row]:
    """{id, source, messages}; every chat ends on the assistant, so a last user turn is left out."""
    for record in records:
        if isinstance(record, Conversation) and is_dialogue(record):
            num_turns = len(record.turns) // 2 * 2
            if num_turns >= params.min_turns:
                yield {"id": record.id, "source": record.source, "messages": to_messages(record, num_turns)}
        elif isinstance(record, Article):
            for question in questions(record, params.encyclopedia_questions, seed, params.max_answer_characters):
                yield {
                    "id": f"{record.id}#{question.kind}",
                    "source": record.source,
                    "messages": question.messages(),
                }
