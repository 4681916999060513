"""Sample replies, score them, and compare them with the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.align.policy import Policy
from groundup.align.tokens import Conversations, token_kl, token_logprobs
from groundup.core.model.branches import Branches, takes_branches
from groundup.core.model.generation import DISTINCT_2_TOKENS, Replies, Sampler, distinct_2, ended_chats
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.engine import RolloutEngine
from groundup.core.rollout.rewards.shaping import shaped_rewards
from groundup.core.training.ranks import gathered, own_share
from groundup.runner.params.align import AlignParams


@dataclass(frozen=True)
class Rollout:
    """Replies of one model to some prompts, with their scores. On the CPU; the models get batches of it."""

    conversations: Conversations
    replies: Replies
    logprobs: Tensor  # [B, T] under the model that sampled
    kl: Tensor  # [B, T] to the reference
    scores: Tensor  # [B] of the reward model, less the mean of the same reply after other prompts
    scores_std: Tensor  # [B] its uncertainty
    ratios: Tensor | None  # [B, T] as in Replies

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], rows: "Sequence[RolledOut]") -> "Rollout":
        replies = Replies(
            [row.tokens for row in rows],
            [row.logprobs for row in rows],
            [row.ended for row in rows],
            [row.ratios for row in rows if row.ratios is not None] or None,
        )
        features = [row.features for row in rows if row.features is not None]
        conversations = Conversations(
            prompts, replies.tokens, pad_sequence(features, batch_first=True) if features else None
        )

        def by_token(values: Sequence[Sequence[float]]) -> Tensor:
            flat = torch.tensor(list(chain.from_iterable(values)))
            return torch.zeros(conversations.mask.shape).masked_scatter(conversations.mask, flat)

        logprobs, kl = by_token(replies.logprobs), by_token([row.kl for row in rows])
        ratios = None if replies.ratios is None else by_token(replies.ratios)
        scores, scores_std = torch.tensor([(row.score, row.score_std) for row in rows]).unbind(1)
        return cls(conversations, replies, logprobs, kl, scores, scores_std, ratios)

    @property
    def mask(self) -> Tensor:
        return self.conversations.mask

    @property
    def answers(self) -> Answers:
        return Answers(self.replies.tokens, self.replies.ended, self.scores, self.scores_std, self.kl.sum(1))

    def summary(self) -> dict[str, float]:
        return {
            "score": self.scores.mean().item(),
            "score_std": self.scores_std.mean().item(),
            "kl": self.kl.sum(1).mean().item(),  # nats per reply
            "reply_length": self.mask.sum(1).float().mean().item(),
            "end_of_turn_rate": sum(self.replies.ended) / len(self.replies.ended),
            "distinct_2": distinct_2(self.replies.tokens, DISTINCT_2_TOKENS),
            "repetition": self.answers.repetition.mean().item(),
        }


class RolledOut(NamedTuple):
    """What a rank found for a prompt. Plain numbers: a tensor would be sent to the others with all of its batch."""

    tokens: list[int]
    logprobs: list[float]
    ended: bool
    kl: list[float]
    score: float
    score_std: float
    features: Tensor | None  # [T, H] of its own
    ratios: list[float] | None


class RolloutWorker:
    """Makes rollouts; holds everything needed for that but the sampling model."""

    def __init__(
        self,
        policy: Policy,
        scorer: RewardScorer,
        tokenizer: PreTrainedTokenizerFast,
        params: AlignParams,
        engine: RolloutEngine,
    ) -> None:
        self.policy = policy
        self.scorer = scorer
        self.tokenizer = tokenizer
        self.engine = engine
        rollout = params.rollout
        self.sampler = Sampler.of(tokenizer, rollout.max_new_tokens, rollout.temperature, rollout.batch_size)
        self.num_elsewhere = rollout.num_elsewhere
        self.terms = params.rewards
        self.forward_batch_size = params.forward_batch_size
        self.has_features = params.method == "ppo" and params.ppo.value_trunk == "shared"

    @torch.no_grad()
    def roll_out(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int) -> Rollout:
        """One reply per prompt; the same model and seed give the same replies. Ranks share the prompts."""
        own = own_share(range(len(prompts)))
        self.engine.push(self.policy.source(model))
        return Rollout.of(prompts, gathered(self._rows(prompts, seed, own) if own else []))

    def _rows(self, prompts: Sequence[Sequence[int]], seed: int, places: Sequence[int]) -> list[RolledOut]:
        """Of the prompts at `places`."""
        replies = self.engine.generate(prompts, seed, self.sampler, places)
        conversations = Conversations([prompts[i] for i in places], replies.tokens)
        flat_logprobs = torch.tensor(list(chain.from_iterable(replies.logprobs)))
        logprobs = torch.zeros(conversations.mask.shape).masked_scatter(conversations.mask, flat_logprobs)
        kl = token_kl(logprobs, self._reference_logprobs(conversations)).tolist()
        hidden = self._reward_model_hidden(conversations, replies.ended)
        scores, scores_std = self.scorer.read(hidden)
        scores = scores - self._scores_elsewhere(self._others(prompts, places), replies.tokens, replies.ended)
        features: list[Tensor | None] = [None] * len(places)
        ratios: Sequence[list[float] | None] = replies.ratios or [None] * len(places)
        if self.has_features:
            features = [x[: len(reply)].clone() for x, reply in zip(hidden, replies.tokens, strict=True)]
        return [
            RolledOut(tokens, own_logprobs, ended, own_kl[: len(tokens)], score, std, states, own_ratios)
            for tokens, own_logprobs, ended, own_kl, score, std, states, own_ratios in zip(
                replies.tokens,
                replies.logprobs,
                replies.ended,
                kl,
                scores.tolist(),
                scores_std.tolist(),
                features,
                ratios,
                strict=True,
            )
        ]

    def _reference_logprobs(self, conversations: Conversations) -> Tensor:
        logprobs = torch.zeros(conversations.mask.shape)
        with self.policy.reference() as reference:
            for rows, batch in conversations.batches(range(len(logprobs)), self.forward_batch_size, reference.device):
                logprobs[rows] = token_logprobs(reference, batch, self.sampler.temperature)[0].cpu()
        return logprobs

    def rewards(self, answers: Answers, reference_length: float) -> Tensor:
        """[B] that training maximizes, without the KL penalty; validation computes its own."""
        return shaped_rewards(answers, reference_length, self.terms)

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        replies: Sequence[Sequence[int]],
        ended: Sequence[bool],
        places: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score and its std [B] of replies to the prompts, or to those at `places` alone.

        It is that of the reward model, less the mean after other prompts.
        """
        places = range(len(prompts)) if places is None else places
        own = [prompts[i] for i in places]
        scores, scores_std = self.scorer.score(ended_chats(own, replies, ended, self.sampler.eos_token_id))
        others = self._others(prompts, places)
        return scores - self._scores_elsewhere(others, replies, ended), scores_std

    def _others(self, prompts: Sequence[Sequence[int]], places: Sequence[int]) -> list[list[Sequence[int]]]:
        """As other_prompts, for those at `places` alone."""
        return [[row[i] for i in places] for row in other_prompts(prompts, self.num_elsewhere)]

    def _scores_elsewhere(
        self,
        others: Sequence[Sequence[Sequence[int]]],
        replies: Sequence[Sequence[int]],
        ended: Sequence[bool],
    ) -> Tensor:
        """[B]: what each reply scores in the mean after other prompts: by its length, a greeting or a question."""
        tails = ended_chats([[]] * len(replies), replies, ended, self.sampler.eos_token_id)
        behind: dict[tuple[int, ...], list[int]] = {}  # places of the replies that are scored after a prompt
        for place, prompt in enumerate(chain.from_iterable(others)):
            behind.setdefault(tuple(prompt), []).append(place % len(replies))
        items = [Branches(list(prompt), [tails[place] for place in places]) for prompt, places in behind.items()]
        places = torch.tensor(list(chain.from_iterable(behind.values())), dtype=torch.long)
        total = torch.zeros(len(replies)).index_add(0, places, self.scorer.score_replies(items)[0])
        return total / max(1, len(others))

    def tokens_elsewhere(self, prompts: Sequence[Sequence[int]], num_reply_tokens: int) -> int:
        """Number of tokens that the reward model reads to score the replies to these prompts after other ones."""
        num = min(self.num_elsewhere, len(set(map(tuple, prompts))) - 1)
        if num <= 0:
            return 0
        once = takes_branches(self.scorer.model)
        read = sum(map(len, set(map(tuple, prompts)))) if once else num * sum(map(len, prompts))
        return read + num * num_reply_tokens

    def _reward_model_hidden(self, conversations: Conversations, ended: Sequence[bool]) -> list[Tensor]:
        """Hidden states of the reward model at each chat's end; with a shared trunk, also before each reply token."""
        chats = ended_chats(conversations.prompts, conversations.replies, ended, self.sampler.eos_token_id)
        num_last = [1] * len(chats)
        if self.has_features:
            num_last = [len(chat) - len(prompt) + 1 for chat, prompt in zip(chats, conversations.prompts, strict=True)]
        return self.scorer.hidden(chats, num_last)


def other_prompts(prompts: Sequence[Sequence[int]], num: int) -> list[list[Sequence[int]]]:
    """`num` times one other prompt for each, the same for equal prompts; fewer times if few prompts differ.

    Replies to one prompt are compared with each other, so they must be scored after the same other prompts.
    """
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    places = {prompt: place for place, prompt in enumerate(distinct)}
    num = min(num, len(distinct) - 1)
    shifts = [len(distinct) * k // (num + 1) for k in range(1, num + 1)]
    return [[distinct[(places[tuple(prompt)] + shift) % len(distinct)] for prompt in prompts] for shift in shifts]
