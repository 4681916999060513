"""A judge that works differently from the reward model: how much better a reply fits its conversation than others.

It learns to tell the reply that a person gave from one of similar length given elsewhere, by what the words of the
reply have to do with the words said before (TF-IDF and latent semantic analysis; Deerwester et al. 1990). Three things
make it hard to fool:

- The score of a reply is its fit to its conversation less its mean fit to others: those that the judge was fitted on,
  or the prompts at hand (`centred_on`). A reply that fits everywhere ("What? Why?") fits nothing.
- That mean is over conversations at the same point: as many turns long, the last message a question too, or none. "Hi"
  to every first message fits none of them, "yes" after every question fits no question.
- Words copied from the conversation do not count, but for those that everybody uses all the time.

Word by word, the fit is linear in the conversation, so the mean over all conversations costs no more than one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from groundup.core.judging.judge import Agreement, Chat
from groundup.core.judging.others import NUM_KINDS, kind_of
from groundup.core.judging.pairs import ReplyPair, agreement, reply_pairs
from groundup.core.judging.statistics import Floats, resampled_weights
from groundup.core.judging.words import common_words, lower_words, own_words
from groundup.runner.params.judge import JudgeParams

PAIRS_PER_FOLD = 10  # with fewer, the agreement would mean little
SMALLEST_SCALE = 0.01  # relative to the largest, so that a feature that hardly varies gets no extreme weight
TINY = 1e-9
MIN_OF_KIND = 10  # points that a mean takes; of a rarer kind all count


@dataclass(frozen=True)
class Vocabulary:
    """The words of the judge and their relations."""

    vectorizer: TfidfVectorizer
    analysis: TruncatedSVD
    is_common: NDArray[np.bool_]  # [V]: such a word counts although it was said before
    copied_words: int

    @classmethod
    def of(cls, pairs: Sequence[ReplyPair], params: JudgeParams) -> "Vocabulary":
        """From all turns: they do not reveal which reply was given."""
        vectorizer = TfidfVectorizer(
            tokenizer=lower_words,
            token_pattern=None,
            lowercase=False,
            sublinear_tf=True,
            min_df=params.min_document_frequency,
        )
        different = sorted({message["content"] for pair in pairs for message in pair.given})
        turns = vectorizer.fit_transform(different)
        num_dimensions = min(params.num_dimensions, turns.shape[1] - 1)
        analysis = TruncatedSVD(num_dimensions, random_state=params.seed).fit(turns)
        common = common_words(different, params.common_words)
        is_common = np.array([word in common for word in vectorizer.get_feature_names_out()])
        return cls(vectorizer, analysis, is_common, params.copied_words)

    @property
    def relations(self) -> Floats:
        """[V, D]"""
        return np.asarray(self.analysis.components_.T)

    def read(self, chats: Sequence[Chat]) -> "Reading":
        before = [[message["content"] for message in chat[:-1]] or [""] for chat in chats]
        # A turn is in many chats: it is read once.
        index = {turn: i for i, turn in enumerate(sorted({turn for turns in before for turn in turns}))}
        turns = self.vectorizer.transform(list(index))
        words_of = {turn: lower_words(turn) for turn in index}
        rows = [[index[turn] for turn in turns] for turns in before]
        last, all_turns = _incidence([row[-1:] for row in rows], len(index)), _incidence(rows, len(index))
        meanings = self.analysis.transform(turns)
        own = [
            " ".join(own_words(chat[-1]["content"], [words_of[turn] for turn in said], self.copied_words))
            for chat, said in zip(chats, before, strict=True)
        ]
        replies = self.vectorizer.transform([chat[-1]["content"] for chat in chats])
        copied = csr_matrix(((all_turns @ turns) > 0).multiply(~self.is_common), dtype=np.float64)
        weights = replies.multiply(self.vectorizer.transform(own) > 0)
        return Reading(
            reply=csr_matrix(weights - weights.multiply(copied)),
            copied=copied,
            places=(directions(last @ meanings), directions((all_turns - last) @ meanings)),
            kinds=np.array([kind_of(chat[:-1]) for chat in chats], dtype=np.int64),
        )


def _incidence(rows: Sequence[Sequence[int]], num_columns: int) -> csr_matrix:
    """[N, num_columns]: how often each column is in each row."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), num_columns))


def directions(vectors: Floats) -> Floats:
    """[N, D] of length 1, or 0 where there is nothing."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + TINY))


@dataclass(frozen=True)
class Reading:
    """What the judge takes from N chats with V words and D dimensions."""

    reply: csr_matrix  # [N, V]: weights of the reply's words, without copied ones
    copied: csr_matrix  # [N, V]: 1 where a word would be copied from the conversation
    places: tuple[Floats, Floats]  # [N, D]: what the last message is about, and all earlier ones
    kinds: NDArray[np.int64]  # [N]: kind_of

    @property
    def says_nothing(self) -> NDArray[np.bool_]:
        """[N]: the reply has no known word of its own."""
        return np.asarray(self.reply.sum(axis=1) == 0).ravel()

    def elsewhere(self, relations: Floats, rows: NDArray[np.bool_]) -> dict[int, Floats]:
        """[V, 2 D] for each kind: each word's mean fit to the conversations of these rows that lack it."""
        means = {}
        for kind in range(NUM_KINDS):
            chosen = np.flatnonzero(rows & (self.kinds == kind))
            if len(chosen) < MIN_OF_KIND:
                chosen = np.flatnonzero(rows)
            copied = self.copied[chosen]
            without = np.maximum(len(chosen) - np.asarray(copied.sum(axis=0)).ravel(), 1)[:, np.newaxis]
            means[kind] = np.hstack(
                [
                    relations * ((place[chosen].sum(axis=0) - copied.T @ place[chosen]) / without)
                    for place in self.places
                ]
            )
        return means

    def features(self, relations: Floats, elsewhere: dict[int, Floats]) -> Floats:
        """[N, 2 D]: the fit of the reply to its conversation, less that to other ones."""
        about = self.reply @ relations
        fit = np.hstack([about * place for place in self.places])
        for kind, mean in elsewhere.items():
            rows = np.flatnonzero(self.kinds == kind)
            fit[rows] -= self.reply[rows] @ mean
        return fit


