"""One reply by any decoding method."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.beam import beam_search
from groundup.core.decoding.sampling import stream
from groundup.core.decoding.search import Search, best_of_n, tree_of_thoughts
from groundup.core.decoding.settings import Decoding
from groundup.core.formats.records import Message
from groundup.core.model.generation import ended_chats, next_token_logprobs
from groundup.core.model.likelihood import Stretch, batch_nats


@dataclass(frozen=True)
class Reply:
    text: str
    token_ids: list[int]  # with the end-of-turn token if the reply ended
    finish_reason: Literal["stop", "length"]
    log_prob: float  # nats, over all tokens at temperature 1, whatever the decoding method
    reward: float | None  # mean score of the reward model, if there is one
    num_generated: int  # tokens of all replies tried


def reply(assistant: Assistant, messages: Sequence[Message], decoding: Decoding) -> Reply:
    """The reply to the last message; if the conversation is too long, its oldest part is left out."""
    return reply_to_prompt(assistant, assistant.fit(messages, decoding.max_new_tokens).ids, decoding)


def reply_to_prompt(assistant: Assistant, prompt: Sequence[int], decoding: Decoding) -> Reply:
    tokens, num_generated = _find(assistant, prompt, decoding)
    eos = assistant.tokenizer.eos_token_id
    ended = tokens[-1] == eos
    distribution = partial(next_token_logprobs, assistant.model, temperature=1.0)
    nats = batch_nats(assistant.model, [Stretch([*prompt, *tokens], len(tokens))], distribution)[0]
    reward = None
    if assistant.scorer is not None:
        reward = float(assistant.scorer.score(ended_chats([prompt], [tokens], [ended], eos))[0][0])
    return Reply(
        text=assistant.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        token_ids=tokens,
        finish_reason="stop" if ended else "length",
        log_prob=-nats,
        reward=reward,
        num_generated=num_generated,
    )


def _find(assistant: Assistant, prompt: Sequence[int], decoding: Decoding) -> tuple[list[int], int]:
    """The tokens of the reply, and the number of tokens generated for it."""
    match decoding.method:
        case "greedy" | "sample":
            tokens = list(stream(assistant, prompt, decoding))
            return tokens, len(tokens)
        case "beam":
            return beam_search(assistant, prompt, decoding)
        case "best_of_n" | "tree":
            if assistant.scorer is None:
                raise ValueError(f"{decoding.method} needs a reward model, and none is loaded")
            search = Search(assistant, assistant.scorer, prompt, decoding)
            tokens = best_of_n(search) if decoding.method == "best_of_n" else tree_of_thoughts(search)
            return tokens, search.spent
