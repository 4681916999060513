"""What a judge's model reads: the tokens of a conversation, and those of a reply with their places in its text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_template import apply
from groundup.core.formats.control_tokens import break_up
from groundup.core.formats.records import Message

NAMES = {"user": "A: ", "assistant": "B: "}  # an opening stands without a name
# The shortest conversation: a reply has room in what it leaves of the context.
SILENCE: list[Message] = [{"role": "user", "content": ""}]


@dataclass(frozen=True)
class ReplyTokens:
    text: str
    ids: list[int]
    spans: list[tuple[int, int]]  # of each token, in the characters of the reply


@dataclass(frozen=True)
class Reader:
    """By the model's chat template or, without one, as plain text: a line a turn, A and B in turn."""

    tokenizer: PreTrainedTokenizerFast
    context_length: int
    # Met before: the same replies go to many conversations.
    rendered: dict[tuple[tuple[str, str], ...], list[int]] = field(default_factory=dict)
    replies: dict[str, ReplyTokens] = field(default_factory=dict)

    def reply(self, text: str) -> ReplyTokens:
        """The same tokens behind every conversation; those that no context has room for are left out."""
        if text not in self.replies:
            inert = break_up(self.tokenizer, text)
            shift = 0 if self.tokenizer.chat_template else 1  # a space before it
            encoded = self.tokenizer(
                " " * shift + inert, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
            )
            room = max(0, self.context_length - len(self._render(SILENCE)))
            spans = [(max(0, start - shift), end - shift) for start, end in encoded["offset_mapping"]]
            self.replies[text] = ReplyTokens(inert, list(encoded["input_ids"])[:room], spans[:room])
        return self.replies[text]

    def conversation(self, messages: Sequence[Message], reply: ReplyTokens) -> list[int]:
        """The latest turns that leave room for the reply, with the opening as long as a turn fits.

        Two turns are dropped at a time, so that what is left starts on a user's. Of a last message that is too long
        alone, the end is kept.
        """
        room = self.context_length - len(reply.ids)
        num_openings = 1 if messages[0]["role"] == "system" else 0
        opening, turns = messages[:num_openings], messages[num_openings:]
        for start in range(0, len(turns), 2):
            if len(ids := self._render([*opening, *turns[start:]])) <= room:
                return ids
        return self._render(turns[-1:])[-room:]

    def _render(self, messages: Sequence[Message]) -> list[int]:
        key = tuple((message["role"], message["content"]) for message in messages)
        if key not in self.rendered:
            self.rendered[key] = self._encode(messages)
        return self.rendered[key]

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        tokenizer = self.tokenizer
        messages = [{"role": m["role"], "content": break_up(tokenizer, m["content"])} for m in messages]
        if tokenizer.chat_template is not None:
            text = apply(tokenizer, messages, reply_next=True)
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])
        lines = [NAMES.get(message["role"], "") + message["content"] + "\n" for message in messages]
        text = "".join(lines) + NAMES["assistant"].rstrip()
        first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return first + list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
