"""Running replies of one model: new ones join and finished ones leave between forward passes."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from groundup.app.serve.slots import make_slots
from groundup.core.decoding import Decoding
from groundup.core.decoding.sampling import choose
from groundup.core.model.generation import next_token_logprobs, put_uniforms
from groundup.core.model.head import output_logits

PREFILL_TOKENS = 1024  # of prompts that join together: running replies wait for them
LEAST_LOGPROB = -9999.0  # OpenAI's value for an impossible token


@dataclass(frozen=True)
class Token:
    """One step of a reply."""

    id: int
    logprob: float  # under the model itself: temperature 1, no filter, no penalty
    top: list[tuple[int, float]]  # the likeliest tokens, most likely first
    finish_reason: str | None  # stop (end-of-turn) or length, only with the last token


@dataclass(eq=False)
class Generation:
    """One requested reply."""

    prompt: tuple[int, ...]
    sampling: Decoding
    max_new_tokens: int
    num_top: int  # number of likeliest tokens to return per step
    uniforms: Tensor  # [max_new_tokens], one number per token, so that other replies cannot change this one
    tokens: list[int] = field(default_factory=list)
    cancelled: bool = False  # no client waits for it: its slot is freed before the next step


Event = tuple[Generation, Token | Exception]


class Batch:
    """Replies of one model that share forward passes, and replies that wait for a slot."""

    def __init__(self, model: PreTrainedModel, eos_token_id: int, num_slots: int) -> None:
        self.model = model
        self.eos_token_id = eos_token_id
        self.slots = make_slots(model.base_model, num_slots)
        self.waiting: deque[Generation] = deque()
        self.running: list[Generation] = []  # in the order of the slots

    @property
    def num_free(self) -> int:
        return self.slots.num_slots - len(self.running)

    def drop_cancelled(self) -> None:
        self.waiting = deque(generation for generation in self.waiting if not generation.cancelled)
        self._remove({generation for generation in self.running if generation.cancelled})

    def next_to_join(self) -> list[Generation]:
        """Take those that have waited longest out of the queue, up to the number of free slots."""
        joining: list[Generation] = []
        num_tokens = 0
        while self.waiting and len(joining) < self.num_free:
            num_tokens += len(self.waiting[0].prompt)
            if joining and num_tokens > PREFILL_TOKENS:
                break
            joining.append(self.waiting.popleft())
        return joining

    @torch.no_grad()
    def step(self, joining: Sequence[Generation]) -> Iterator[Event]:
        """The first token of joining replies, then one more of every reply; finished replies leave."""
        if joining:
            yield from self._emit(joining, self._prefill(joining))
        if self.running:
            newest = torch.tensor([generation.tokens[-1] for generation in self.running], device=self.model.device)
            yield from self._emit(self.running, self.slots.step(newest))

    def stop(self) -> list[Generation]:
        """Free all slots; returns the replies that had one."""
        stopped, self.running = self.running, []
        self.slots.clear()
        return stopped

    def _prefill(self, joining: Sequence[Generation]) -> Tensor:
        """Final hidden states [B, H] of the last prompt tokens; a prompt shared by replies is computed once."""
        prompts = list(dict.fromkeys(generation.prompt for generation in joining))
        self.running += joining
        return self.slots.join(prompts, [prompts.index(generation.prompt) for generation in joining])

    def _emit(self, generations: Sequence[Generation], hidden: Tensor) -> Iterator[Event]:
        logits = output_logits(self.model, hidden)
        logprobs = next_token_logprobs(self.model, logits, 1.0)
        num_top = max(generation.num_top for generation in generations)
        top_values, top_ids = (x.tolist() for x in logprobs.topk(num_top, dim=-1))
        tokens = self._choose(generations, logits)
        chosen = logprobs.gather(1, tokens[:, None])[:, 0].tolist()
        if not all(map(math.isfinite, chosen)):
            raise ValueError("the model gives no finite probabilities, so its weights have diverged")
        ended = set()
        for row, generation in enumerate(list(generations)):
            token = int(tokens[row])
            generation.tokens.append(token)
            finish_reason = (
                "stop"
                if token == self.eos_token_id
                else "length"
                if len(generation.tokens) == generation.max_new_tokens
                else None
            )
            if finish_reason:
                ended.add(generation)
            top = zip(top_ids[row][: generation.num_top], top_values[row], strict=False)
            yield (
                generation,
                Token(
                    token,
                    max(chosen[row], LEAST_LOGPROB),
                    [(other, max(value, LEAST_LOGPROB)) for other, value in top],
                    finish_reason,
                ),
            )
        self._remove(ended)

    def _choose(self, generations: Sequence[Generation], logits: Tensor) -> Tensor:
        """The next token [B] of each reply; rows with the same settings share one call."""
        rows_of: dict[Decoding, list[int]] = {}
        for row, generation in enumerate(generations):
            rows_of.setdefault(generation.sampling, []).append(row)
        tokens = torch.empty(len(generations), dtype=torch.long, device=logits.device)
        for sampling, rows in rows_of.items():
            of_rows = [generations[row] for row in rows]
            uniforms = torch.stack([generation.uniforms[len(generation.tokens)] for generation in of_rows])
            # Padding is never sampled, so the repetition penalty on it has no effect.
            written = pad_sequence(
                [torch.tensor(generation.tokens, dtype=torch.long) for generation in of_rows],
                batch_first=True,
                padding_value=self.model.config.pad_token_id,
            )
            device = logits.device
            tokens[rows] = choose(
                self.model, logits[rows], written.to(device), put_uniforms(uniforms, device), sampling
            )
        return tokens

    def _remove(self, gone: set[Generation]) -> None:
        for row in reversed(range(len(self.running))):
            if self.running[row] in gone:
                self.slots.remove(row)
                self.running[row] = self.running[-1]
                self.running.pop()
