"""How well words alone predict a preference: TF-IDF and logistic regression on the difference of the two sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from groundup.core.judging.statistics import Floats, wins

TextPair = tuple[str, str]  # chosen, rejected

WORDS_AND_MARKS = r"\w+|[^\w\s]"  # any text that is not blank has a match, so the vocabulary is never empty
MAX_STEPS = 1000  # of the solver; far more than it needs


@dataclass(frozen=True)
class BagOfWords:
    vectorizer: TfidfVectorizer
    weights: Floats  # [V]
    strength: float  # inverse of the L2 penalty

    @classmethod
    def fit(cls, train: Sequence[TextPair], val: Sequence[TextPair], strengths: Sequence[float]) -> "BagOfWords":
        """Fitted on train, with the strength that has the best accuracy on val; of equal ones, the lowest."""
        vectorizer = TfidfVectorizer(token_pattern=WORDS_AND_MARKS, sublinear_tf=True)
        texts = sorted({text for pair in train for text in pair})
        features, index = vectorizer.fit_transform(texts), {text: i for i, text in enumerate(texts)}
        better, worse = ([index[pair[side]] for pair in train] for side in (0, 1))
        # Each pair in both orders and no intercept, so that swapping the sides of a pair swaps the prediction.
        both = features[better + worse] - features[worse + better]
        labels = np.repeat([1, 0], len(train))
        fitted = []
        for strength in sorted(strengths):
            model = LogisticRegression(C=strength, fit_intercept=False, max_iter=MAX_STEPS).fit(both, labels)
            fitted.append(cls(vectorizer, model.coef_[0], strength))
        return max(fitted, key=lambda candidate: wins(*candidate.score_pairs(val).T).sum())

    def score_pairs(self, pairs: Sequence[TextPair]) -> Floats:
        """[N, 2]: the score of each side from its words."""
        texts = sorted({text for pair in pairs for text in pair})
        scores = dict(zip(texts, self.vectorizer.transform(texts) @ self.weights, strict=True))
        return np.array([[scores[chosen], scores[rejected]] for chosen, rejected in pairs], dtype=np.float64)
