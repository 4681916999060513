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
Sparse = Any  # a sparse matrix of scipy, which comes without types

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
class RatingJudge:
    vectorizer: TfidfVectorizer
    weights: Floats  # [V]
    length_slope: float  # by which the words' score still rises with the square root of their number, in short chats
    intercept: float
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "RatingJudge":
        """rows: {messages, rating}, one a conversation; ValueError if they are too few or too much alike."""
        check_rows(rows, params)
        chats = [row["messages"] for row in rows]
        ratings = np.array([row["rating"] for row in rows], dtype=np.float64)
        vectorizer, features = count_words(chats, params)
        lengths = log_lengths(chats)
        weights = fit_weights(features, ratings, lengths, params.ridge_alpha)
        # What is judged are chats of a few turns, so what is left of length is measured on beginnings of that size.
        beginnings = [spoken(chat)[:turns] for chat in chats for turns in params.num_turns]
        root = root_length(beginnings)
        scores = vectorizer.transform([text(chat) for chat in beginnings]) @ weights
        slope = float(np.cov(root, scores)[0, 1] / root.var(ddof=1)) if np.ptp(root) > 0 else 0.0
        return cls(
            vectorizer=vectorizer,
            weights=weights,
            length_slope=slope,
            intercept=float(ratings.mean() - (scores - slope * root).mean()),
            agreement=cross_validate(features, ratings, lengths, params),
        )

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: predicted ratings of conversations that begin so, whatever the length of the beginning."""
        features = self.vectorizer.transform([text(chat) for chat in chats])
        return np.asarray(self.intercept + features @ self.weights - self.length_slope * root_length(chats))


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


def count_words(chats: Sequence[Chat], params: JudgeParams) -> tuple[TfidfVectorizer, Sparse]:
    """Features are sparse [N, V]."""
    vectorizer = TfidfVectorizer(
        min_df=params.min_document_frequency, ngram_range=(1, params.max_ngram), sublinear_tf=True
    )
    try:
        return vectorizer, vectorizer.fit_transform([text(chat) for chat in chats])
    except ValueError:  # scikit-learn's own words for it: empty vocabulary, or no terms remain
        raise ValueError(
            f"no word occurs in {params.min_document_frequency} of the {len(chats)} rated conversations: add rated "
            "data, or lower min_document_frequency"
        ) from None


def fit_weights(features: Sparse, ratings: Floats, lengths: Floats, alpha: float) -> Floats:
    """[V]: ridge on the words; the intercept and the lengths are fitted with it, free of its penalty."""
    # Frisch, Waugh and Lovell: with the span of the free columns taken out of both sides, a plain ridge is left.
    free = np.column_stack([np.ones(len(ratings)), lengths])
    basis, sizes, _ = np.linalg.svd(free, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    rest = np.eye(len(ratings)) - basis @ basis.T
    kernel = rest @ (features @ features.T).toarray() @ rest
    scale = max(np.trace(kernel) / len(ratings), np.finfo(np.float64).tiny)  # alpha is in units of the mean variance
    dual = np.linalg.solve(kernel / scale + alpha * np.eye(len(ratings)), rest @ ratings) / scale
    return np.asarray(features.T @ (rest @ dual), dtype=np.float64)


def cross_validate(features: Sparse, ratings: Floats, lengths: Floats, params: JudgeParams) -> Agreement:
    """Every conversation is scored by weights fitted on the other folds; conversations are resampled."""
    rng = np.random.default_rng(params.seed)
    rows = np.arange(len(ratings))
    scores = np.zeros(len(ratings))
    for fold in np.array_split(rng.permutation(rows), params.num_folds):
        rest = np.setdiff1d(rows, fold)
        scores[fold] = features[fold] @ fit_weights(features[rest], ratings[rest], lengths[rest], params.ridge_alpha)
    samples = [rng.choice(rows, len(rows)) for _ in range(params.bootstrap_samples)]
    low, high = np.quantile([partial_spearman(scores[i], ratings[i], lengths[i]) for i in samples], [0.025, 0.975])
    return Agreement(
        spearman=partial_spearman(scores, ratings, lengths),
        spearman_ci_low=float(low),
        spearman_ci_high=float(high),
        length_spearman=partial_spearman(lengths[:, 0], ratings, lengths[:, :0]),
        num_conversations=len(ratings),
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
