"""Time each kind of work of the stages on a model with random weights."""

import copy
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from groundup.app.plan.lengths import Lengths
from groundup.app.plan.open_model import random_model
from groundup.app.plan.timing import timed
from groundup.app.plan.workload import num_wrong_replies
from groundup.core.model.branches import Branches, as_rows, reply_states
from groundup.core.model.generation import Sampler
from groundup.core.model.llama import num_parameters
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.adapters import add_adapter
from groundup.core.training.runtime import LIGHTNING_PRECISION
from groundup.pretrain.optimizer import build_optimizer
from groundup.pretrain.pretrain import PretrainModule
from groundup.runner.params import Params
from groundup.runner.params.training import LoraParams

# On a CPU, a large model does a part of a batch or reply, and the time of the whole follows.
MEASURED_FLOPS, MEASURED_STEPS = 1e11, 8
READ_ROWS = 16


@dataclass(frozen=True)
class Planned:
    """What is measured: models by their configs, and lengths in tokens."""

    config: PreTrainedConfig
    judge: PreTrainedConfig | None
    lengths: Lengths
    side: int  # of a reward pair
    context_length: int


class Measurement:
    """Of a model with this config, at the shapes of the params; seconds each."""

    def __init__(self, params: Params, config: PreTrainedConfig, device: torch.device, planned: Planned) -> None:
        self.params = params
        self.config = config
        self.device = device
        self.planned = planned
        self.model = random_model(config, device)
        self.num_weights = num_parameters(self.model)
        self.is_bf16 = LIGHTNING_PRECISION[params.runtime.precision] == "bf16-mixed"

    def rates(self) -> tuple[float, ...]:
        """The fields of Rates."""
        params, lengths = self.params, self.planned.lengths
        a = params.align
        pretrain = self.pretraining()
        sft = self.fine_tuning()
        pair, scorer = self.pairs()
        chat = round(lengths.prompt + lengths.reply_share * a.rollout.max_new_tokens)
        ppo = self.learning(a.lora, a.forward_batch_size, chat)
        trained = (*pretrain, sft, self.adamw(), pair, ppo)
        in_fp32 = self.looking(scorer)
        with self.autocast():
            rolled_out = self.looking(scorer) if self.is_bf16 else in_fp32
        return (*trained, *in_fp32, *rolled_out, 0.0)

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.is_bf16 else nullcontext()

    def fitting(self, rows: int, length: int) -> int:
        """Rows of a run that takes about a second."""
        most = MEASURED_FLOPS / (6 * self.num_weights * length)
        return rows if self.device.type != "cpu" else max(1, min(rows, int(most)))

    def tokens(self, rows: int, length: int) -> torch.Tensor:
        return torch.randint(1, self.config.vocab_size, (rows, length), device=self.device)

    def pretraining(self) -> tuple[float, float]:
        """(a batch, an optimizer step); zero if no steps are taken."""
        p, context = self.params.pretrain, self.params.model.context_length
        if p.num_steps == 0:
            return 0.0, 0.0
        model = random_model(self.config, self.device)
        if p.lora:
            add_adapter(model, p.lora)
        module = PretrainModule(model, p, compiled=self.device.type == "cuda")
        optimizer = build_optimizer(model, p)
        rows = self.fitting(p.batch_size, context)
        positions = torch.arange(context, device=self.device) % round(self.planned.lengths.document)
        packed = {"input_ids": self.tokens(rows, context), "position_ids": positions.repeat(rows, 1)}

        def batch() -> None:
            with self.autocast(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*self.log.*")
                loss = module.training_step(packed, 0)
            loss.backward()

        seconds = timed(batch, self.device) * p.batch_size / rows
        return seconds, timed(lambda: optimizer.step() and None, self.device)

    def fine_tuning(self) -> float:
        """A batch of TRL's trainer: packed rows one after the other, and its own loss, which has figures beside it."""
        s, length = self.params.sft, min(self.params.sft.max_length, self.params.model.context_length)
        model = random_model(self.config, self.device)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if s.lora:
            add_adapter(model, s.lora)
        rows = self.fitting(s.batch_size, length)
        ids = self.tokens(1, rows * length)
        positions = torch.arange(length, device=self.device) % round(self.planned.lengths.example)

        def batch() -> None:
            with self.autocast():
                found = model(input_ids=ids, position_ids=positions.repeat(rows)[None], labels=ids, fused_lm_head=True)
            found.log_probs.sum().backward()

        return timed(batch, self.device) * s.batch_size / rows

    def learning(self, lora: LoraParams | None, rows: int, length: int) -> float:
        """Forward and backward with all logits; with LoRA, of a model whose other weights are frozen."""
        model = random_model(self.config, self.device)
        if lora:
            add_adapter(model, lora)
        few = self.fitting(rows, length)
        ids = self.tokens(few, length)

        def work() -> None:
            with self.autocast():
                logits = model(input_ids=ids, use_cache=False).logits
            cross_entropy(logits.flatten(0, 1).float(), ids.flatten()).backward()

        return timed(work, self.device) * rows / few

    def adamw(self) -> float:
        """A step of all weights."""
        for weight in self.model.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0)
        seconds = timed(lambda: optimizer.step() and None, self.device)
        self.model.zero_grad()
        return seconds

    def pairs(self) -> tuple[float, PreTrainedModel]:
        """A token that the reward model learns from, and that model."""
        params, side = self.params.reward, min(self.planned.side, self.params.model.context_length)
        config = copy.deepcopy(self.config)
        config.num_labels, config.pad_token_id = 1, 0
        with self.device:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        decoder = model.base_model
        if params.lora:
            add_adapter(model, params.lora)
        reply = round(self.planned.lengths.reply_share * self.params.align.rollout.max_new_tokens)
        item = Branches([1] * max(1, side - reply), [[1] * max(1, reply)] * (1 + num_wrong_replies(self.params)))
        num_tokens = sum(row.num_tokens for row in as_rows(decoder, [item]))
        few = self.fitting(params.batch_size, num_tokens)

        def batch() -> None:
            with self.autocast():
                scores = model.score(reply_states(decoder, [item] * few))
            scores.float().sum().backward()

        seconds = timed(batch, self.device) / (few * num_tokens)
        model.zero_grad()
        return seconds, model

    def looking(self, reward: PreTrainedModel) -> tuple[float, float, float]:
        """(a token read, a token scored, a reply)"""
        lengths, rollout = self.planned.lengths, self.params.align.rollout
        side = min(self.planned.side, self.params.model.context_length)
        chats = self.tokens(self.fitting(READ_ROWS, side), side).tolist()
        scorer = RewardScorer(reward)
        score = timed(lambda: scorer.hidden(chats, [1] * len(chats)) and None, self.device)
        replies = max(1, round(lengths.reply_share * rollout.batch_size))
        reply = self.sampling([[1] * round(lengths.prompt)] * replies, rollout.max_new_tokens)
        return self.read_token(), score / (len(chats) * side), reply / rollout.batch_size

    def read_token(self) -> float:
        length = min(round(self.planned.lengths.document), self.planned.context_length)
        ids = self.tokens(self.fitting(READ_ROWS, length), length)

        def read() -> None:
            with torch.no_grad():
                self.model(input_ids=ids, use_cache=False)

        return timed(read, self.device) / ids.numel()

    def sampling(self, prompts: list[list[int]], max_new_tokens: int) -> float:
        """Answers to all prompts, of `max_new_tokens` each."""

        def seconds(num_tokens: int) -> float:
            sampler = Sampler(-1, 0, num_tokens, temperature=1.0, batch_size=len(prompts))
            return timed(lambda: sampler.sample(self.model, prompts, seed=0), self.device)

        flops = 2 * self.num_weights * len(prompts) * max_new_tokens
        if self.device.type != "cpu" or flops < MEASURED_FLOPS or max_new_tokens <= MEASURED_STEPS:
            return seconds(max_new_tokens)
        first, some = seconds(1), seconds(MEASURED_STEPS)
        return some + (max_new_tokens - MEASURED_STEPS) * max(0.0, some - first) / (MEASURED_STEPS - 1)