@dataclass(frozen=True)
class WordJudge:
    """A judge fitted on all conversations, and one per resample of them, which show how far off the first may be."""

    words: Vocabulary
    mean_fit: dict[int, Floats]  # Reading.elsewhere
    weights: Floats  # [2 D, 1 + R]
    floor: Floats  # [1 + R]: of a reply without a word of its own; no reply that it learned from scores lower
    plain_floor: Floats  # [1 + R]: the same of uncentred()
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "WordJudge":
        """rows: {id, messages}, one per conversation. ValueError if they have too few replies."""
        pairs = reply_pairs(rows, params)
        needed = PAIRS_PER_FOLD * params.num_folds
        if len(pairs) < needed:
            raise ValueError(
                f"a judge needs at least {needed} replies to learn from ({PAIRS_PER_FOLD} a fold), and its "
                f"{len(rows)} conversations hold {len(pairs)}: raise the split's share in prepare.splits, add "
                "conversations of two, or lower num_folds"
            )
        words = Vocabulary.of(pairs, params)
        relations = words.relations
        given, wrong = (words.read(chats) for chats in zip(*((p.given, p.wrong) for p in pairs), strict=True))

        def differences(rows: NDArray[np.bool_]) -> Floats:
            elsewhere = given.elsewhere(relations, rows)
            return given.features(relations, elsewhere) - wrong.features(relations, elsewhere)

        conversations = sorted({pair.conversation_id for pair in pairs})
        order = np.random.default_rng(params.seed).permutation(len(conversations))
        fold_of = dict(zip(conversations, order % params.num_folds, strict=True))
        folds = np.array([fold_of[pair.conversation_id] for pair in pairs])
        held_out = np.zeros(len(pairs))
        for fold in range(params.num_folds):
            others = folds != fold
            found = differences(others)
            weights = fit_weights(found[others], np.ones(int(others.sum())), params.inverse_regularization)
            held_out[~others] = found[~others] @ weights
        everything = np.ones(len(pairs), dtype=np.bool_)
        found = differences(everything)
        counts = resampled_weights([[pair.conversation_id] for pair in pairs], params.num_resamples, params.seed)
        weightings = [np.ones(len(pairs)), *(weights.astype(np.float64) for weights in counts)]
        fits = [fit_weights(found, weights, params.inverse_regularization) for weights in weightings]
        judge = cls(
            words,
            given.elsewhere(relations, everything),
            np.column_stack(fits),
            np.full(1 + params.num_resamples, -np.inf),
            np.full(1 + params.num_resamples, -np.inf),
            agreement(held_out, pairs, params),
        )
        return replace(judge, floor=judge._lowest(given, wrong), plain_floor=judge.uncentred()._lowest(given, wrong))

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: how much better the last message of each chat fits the messages before than other conversations."""
        return self.score_by_resample(chats)[0]

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1 + R, N]: by the judge of all conversations, then by that of each resample."""
        return self._score(self.words.read(chats))

    def _score(self, reading: Reading) -> Floats:
        scores = (reading.features(self.words.relations, self.mean_fit) @ self.weights).T
        return np.where(reading.says_nothing, self.floor[:, np.newaxis], scores)

    def _lowest(self, *readings: Reading) -> Floats:
        """[1 + R]"""
        said = [self._score(reading)[:, ~reading.says_nothing] for reading in readings]
        return np.asarray(np.hstack(said).min(axis=1))

    def centred_on(self, conversations: Sequence[Chat]) -> "WordJudge":
        """The same with the mean over these conversations (messages before a reply) instead of those it was fitted on.

        Prompts of other people may be of another kind, and a reply that suits them all must still fit none.
        """
        reading = self.words.read([[*messages, {"role": "assistant", "content": ""}] for messages in conversations])
        everything = np.ones(len(conversations), dtype=np.bool_)
        return replace(self, mean_fit=reading.elsewhere(self.words.relations, everything))

    def read_ahead(self, chats: Sequence[Chat]) -> None:
        """Nothing: a conversation is read again at no cost that counts."""

    def uncentred(self) -> "WordJudge":
        """The same without any mean: a judge that can be fooled, to show that controls can fail."""
        nothing = {kind: np.zeros_like(mean) for kind, mean in self.mean_fit.items()}
        return replace(self, mean_fit=nothing, floor=self.plain_floor)


def fit_weights(differences: Floats, counts: Floats, inverse_regularization: float) -> Floats:
    """Ridge regression of 1 on the differences [N, F] of given and wrong replies: a linear discriminant."""
    scale = np.sqrt(np.average(np.square(differences), axis=0, weights=counts))
    scale = np.maximum(scale, SMALLEST_SCALE * scale.max() + TINY)
    ridge = Ridge(alpha=1 / inverse_regularization, fit_intercept=False, solver="cholesky")
    fitted = ridge.fit(differences / scale, np.ones(len(differences)), sample_weight=counts)
    return np.asarray(fitted.coef_ / scale)
