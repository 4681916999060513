"""log p(reply | conversation) - log p(reply), and the same less its mean over other conversations.

Conversations are read as the base model's text is: a line per turn.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import encode_text
from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Chat
from groundup.core.judging.others import Others, draw_others, kind_of, mean_elsewhere
from groundup.core.judging.pairs import reply_pairs
from groundup.core.judging.statistics import Floats
from groundup.core.judging.words import WORD, common_words, lower_words, own_words
from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.evaluate.controls import with_replies
from groundup.evaluate.ngram import NgramModel
from groundup.runner.params.judge import JudgeParams

MAX_TOKENS = 128  # of conversation and reply; the end of a longer conversation is read
NGRAM_ORDER = 5
CACHE_WEIGHT = 0.1  # of the words said before, in the n-gram model's mixture
BATCH_SIZE = 32
NUM_OTHERS = 4
NOTHING = -1e6  # a reply of copied words alone scores lower than any other

Tokens = list[int]
# Log-probability of each token of the replies, given the tokens before: [N] arrays.
TokenLogProbs = Callable[[Sequence[Tokens], Sequence[Tokens]], list[Floats]]


@dataclass(frozen=True)
class CopiedWords:
    """What the built-in judge leaves out: words in copied runs, and words said before that are not common."""

    common: frozenset[str]
    run: int

    @classmethod
    def of(cls, rows: Sequence[Row], params: JudgeParams) -> "CopiedWords":
        turns = {message["content"] for row in rows for message in row["messages"]}
        return cls(common_words(turns, params.common_words), params.copied_words)

    def __call__(self, chat: Chat) -> set[str]:
        said = [lower_words(message["content"]) for message in chat[:-1]]
        words = set(lower_words(chat[-1]["content"]))
        repeated = words & {word for turn in said for word in turn} - self.common
        return words - (set(own_words(chat[-1]["content"], said, self.run)) - repeated)

    def lacks(self, tokenizer: PreTrainedTokenizerFast, chat: Chat) -> NDArray[np.bool_]:
        """For each token of the reply's line, whether it is of no copied word."""
        text, copied = chat[-1]["content"], self(chat)
        is_copied = np.zeros(len(text) + 1, dtype=np.bool_)
        for found in WORD.finditer(text):
            is_copied[found.start() : found.end()] = found.group().lower() in copied
        encoded = tokenizer(
            f"{text}\n", add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return np.array([not is_copied[start:end].any() for start, end in encoded["offset_mapping"]])


@dataclass(frozen=True)
class LikelihoodRatio:
    """The score: log p(reply | conversation) less log p(reply), or less its mean over other conversations."""

    log_probs: TokenLogProbs
    tokenizer: PreTrainedTokenizerFast
    copied: CopiedWords | None = None  # whose tokens do not count; None: all tokens count
    others: Others | None = None
    means: dict[tuple[int, str], Floats] = field(default_factory=dict)  # of others, by kind and reply, as they are met

    def score(self, chats: Sequence[Chat]) -> Floats:
        found = zip(self._log_probs(chats), self._elsewhere(chats), map(self._counted, chats), strict=True)
        # The last token is the end of the line.
        return np.array([(a - b)[kept].sum() if kept[:-1].any() else NOTHING for a, b, kept in found])

    def _log_probs(self, chats: Sequence[Chat]) -> list[Floats]:
        replies = [self._reply(chat) for chat in chats]
        before = [
            [self.tokenizer.bos_token_id, *lines(self.tokenizer, chat[:-1], MAX_TOKENS - 1 - len(reply))]
            for chat, reply in zip(chats, replies, strict=True)
        ]
        return self.log_probs(before, replies)

    def _elsewhere(self, chats: Sequence[Chat]) -> list[Floats]:
        if self.others is None:
            return self._log_probs([chat[-1:] for chat in chats])
        keys = [(kind_of(chat[:-1]), chat[-1]["content"]) for chat in chats]
        met = [key for key in dict.fromkeys(keys) if key not in self.means]
        moved = [with_replies(self.others[kind], [reply] * NUM_OTHERS) for kind, reply in met]
        log_probs = self._log_probs(list(chain.from_iterable(moved)))
        for place, (key, there) in enumerate(zip(met, moved, strict=True)):
            values = np.array(log_probs[place * NUM_OTHERS : (place + 1) * NUM_OTHERS])  # [NUM_OTHERS, tokens]
            self.means[key] = mean_elsewhere(values, np.array(list(map(self._counted, there))))
        return [self.means[key] for key in keys]

    def _reply(self, chat: Chat) -> Tokens:
        return line(self.tokenizer, chat[-1]["content"])[: MAX_TOKENS // 2]

    def _counted(self, chat: Chat) -> NDArray[np.bool_]:
        """For each token of the reply."""
        if self.copied is None:
            return np.ones(len(self._reply(chat)), dtype=np.bool_)
        return self.copied.lacks(self.tokenizer, chat)[: MAX_TOKENS // 2]


def others_of(rows: Sequence[Row], params: JudgeParams) -> Others:
    return draw_others([pair.given[:-1] for pair in reply_pairs(rows, params)], NUM_OTHERS, params.seed)


def line(tokenizer: PreTrainedTokenizerFast, text: str) -> Tokens:
    return encode_text(tokenizer, f"{text}\n")


def lines(tokenizer: PreTrainedTokenizerFast, messages: Chat, max_tokens: int) -> Tokens:
    """The last max_tokens tokens."""
    tokens: Tokens = []
    for message in reversed(messages):
        tokens = line(tokenizer, message["content"]) + tokens
        if len(tokens) >= max_tokens:
            break
    return tokens[max(0, len(tokens) - max_tokens) :]


@dataclass(frozen=True)
class CachedNgrams:
    """Counts of n-grams in the conversations fitted on, mixed with the words said so far (Kuhn and De Mori 1990)."""

    ngrams: NgramModel

    @classmethod
    def of(cls, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> "CachedNgrams":
        ids = [
            token
            for row in rows
            for token in (tokenizer.bos_token_id, *lines(tokenizer, row["messages"], max_tokens=10**9))
        ]
        return cls(NgramModel(np.array(ids, dtype=np.uint64), NGRAM_ORDER, len(tokenizer)))

    def __call__(self, before: Sequence[Tokens], replies: Sequence[Tokens]) -> list[Floats]:
        found = []
        for said, reply in zip(before, replies, strict=True):
            log_probs = self.ngrams.log_probs([*said[-NGRAM_ORDER:], *reply])[-len(reply) :]
            cache = Counter(said[1:])  # without bos
            if cache:
                shares = np.array([cache[token] for token in reply]) / cache.total()
                log_probs = np.log(CACHE_WEIGHT * shares + (1 - CACHE_WEIGHT) * np.exp(log_probs))
            found.append(log_probs)
        return found


@dataclass(frozen=True)
class ModelLogProbs:
    """Of a causal language model."""

    model: LlamaForCausalLM

    @torch.no_grad()
    def __call__(self, before: Sequence[Tokens], replies: Sequence[Tokens]) -> list[Floats]:
        found: list[Floats] = [np.empty(0)] * len(replies)
        order = sorted(range(len(replies)), key=lambda i: len(before[i]) + len(replies[i]))
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            lengths = [len(before[i]) + len(replies[i]) - 1 for i in rows]
            ids = torch.tensor([token for i in rows for token in [*before[i], *replies[i]][:-1]])
            attention = PackedAttention(lengths, ids.device)
            ends = (attention.ends + 1).tolist()
            wanted = torch.cat([torch.arange(end - len(replies[i]), end) for i, end in zip(rows, ends, strict=True)])
            logits = self.model.lm_head(hidden_states(self.model.model, ids, attention, wanted))
            targets = torch.tensor([token for i in rows for token in replies[i]])
            log_probs = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
            for i, part in zip(rows, log_probs.split([len(replies[i]) for i in rows]), strict=True):
                found[i] = part.double().numpy()
        return found
