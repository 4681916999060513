"""A judge by any causal language model: how much likelier its conversation makes a reply than others do, in nats.

The score of a reply is log p(reply | conversation) less the mean of log p(reply | other conversation) over a few fixed
conversations at the same point. log p(reply) alone is not enough in the place of that mean: under it, constant replies
win. A score is a sum over tokens, so a longer reply can score higher: read win rates at equal length. The judge is not
fitted, so it has no resamples either: intervals of its figures are over conversations alone.

A language model finds nothing likelier than a repetition of what was just said. So only the tokens of the reply's own
words count: those copied from the conversation are left out, but for words that everybody uses all the time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.records import Message
from groundup.core.judging.judge import Agreement, Chat
from groundup.core.judging.others import Others, draw_others, kind_of, mean_elsewhere
from groundup.core.judging.pairs import ReplyPair, agreement
from groundup.core.judging.statistics import Floats
from groundup.core.judging.words import WORD, are_own, common_words, lower_words
from groundup.core.model.likelihood import Stretch
from groundup.evaluate.model_judge.logprobs import KeptLogprobs
from groundup.evaluate.model_judge.reading import Reader, ReplyTokens
from groundup.runner.params.judge import JudgeParams


@dataclass(frozen=True)
class Read:
    """A reply in a conversation."""

    stretch: Stretch
    counted: NDArray[np.bool_]  # [T]: whether a token holds a part of a word of the reply's own


@dataclass(frozen=True)
class OwnWordsScorer:
    reader: Reader
    logprobs: KeptLogprobs
    common: frozenset[str]
    copied_words: int

    def score(self, chats: Sequence[Chat], others: Others | None) -> Floats:
        """[N], NaN for a reply without a word of its own. Without others: log p(reply | conversation) alone."""
        scores = np.full(len(chats), np.nan)
        read = {i: self._read(messages, last["content"]) for i, (*messages, last) in enumerate(chats)}
        here = {i: reply for i, reply in read.items() if reply is not None and reply.counted.any()}
        there = {i: self._elsewhere(chats[i], others) for i in here} if others else {}
        asked = [here.values(), chain.from_iterable(there.values())]
        found = iter(self.logprobs.of([reply.stretch for reply in chain(*asked)]))
        gains = dict(zip(here, islice(found, len(here)), strict=True))
        for i, replies in there.items():
            values = np.array(list(islice(found, len(replies))))  # [K, T]
            gains[i] = gains[i] - mean_elsewhere(values, np.array([reply.counted for reply in replies]))
        for i, gain in gains.items():
            scores[i] = gain[here[i].counted].sum()
        return scores

    def _elsewhere(self, chat: Chat, others: Others) -> list[Read]:
        *messages, last = chat
        elsewhere = (self._read(other, last["content"]) for other in others[kind_of(messages)] if other != messages)
        return [reply for reply in elsewhere if reply is not None]

    def _read(self, messages: Chat, text: str) -> Read | None:
        """None for a reply without tokens."""
        reply = self.reader.reply(text)
        if not reply.ids:
            return None
        ids = self.reader.conversation(messages, reply) + reply.ids
        return Read(Stretch(ids, len(reply.ids)), self._counted(reply, messages))

    def _counted(self, reply: ReplyTokens, messages: Chat) -> NDArray[np.bool_]:
        said = [lower_words(message["content"]) for message in messages]
        copied = set(chain(*said)) - self.common
        places = list(WORD.finditer(reply.text))
        words = [place.group().lower() for place in places]
        is_counted = bytearray(len(reply.text))  # by character
        for place, word, is_own in zip(places, words, are_own(words, said, self.copied_words), strict=True):
            if is_own and word not in copied:
                is_counted[slice(*place.span())] = bytes([1]) * len(place.group())
        return np.array([1 in is_counted[start:end] for start, end in reply.spans], dtype=np.bool_)


@dataclass(frozen=True)
class ModelJudge:
    scorer: OwnWordsScorer
    others: Others | None  # None: not centred
    num_others: int
    seed: int  # of the others
    agreement: Agreement
    floor: float  # of a reply without a word of its own; no reply of the pairs scores lower
    plain_floor: float  # the same of uncentred()

    @classmethod
    def of(
        cls, logprobs: KeptLogprobs, pairs: Sequence[ReplyPair], num_others: int, params: JudgeParams
    ) -> "ModelJudge":
        """pairs: for the agreement, the floors, the common words and the others. ValueError if they cannot serve."""
        folder = logprobs.folder
        turns = (message["content"] for pair in pairs for message in pair.given)
        scorer = OwnWordsScorer(
            Reader(folder.tokenizer, folder.context_length),
            logprobs,
            common_words(turns, params.common_words),
            params.copied_words,
        )
        conversations = distinct(pair.given[:-1] for pair in pairs)
        if len(conversations) < 2:
            raise ValueError("the judge split holds one conversation, so there is none that a reply can be moved to")
        others = draw_others(conversations, num_others, params.seed)
        chats = [*(pair.given for pair in pairs), *(pair.wrong for pair in pairs)]
        scores, plain = (scorer.score(chats, which) for which in (others, None))
        if np.isnan(scores).all():
            raise ValueError("no reply of the judge split has a word of its own to judge by")
        floor = float(np.nanmin(scores))
        given, wrong = np.nan_to_num(scores, nan=floor).reshape(2, -1)
        found = agreement(given - wrong, pairs, params)
        return cls(scorer, others, num_others, params.seed, found, floor, float(np.nanmin(plain)))

    def score(self, chats: Sequence[Chat]) -> Floats:
        return np.nan_to_num(self.scorer.score(chats, self.others), nan=self.floor)

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1, N]: there are no resamples."""
        return self.score(chats)[np.newaxis]

    def centred_on(self, conversations: Sequence[Chat]) -> "ModelJudge":
        """The same with the mean over some of these conversations; itself where they are all the same."""
        different = distinct(conversations)
        if len(different) < 2:
            return self
        return replace(self, others=draw_others(different, self.num_others, self.seed))

    def read_ahead(self, chats: Sequence[Chat]) -> None:
        """What score() computes is kept."""
        self.scorer.score(chats, self.others)

    def uncentred(self) -> "ModelJudge":
        """By log p(reply | conversation) alone: a judge that likes what is likely everywhere."""
        return replace(self, others=None, floor=self.plain_floor)


def distinct(conversations: Sequence[Chat] | Iterator[Chat]) -> list[list[Message]]:
    """Each text once."""
    texts = {tuple((m["role"], m["content"]) for m in messages): list(messages) for messages in conversations}
    return list(texts.values())
