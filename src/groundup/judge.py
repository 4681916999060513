"""A judge of another kind than the reward model: TF-IDF and ridge regression on what people rated.

Long conversations are rated higher, whatever they say. So length stands beside the words when their weights are fitted
and is left out when a chat is scored: what counts is the words and not their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from groundup.frame.params.judge import JudgeParams
from groundup.model.chat_format import Message

Floats = NDArray[np.float64]
Chat = Sequence[Message]

ROWS_PER_FOLD = 4  # fewer give no correlation worth the name


@dataclass(frozen=True)
class Agreement:
    """How a judge's scores rank conversations that it was not fitted on, against their ratings.

    Spearman's correlation at equal length: of what the numbers of words and turns do not explain on either side.
    """

    spearman: float
    spearman_ci_low: float
    spearman_ci_high: float
    length_spearman: float  # of the number of words with the ratings: what the judge is freed of
    num_conversations: int


@dataclass(frozen=True)
class WordWeights:
    vectorizer: TfidfVectorizer
    weights: Floats  # [V]

    def score(self, chats: Sequence[Chat]) -> Floats:
        features = self.vectorizer.transform([text(chat) for chat in chats])
        return np.asarray(features @ self.weights, dtype=np.float64)


@dataclass(frozen=True)
class RatingJudge:
    words: WordWeights
    length_slope: float  # by which the words' score still rises with the square root of their number, in short chats
    intercept: float
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "RatingJudge":
        """rows: {messages, rating}, one a conversation; ValueError if they are too few or too much alike."""
        check_rows(rows, params)
        chats = [row["messages"] for row in rows]
        ratings = np.array([row["rating"] for row in rows], dtype=np.float64)
        agreement = cross_validate(chats, ratings, params)
        words = fit_words(chats, ratings, params)
        # What is judged are chats of a few turns, so what is left of length is measured on beginnings of that size.
        beginnings = [spoken(chat)[:turns] for chat in chats for turns in params.num_turns]
        length, scores = root_length(beginnings), words.score(beginnings)
        slope = float(np.cov(length, scores)[0, 1] / length.var(ddof=1)) if np.ptp(length) > 0 else 0.0
        return cls(words, slope, float(ratings.mean() - (scores - slope * length).mean()), agreement)

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: predicted ratings of conversations that begin so, whatever the length of the beginning."""
        return self.intercept + self.words.score(chats) - self.length_slope * root_length(chats)


def check_rows(rows: Sequence[dict[str, Any]], params: JudgeParams) -> None:
    needed = ROWS_PER_FOLD * params.num_folds
    if len(rows) < needed:
        raise ValueError(
            f"a judge needs at least {needed} rated conversations ({ROWS_PER_FOLD} a fold), there are {len(rows)}: "
            "raise its share in prepare.splits, add rated data, or lower num_folds"
        )
    if len({row["rating"] for row in rows}) == 1:
        raise ValueError(
            f"a judge cannot learn from ratings that are all {rows[0]['rating']}: they do not tell one conversation "
            "from another"
        )


def spoken(chat: Chat) -> Chat:
    """Without the system message: a topic that many conversations share."""
    return [message for message in chat if message["role"] != "system"]


def text(chat: Chat) -> str:
    return "\n".join(message["content"] for message in spoken(chat))


def num_words(chat: Chat) -> int:
    return len(text(chat).split())


def root_length(chats: Sequence[Chat]) -> Floats:
    return np.sqrt(np.array([num_words(chat) for chat in chats], dtype=np.float64))


def log_lengths(chats: Sequence[Chat]) -> Floats:
    """[N, 2]: logarithms of the number of words and of turns."""
    return np.log1p(np.array([[num_words(chat), len(spoken(chat))] for chat in chats], dtype=np.float64))


def fit_words(chats: Sequence[Chat], ratings: Floats, params: JudgeParams) -> WordWeights:
    """Ridge on TF-IDF; the intercept and the lengths are fitted with it, free of its penalty."""
    vectorizer = TfidfVectorizer(
        min_df=params.min_document_frequency, ngram_range=(1, params.max_ngram), sublinear_tf=True
    )
    texts = [text(chat) for chat in chats]
    try:
        features = vectorizer.fit_transform(texts)  # sparse [N, V]
    except ValueError:  # scikit-learn's own words for it: empty vocabulary, or no terms remain
        raise ValueError(
            f"no word occurs in {params.min_document_frequency} of the {len(texts)} rated conversations: add rated "
            "data, or lower min_document_frequency"
        ) from None
    # Frisch, Waugh and Lovell: with the span of the free columns taken out of both sides, a plain ridge is left.
    free = np.column_stack([np.ones(len(chats)), log_lengths(chats)])
    basis, sizes, _ = np.linalg.svd(free, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    rest = np.eye(len(chats)) - basis @ basis.T
    kernel = rest @ (features @ features.T).toarray() @ rest
    scale = max(np.trace(kernel) / len(chats), np.finfo(np.float64).tiny)  # alpha is in units of the mean variance
    dual = np.linalg.solve(kernel / scale + params.ridge_alpha * np.eye(len(chats)), rest @ ratings) / scale
    return WordWeights(vectorizer, np.asarray(features.T @ (rest @ dual), dtype=np.float64))


def cross_validate(chats: Sequence[Chat], ratings: Floats, params: JudgeParams) -> Agreement:
    """Every conversation is scored by a judge fitted on the other folds; conversations are resampled."""
    rng = np.random.default_rng(params.seed)
    folds = np.array_split(rng.permutation(len(chats)), params.num_folds)
    scores = np.zeros(len(chats))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(chats)), fold)
        words = fit_words([chats[i] for i in rest], ratings[rest], params)
        scores[fold] = words.score([chats[i] for i in fold])
    length = log_lengths(chats)
    samples = [rng.integers(0, len(chats), len(chats)) for _ in range(params.bootstrap_samples)]
    low, high = np.quantile([partial_spearman(scores[i], ratings[i], length[i]) for i in samples], [0.025, 0.975])
    return Agreement(
        spearman=partial_spearman(scores, ratings, length),
        spearman_ci_low=float(low),
        spearman_ci_high=float(high),
        length_spearman=partial_spearman(length[:, 0], ratings, length[:, :0]),
        num_conversations=len(chats),
    )


def partial_spearman(a: Floats, b: Floats, given: Floats) -> float:
    """Correlation of the ranks of a and b [N] beyond what those of `given` [N, K] explain; 0 if nothing is left."""
    explained = np.column_stack([np.ones(len(a)), *(ranks(column) for column in given.T)])
    left = np.column_stack([ranks(a), ranks(b)])
    left = left - explained @ np.linalg.lstsq(explained, left, rcond=None)[0]
    norms = np.linalg.norm(left, axis=0)
    if norms.min() < 1e-9 * len(a) ** 1.5:  # ranks of N values have a norm of about N^1.5
        return 0.0
    return float(left[:, 0] @ left[:, 1] / norms.prod())


def ranks(values: Floats) -> Floats:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)
