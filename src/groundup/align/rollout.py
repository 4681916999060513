"""Sample replies, score them, and compare them with the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

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
from groundup.core.rollout.rewards.shaping import shaped_rewards
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


class RolloutWorker:
    """Makes rollouts; holds everything needed for that but the sampling model."""

    def __init__(
        self, policy: Policy, scorer: RewardScorer, tokenizer: PreTrainedTokenizerFast, params: AlignParams
    ) -> None:
        self.policy = policy
        self.scorer = scorer
        self.tokenizer = tokenizer
        rollout = params.rollout
        self.sampler = Sampler.of(tokenizer, rollout.max_new_tokens, rollout.temperature, rollout.batch_size)
        self.num_elsewhere = rollout.num_elsewhere
        self.terms = params.rewards
        self.forward_batch_size = params.forward_batch_size
        self.has_features = params.method == "ppo" and params.ppo.value_trunk == "shared"

    @torch.no_grad()
    def roll_out(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int) -> Rollout:
        """One reply per prompt; the same model and seed give the same replies."""
        replies = self.sampler.sample(model, prompts, seed)
        conversations = Conversations(prompts, replies.tokens)
        flat_logprobs = torch.tensor(list(chain.from_iterable(replies.logprobs)))
        logprobs = torch.zeros(conversations.mask.shape).masked_scatter(conversations.mask, flat_logprobs)
        hidden = self._reward_model_hidden(conversations, replies.ended)
        scores, scores_std = self.scorer.read(hidden)
        scores = scores - self._scores_elsewhere(prompts, replies.tokens, replies.ended)
        if self.has_features:
            states = [x[: len(reply)] for x, reply in zip(hidden, replies.tokens, strict=True)]
            conversations = replace(conversations, features=pad_sequence(states, batch_first=True))
        return Rollout(
            conversations,
            replies,
            logprobs,
            kl=token_kl(logprobs, self._reference_logprobs(conversations)),
            scores=scores,
            scores_std=scores_std,
        )

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
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], ended: Sequence[bool]
    ) -> tuple[Tensor, Tensor]:
        """Score and its std [B]: of the reward model, less the mean after other prompts."""
        scores, scores_std = self.scorer.score(ended_chats(prompts, replies, ended, self.sampler.eos_token_id))
        return scores - self._scores_elsewhere(prompts, replies, ended), scores_std

    def _scores_elsewhere(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], ended: Sequence[bool]
    ) -> Tensor:
        """[B]: what each reply scores in the mean after other prompts: by its length, a greeting or a question."""
        others = other_prompts(prompts, self.num_elsewhere)
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
