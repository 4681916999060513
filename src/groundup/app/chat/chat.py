"""One model's side of a conversation: prompts, streamed words and complete replies."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from groundup.core.decoding import Decoding, reply_to_prompt, stream
from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.settings import STREAMED
from groundup.core.formats.records import Message

MAX_ATTEMPTS = 5


@dataclass
class Conversation:
    """The conversation so far, which all compared models share."""

    topic: str = ""
    turns: list[Message] = field(default_factory=list)

    def messages(self) -> list[Message]:
        topic: list[Message] = [{"role": "system", "content": self.topic}] if self.topic else []
        return [*topic, *self.turns]

    def asked(self, message: str) -> list[Message]:
        return [*self.messages(), {"role": "user", "content": message}]

    def add(self, message: str, reply: str) -> None:
        self.turns += [{"role": "user", "content": message}, {"role": "assistant", "content": reply}]


class Chat:
    """A model and its decoding; the same seed, turn and messages give the same reply."""

    def __init__(self, assistant: Assistant, decoding: Decoding) -> None:
        assistant.check_length(decoding.max_new_tokens)
        self.assistant = assistant
        self.decoding = decoding

    def prompt(self, messages: Sequence[Message]) -> tuple[list[int], bool]:
        """Token ids of the conversation, and whether its oldest part was dropped."""
        fitted = self.assistant.fit(messages, self.decoding.max_new_tokens)
        return fitted.ids, fitted.num_dropped > 0 or fitted.cut

    def reply(self, prompt: Sequence[int], turn: int) -> str:
        """A whole reply, never empty and never cut inside a sentence.

        A small model sometimes ends at once or does not end. Another sample is usually better, so a few are tried; the
        last one is cut after its last whole sentence.
        """
        text = ""
        for attempt in range(MAX_ATTEMPTS):
            drawn = "".join(self.words(prompt, turn, attempt))
            text = drawn or text
            if drawn and self.ended:
                return drawn
        return whole_sentences(text)

    def words(self, prompt: Sequence[int], turn: int, attempt: int) -> Iterator[str]:
        """The reply as words while they are sampled, or in one piece for methods that search.

        Afterwards `ended` is whether the reply ended with end-of-turn.
        """
        # Every attempt of every turn has its own seed, which does not depend on earlier attempts.
        seed = self.decoding.seed + turn * MAX_ATTEMPTS + attempt
        decoding = self.decoding.model_copy(update={"seed": seed})
        self.ended = False
        if self.decoding.method not in STREAMED:
            found = reply_to_prompt(self.assistant, prompt, decoding)
            self.ended = found.finish_reason == "stop"
            if found.text:
                yield found.text
            return
        tokenizer = self.assistant.tokenizer
        tokens: list[int] = []
        shown = 0
        for token in stream(self.assistant, prompt, decoding):
            if token == tokenizer.eos_token_id:
                self.ended = True
                break
            tokens.append(token)
            # A character can span several tokens, so only the text before the last space is final.
            text = tokenizer.decode(tokens).lstrip()
            stable = len(text[: max(0, text.rfind(" "))].rstrip())
            if stable > shown:
                yield text[shown:stable]
                shown = stable
        text = tokenizer.decode(tokens).strip()
        if len(text) > shown:
            yield text[shown:]


def whole_sentences(text: str) -> str:
    """The text up to the end of its last sentence, or all of it with an ellipsis if no sentence ends."""
    found = re.match(r".*[.!?][\"')\]]*(?=\s|$)", text, flags=re.DOTALL)
    return found.group() if found else f"{text} ...".lstrip()
