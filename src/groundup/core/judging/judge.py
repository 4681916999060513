"""A judge of another kind than the reward model: how well a reply fits its conversation.

It learns from which reply a person gave, against one of like length that was given elsewhere. It sees words and what
they have to do with each other (TF-IDF and latent semantic analysis; Deerwester et al. 1990), no length and no order
but one: words copied from the conversation do not count, or an echo would be the best reply of all.
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
NEAR = 30  # a wrong reply is one of this many of nearly the same length, on either side
PAIRS_PER_FOLD = 10  # fewer give no agreement worth the name
SMALLEST_SCALE = 0.01  # of the largest: what hardly varies would get a weight beyond all measure
TINY = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How often the judge, fitted on other conversations, finds the reply that was given: 0.5 is chance."""

    accuracy: float
    accuracy_ci_low: float
    accuracy_ci_high: float
    num_pairs: int
    num_conversations: int


@dataclass(frozen=True)
class ReplyPair:
    """The same conversation so far with the reply that was given, and with one from elsewhere."""

    given: Chat
    wrong: Chat
    conversation_id: str


@dataclass(frozen=True)
class Judge:
    """One judge of all conversations, and one of each resample of them: these say how far the first may be off."""

    vectorizer: TfidfVectorizer
    analysis: TruncatedSVD
    weights: Floats  # [2 + 2 D, 1 + R]
    copied_words: int
    agreement: Agreement

    @classmethod
    def fit(cls, rows: Sequence[dict[str, Any]], params: JudgeParams) -> "Judge":
        """rows: {id, messages}, one a conversation. ValueError where they hold too few replies."""
        pairs = reply_pairs(rows, params)
        needed = PAIRS_PER_FOLD * params.num_folds
        if len(pairs) < needed:
            raise ValueError(
                f"a judge needs at least {needed} replies to learn from ({PAIRS_PER_FOLD} a fold), and its "
                f"{len(rows)} conversations hold {len(pairs)}: raise the split's share in prepare.splits, add "
                "conversations of two, or lower num_folds"
            )
        # Words and what they have to do with each other come from all turns: neither says which reply was given.
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
        """[N]: how well the last message of each chat fits what was said before, in log-odds up to a constant."""
        return self.score_by_resample(chats)[0]

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1 + R, N]: by the judge of all conversations, then by those of each resample."""
        return np.asarray((features(self.vectorizer, self.analysis, self.copied_words, chats) @ self.weights).T)


def judge_error(estimates: Floats) -> float:
    """Standard error of an estimate that is another judge's fault, from its values by resample [R] (the bootstrap).

    Not the jackknife: a win rate jumps where a judge barely prefers one side, and for such the jackknife is too large.
    """
    return float(np.std(estimates, ddof=1))


def reply_pairs(rows: Sequence[dict[str, Any]], params: JudgeParams) -> list[ReplyPair]:
    """Every assistant turn among the first `max_turns`, with a reply of like length from another conversation."""
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
    """held_out [N]: by how much the given reply of each pair scores higher, by a judge without its conversation."""
    right = wins(held_out, np.zeros(len(pairs)))
    conversations = [[pair.conversation_id] for pair in pairs]
    low, high = cluster_bootstrap(right, conversations, params.bootstrap_samples, params.seed)
    return Agreement(float(right.mean()), low, high, len(pairs), len({pair.conversation_id for pair in pairs}))


def lower_words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def own_words(reply: str, conversation: Sequence[str], run: int) -> list[str]:
    """The words of a reply without those that stand in the conversation in runs of `run` (or as all of a turn)."""
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
    """[N, 2 + 2 D]: what the reply has in common with the last message, and with all before that one."""
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
