"""A judge by any causal language model: how much likelier its conversation makes a reply, in nats.

The score of a reply is log p(reply | conversation) - log p(reply), the second after a message that says nothing. What
is likely everywhere gains little by that, so no mean over other conversations is taken. It is a sum over tokens, so a
longer reply can score higher: read win rates at equal length. The judge is not fitted, so it has no resamples either:
intervals of its figures are over conversations alone.

A language model finds nothing likelier than a repetition of what was just said. So only the tokens of the reply's own
words count: those copied from the conversation are left out, but for words that everybody uses all the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from groundup.core.judging.judge import Agreement, Chat, Floats
from groundup.core.judging.pairs import ReplyPair, agreement
from groundup.core.judging.words import WORD, are_own, common_words, lower_words
from groundup.core.model.likelihood import Stretch
from groundup.evaluate.model_judge.logprobs import KeptLogprobs
from groundup.evaluate.model_judge.reading import SILENCE, Reader, ReplyTokens
from groundup.runner.params.judge import JudgeParams


@dataclass(frozen=True)
class OwnWordsScorer:
    reader: Reader
    logprobs: KeptLogprobs
    common: frozenset[str]
    copied_words: int

    def score(self, chats: Sequence[Chat], is_centred: bool) -> Floats:
        """[N], NaN for a reply without a word of its own. Not centred: log p(reply | conversation) alone."""
        rows, given, alone = [], [], []
        for i, (*messages, last) in enumerate(chats):
            reply = self.reader.reply(last["content"])
            counted = self._counted(reply, messages)
            if counted.any():
                rows.append((i, counted))
                given.append(Stretch(self.reader.conversation(messages, reply) + reply.ids, len(reply.ids)))
                alone.append(Stretch(self.reader.conversation(SILENCE, reply) + reply.ids, len(reply.ids)))
        found = self.logprobs.of([*given, *alone] if is_centred else given)
        scores = np.full(len(chats), np.nan)
        for place, (i, counted) in enumerate(rows):
            gain = found[place] - found[len(rows) + place] if is_centred else found[place]
            scores[i] = gain[counted].sum()
        return scores

    def _counted(self, reply: ReplyTokens, messages: Chat) -> NDArray[np.bool_]:
        """[T]: whether a token holds a part of a word of the reply's own."""
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
    agreement: Agreement
    floor: float  # of a reply without a word of its own; no reply of the pairs scores lower
    plain_floor: float  # the same of uncentred()
    is_centred: bool = True

    @classmethod
    def of(cls, logprobs: KeptLogprobs, pairs: Sequence[ReplyPair], params: JudgeParams) -> "ModelJudge":
        """pairs: for the agreement, the floors and the common words."""
        folder = logprobs.folder
        turns = (message["content"] for pair in pairs for message in pair.given)
        scorer = OwnWordsScorer(
            Reader(folder.tokenizer, folder.context_length),
            logprobs,
            common_words(turns, params.common_words),
            params.copied_words,
        )
        chats = [*(pair.given for pair in pairs), *(pair.wrong for pair in pairs)]
        scores, plain = (scorer.score(chats, is_centred) for is_centred in (True, False))
        if np.isnan(scores).all():
            raise ValueError("no reply of the judge split has a word of its own to judge by")
        floor = float(np.nanmin(scores))
        given, wrong = np.nan_to_num(scores, nan=floor).reshape(2, -1)
        return cls(scorer, agreement(given - wrong, pairs, params), floor, float(np.nanmin(plain)))

    def score(self, chats: Sequence[Chat]) -> Floats:
        return np.nan_to_num(self.scorer.score(chats, self.is_centred), nan=self.floor)

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1, N]: there are no resamples."""
        return self.score(chats)[np.newaxis]

    def centred_on(self, conversations: Sequence[Chat]) -> "ModelJudge":
        """Itself: log p(reply) stands for all other conversations."""
        return self

    def uncentred(self) -> "ModelJudge":
        """By log p(reply | conversation) alone: a judge that likes what is likely everywhere."""
        return replace(self, is_centred=False, floor=self.plain_floor)
