"""A judge that works differently from the reward model: it scores how well a reply fits its conversation.

It learns to tell the reply that a person gave from one of similar length given elsewhere. It uses words and their
relations (TF-IDF and latent semantic analysis; Deerwester et al. 1990), but neither length nor order, with one
exception: words copied from the conversation do not count, or an echo would be the best reply.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from groundup.core.formats.records import Message
from groundup.core.judging.statistics import cluster_bootstrap, resampled_weights, wins
from groundup.runner.params.judge import JudgeParams

Chat = Sequence[Message]
Floats = NDArray[np.float64]

WORD = re.compile(r"\w+|[!?]+")
NEAR = 30  # a wrong reply is one of the NEAR next shorter or longer ones
PAIRS_PER_FOLD = 10  # with fewer, the agreement would mean little
SMALLEST_SCALE = 0.01  # relative to the largest, so that a feature that hardly varies gets no extreme weight
TINY = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How often the judge, fitted on other conversations, prefers the given reply: 0.5 is chance."""

    accuracy: float
    accuracy_ci_low: float
    accuracy_ci_high: float
    num_pairs: int
    num_conversations: int


@dataclass(frozen=True)
class ReplyPair:
    """A conversation with the given reply, and the same one with a reply from elsewhere."""

    given: Chat
    wrong: Chat
    conversation_id: str


@dataclass(frozen=True)
class Judge:
    """A judge fitted on all conversations, and one per resample of them, which show how far off the first may be."""

    vectorizer: TfidfVectorizer
    analysis: TruncatedSVD
    weights: Floats  # [2 + 2 D, 1 + R]
    copied_words: int
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "Judge":
        """rows: {id, messages}, one per conversation. ValueError if they have too few replies."""
        pairs = reply_pairs(rows, params)
        needed = PAIRS_PER_FOLD * params.num_folds
        if len(pairs) < needed:
            raise ValueError(
                f"a judge needs at least {needed} replies to learn from ({PAIRS_PER_FOLD} a fold), and its "
                f"{len(rows)} conversations hold {len(pairs)}: raise the split's share in prepare.splits, add "
                "conversations of two, or lower num_folds"
            )
        # Vocabulary and relations come from all turns: they do not reveal which reply was given.
        vectorizer, analysis = analyse_words(pairs, params)
        given, wrong = (
            features(vectorizer, analysis, params.copied_words, chats)
            for chats in ([pair.given for pair in pairs], [pair.wrong for pair in pairs])
        )
        differences = given - wrong
        conversations = sorted({pair.conversation_id for pair in pairs})
        order = np.random.default_rng(params.seed).permutation(len(conversations))
        fold_of = dict(zip(conversations, order % params.num_folds, strict=True))
        folds = np.array([fold_of[pair.conversation_id] for pair in pairs])
        held_out = np.zeros(len(pairs))
        for fold in range(params.num_folds):
            weights = fit_weights(differences[folds != fold], params.inverse_regularization)
            held_out[folds == fold] = differences[folds == fold] @ weights
        resamples = resampled_weights([[pair.conversation_id] for pair in pairs], params.num_resamples, params.seed)
        fits = [
            fit_weights(np.repeat(differences, counts, axis=0), params.inverse_regularization)
            for counts in (np.ones(len(pairs), dtype=np.int64), *resamples)
        ]
        return cls(
            vectorizer, analysis, np.column_stack(fits), params.copied_words, agreement(held_out, pairs, params)
        )

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: how well the last message of each chat fits the messages before, in log-odds up to a constant."""
        return self.score_by_resample(chats)[0]

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1 + R, N]: by the judge of all conversations, then by that of each resample."""
        return np.asarray((features(self.vectorizer, self.analysis, self.copied_words, chats) @ self.weights).T)


def judge_error(estimates: Floats) -> float:
    """Standard error of an estimate due to the judge, from its values by resample [R] (the bootstrap).

    Not the jackknife: a win rate jumps where a judge barely prefers one side, which makes the jackknife too large.
    """
    return float(np.std(estimates, ddof=1))


