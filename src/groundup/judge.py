"""A judge of another kind than the reward model: TF-IDF and ridge regression on what people rated.

Long conversations are rated higher, whatever they say. So the lengths stand beside the words when the weights are
fitted, and are held at their mean when a chat is scored: what is left is the words and not their number.
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

MIN_ROWS_PER_FOLD = 4


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of the judge's scores with the ratings of conversations that it was not fitted on.

    Spearman's, both sides freed of what the length of the conversation explains.
    """

    spearman: float
    spearman_ci_low: float
    spearman_ci_high: float
    num_conversations: int


@dataclass(frozen=True)
class RatingJudge:
    vectorizer: TfidfVectorizer
    mean_features: Floats  # [V]
    weights: Floats  # [V]
    mean_rating: float
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "RatingJudge":
        """rows: {messages, rating}, one a conversation. ValueError where they are too few or all rated the same."""
        check_rows(rows, params)
        chats = [row["messages"] for row in rows]
        ratings = np.array([row["rating"] for row in rows], dtype=np.float64)
        agreement = cross_validate(chats, ratings, params)
        return cls(*_fit(chats, ratings, params), agreement=agreement)

    def score(self, chats: Sequence[Sequence[Message]]) -> Floats:
        """[N]: predicted ratings of chats, each as if it were of mean length."""
        return self.mean_rating + _predict(self.vectorizer, self.mean_features, self.weights, chats)


def check_rows(rows: Sequence[dict[str, Any]], params: JudgeParams) -> None:
    needed = MIN_ROWS_PER_FOLD * params.num_folds
    if len(rows) < needed:
        raise ValueError(
            f"a judge needs at least {needed} rated conversations ({MIN_ROWS_PER_FOLD} a fold), there are "
            f"{len(rows)}: raise the split's share in prepare.splits, add rated data, or lower num_folds"
        )
    if len({row["rating"] for row in rows}) == 1:
        raise ValueError(
            f"a judge cannot learn from ratings that are all {rows[0]['rating']}: they do not tell one conversation "
            "from another"
        )


def text(chat: Sequence[Message]) -> str:
    """What was said; the system message is a topic that many conversations share."""
    return "\n".join(message["content"] for message in chat if message["role"] != "system")


def lengths(chat: Sequence[Message]) -> tuple[float, float]:
    """Logarithms of the number of words and of turns."""
    turns = sum(message["role"] != "system" for message in chat)
    return float(np.log1p(len(text(chat).split()))), float(np.log1p(turns))


def cross_validate(chats: Sequence[Sequence[Message]], ratings: Floats, params: JudgeParams) -> Agreement:
    """Every conversation is scored by a judge fitted on the other folds."""
    rng = np.random.default_rng(params.seed)
    order = rng.permutation(len(chats))
    scores = np.zeros(len(chats))
    for fold in range(params.num_folds):
        held_out = order[fold :: params.num_folds]
        rest = np.setdiff1d(order, held_out)
        vectorizer, mean_features, weights, _ = _fit([chats[i] for i in rest], ratings[rest], params)
        scores[held_out] = _predict(vectorizer, mean_features, weights, [chats[i] for i in held_out])
    length = np.array([lengths(chat) for chat in chats])
    samples = [rng.integers(0, len(chats), len(chats)) for _ in range(params.bootstrap_samples)]
    resampled = [partial_spearman(scores[rows], ratings[rows], length[rows]) for rows in samples]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Agreement(partial_spearman(scores, ratings, length), float(low), float(high), len(chats))


def partial_spearman(a: Floats, b: Floats, given: Floats) -> float:
    """Correlation of the ranks of a and b [N] beyond what those of `given` [N, K] explain; 0 if one is constant."""
    explained = np.column_stack([np.ones(len(a)), *(ranks(column) for column in given.T)])
    rest = [values - explained @ np.linalg.lstsq(explained, values, rcond=None)[0] for values in (ranks(a), ranks(b))]
    norms = [float(np.linalg.norm(values)) for values in rest]
    if min(norms) < 1e-9 * len(a):
        return 0.0
    return float(rest[0] @ rest[1] / (norms[0] * norms[1]))


def ranks(values: Floats) -> Floats:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _fit(
    chats: Sequence[Sequence[Message]], ratings: Floats, params: JudgeParams
) -> tuple[TfidfVectorizer, Floats, Floats, float]:
    """Ridge on the words; intercept and lengths are fitted with them, free of the penalty."""
    # l1: a chat's features are shares, so its score is the mean weight of its words and not their sum.
    vectorizer = TfidfVectorizer(
        min_df=params.min_document_frequency, ngram_range=(1, params.max_ngram), norm="l1", dtype=np.float64
    )
    features = np.asarray(vectorizer.fit_transform([text(chat) for chat in chats]).todense())  # [N, V]
    # Frisch-Waugh-Lovell: with the span of the free columns projected out, a plain ridge gives the same weights.
    free = np.column_stack([np.ones(len(chats)), np.array([lengths(chat) for chat in chats])])
    basis = np.linalg.svd(free, full_matrices=False)[0][:, : np.linalg.matrix_rank(free)]
    rest = features - basis @ (basis.T @ features)
    target = ratings - basis @ (basis.T @ ratings)
    scale = np.square(rest).sum() / len(chats)  # so that alpha means the same whatever the unit of the features
    kernel = rest @ rest.T / scale
    weights = rest.T @ np.linalg.solve(kernel + params.ridge_alpha * np.eye(len(chats)), target) / scale
    return vectorizer, features.mean(axis=0), weights, float(ratings.mean())


def _predict(
    vectorizer: TfidfVectorizer, mean_features: Floats, weights: Floats, chats: Sequence[Sequence[Message]]
) -> Floats:
    features = vectorizer.transform([text(chat) for chat in chats])
    return np.asarray(features @ weights - mean_features @ weights, dtype=np.float64)
