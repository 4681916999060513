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

NO_VARIANCE = 1e-12  # of features whose rows have length 1: the chats are all the same


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
    """One judge of all rows, and one of the rows without each fold: they say how far the first may be off."""

    vectorizer: TfidfVectorizer
    weights: Floats  # [V, 1 + F]
    length_slopes: (
        Floats  # [1 + F]: by which the words' score still rises with the root of their number, in short chats
    )
    intercepts: Floats  # [1 + F]
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "RatingJudge":
        """rows: {messages, rating}, one a conversation, null where nobody rated it; ValueError if too few or alike."""
        rows = [row for row in rows if row["rating"] is not None]
        check_rows(rows, params)
        chats = [row["messages"] for row in rows]
        ratings = np.array([row["rating"] for row in rows], dtype=np.float64)
        vectorizer, features = count_words(chats, params)
        lengths = log_lengths(chats)
        everyone = np.arange(len(rows))
        folds = np.array_split(np.random.default_rng(params.seed).permutation(everyone), params.num_folds)
        parts = [everyone, *(np.setdiff1d(everyone, fold) for fold in folds)]
        weights = np.column_stack(
            [fit_weights(features[part], ratings[part], lengths[part], params.ridge_alpha) for part in parts]
        )
        held_out = np.zeros(len(rows))
        for fold, fold_weights in zip(folds, weights.T[1:], strict=True):
            held_out[fold] = features[fold] @ fold_weights
        # What is judged are chats of a few turns, so what is left of length is measured on beginnings of that size.
        beginnings = [spoken(chat)[:turns] for chat in chats for turns in params.num_turns]
        root = root_length(beginnings)
        scores = vectorizer.transform([text(chat) for chat in beginnings]) @ weights
        slopes = (root - root.mean()) @ scores / max(len(root) * root.var(), np.finfo(np.float64).tiny)
        return cls(
            vectorizer=vectorizer,
            weights=weights,
            length_slopes=slopes,
            intercepts=np.array([ratings[part].mean() for part in parts]) - scores.mean(axis=0) + slopes * root.mean(),
            agreement=agreement(held_out, ratings, lengths, params),
        )

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: predicted ratings of conversations that begin so, whatever the length of the beginning."""
        return self.score_by_part(chats)[0]

    def score_by_part(self, chats: Sequence[Chat]) -> Floats:
        """[1 + F, N]: by the judge of all rows, then by the one without each fold."""
        features = self.vectorizer.transform([text(chat) for chat in chats])
        scores = features @ self.weights - root_length(chats)[:, None] * self.length_slopes + self.intercepts
        return np.asarray(scores.T, dtype=np.float64)


def jackknife_error(estimates: Floats) -> float:
    """Standard error of estimates[0], [1 + F], from those without each fold (delete-a-group jackknife, Kott 2001)."""
    parts = estimates[1:]
    return float(np.sqrt((len(parts) - 1) * np.mean(np.square(parts - parts.mean()))))


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
    scale = np.trace(kernel) / len(ratings)  # alpha is in units of it
    if scale < NO_VARIANCE:
        return np.zeros(features.shape[1])
    dual = np.linalg.solve(kernel / scale + alpha * np.eye(len(ratings)), rest @ ratings) / scale
    return np.asarray(features.T @ (rest @ dual), dtype=np.float64)


def agreement(scores: Floats, ratings: Floats, lengths: Floats, params: JudgeParams) -> Agreement:
    """Of scores by judges that did not see the conversation; conversations are resampled for the interval."""
    rng = np.random.default_rng(params.seed)
    samples = rng.integers(0, len(ratings), (params.bootstrap_samples, len(ratings)))
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