def reply_pairs(rows: Sequence[dict[str, Any]], params: JudgeParams) -> list[ReplyPair]:
    """Every assistant turn among the first `max_turns`, with a reply of similar length from another conversation."""
    rng = np.random.default_rng(params.seed)
    replies = [
        (row["id"], row["messages"][: place + 1])
        for row in rows
        for place, message in enumerate(row["messages"])
        if message["role"] == "assistant"
        and lower_words(message["content"])
        and _num_turns(row, place) <= params.max_turns
    ]
    shuffled = rng.permutation(len(replies))
    order = sorted(shuffled, key=lambda i: len(lower_words(replies[i][1][-1]["content"])))
    pairs = []
    for place, i in enumerate(order):
        conversation_id, chat = replies[i]
        others = [
            replies[j][1][-1]
            for j in order[max(0, place - NEAR) : place + NEAR + 1]
            if replies[j][0] != conversation_id and replies[j][1][-1]["content"] != chat[-1]["content"]
        ]
        if others:
            wrong = others[rng.integers(len(others))]
            pairs.append(ReplyPair(chat, [*chat[:-1], wrong], conversation_id))
    return pairs


def agreement(held_out: Floats, pairs: Sequence[ReplyPair], params: JudgeParams) -> Agreement:
    """held_out [N]: how much higher each given reply scores, by a judge fitted without its conversation."""
    right = wins(held_out, np.zeros(len(pairs)))
    conversations = [[pair.conversation_id] for pair in pairs]
    low, high = cluster_bootstrap(right, conversations, params.bootstrap_samples, params.seed)
    return Agreement(float(right.mean()), low, high, len(pairs), len({pair.conversation_id for pair in pairs}))


def lower_words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def own_words(reply: str, conversation: Sequence[str], run: int) -> list[str]:
    """The words of a reply without those that occur in the conversation in runs of `run` (or as a whole turn)."""
    said = [lower_words(turn) for turn in conversation]
    copied = {tuple(turn[i : i + run]) for turn in said for i in range(max(1, len(turn) - run + 1))}
    own = lower_words(reply)
    is_own = [True] * len(own)
    for i in range(max(1, len(own) - run + 1)):
        if tuple(own[i : i + run]) in copied:
            is_own[i : i + run] = [False] * len(own[i : i + run])
    return [word for word, kept in zip(own, is_own, strict=True) if kept]


def _num_turns(row: dict[str, Any], place: int) -> int:
    return sum(message["role"] != "system" for message in row["messages"][: place + 1])


def analyse_words(pairs: Sequence[ReplyPair], params: JudgeParams) -> tuple[TfidfVectorizer, TruncatedSVD]:
    vectorizer = TfidfVectorizer(
        tokenizer=lower_words,
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        min_df=params.min_document_frequency,
    )
    turns = vectorizer.fit_transform(sorted({message["content"] for pair in pairs for message in pair.given}))
    num_dimensions = min(params.num_dimensions, turns.shape[1] - 1)
    return vectorizer, TruncatedSVD(num_dimensions, random_state=params.seed).fit(turns)


def fit_weights(differences: Floats, inverse_regularization: float) -> Floats:
    """Logistic regression on both orders of each pair [N, F], without intercept (Bradley and Terry 1952)."""
    scale = np.sqrt(np.square(differences).mean(axis=0))
    scale = np.maximum(scale, SMALLEST_SCALE * scale.max() + TINY)
    rows = np.concatenate([differences, -differences]) / scale
    regression = LogisticRegression(C=inverse_regularization, fit_intercept=False, max_iter=1000)
    return np.asarray(regression.fit(rows, np.repeat([1, 0], len(differences))).coef_[0] / scale)


def features(vectorizer: TfidfVectorizer, analysis: TruncatedSVD, copied_words: int, chats: Sequence[Chat]) -> Floats:
    """[N, 2 + 2 D]: similarity of the reply to the last message, and to all earlier ones."""
    before = [[message["content"] for message in chat[:-1]] or [""] for chat in chats]
    own = [
        " ".join(own_words(chat[-1]["content"], said, copied_words)) for chat, said in zip(chats, before, strict=True)
    ]
    last, earlier, reply = (
        vectorizer.transform(texts)
        for texts in ([said[-1] for said in before], [" ".join(said[:-1]) for said in before], own)
    )
    latent_last, latent_earlier, latent_reply = (directions(analysis.transform(x)) for x in (last, earlier, reply))
    return np.hstack(
        [
            np.asarray(last.multiply(reply).sum(axis=1)).reshape(-1, 1),
            np.asarray(earlier.multiply(reply).sum(axis=1)).reshape(-1, 1),
            latent_last * latent_reply,
            latent_earlier * latent_reply,
        ]
    )


def directions(vectors: Floats) -> Floats:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + TINY))
