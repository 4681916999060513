"""A small transformer that reads conversation and reply together, trained to prefer the given one of a pair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from bench.compare_judges.likelihood import (
    MAX_TOKENS,
    NOTHING,
    NUM_OTHERS,
    CopiedWords,
    Tokens,
    line,
    lines,
    others_of,
)
from groundup.core.formats.chat_format import reply_start
from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Chat
from groundup.core.judging.others import Others, kind_of
from groundup.core.judging.pairs import reply_pairs
from groundup.core.judging.statistics import Floats
from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.core.model.scoring import RewardScorer
from groundup.evaluate.controls import with_replies
from groundup.runner.params.judge import JudgeParams

NUM_EPOCHS = 3
BATCH_SIZE = 32  # pairs
SCORE_BATCH_SIZE = 64
LEARNING_RATE = 5e-4  # at its height; it falls to 0
WARMUP = 0.1  # share of the steps
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class CrossEncoder:
    """The score in a conversation, less its mean over others at the same point."""

    scorer: RewardScorer
    tokenizer: PreTrainedTokenizerFast
    copied: CopiedWords | None
    others: Others
    means: dict[tuple[int, str], float] = field(default_factory=dict)  # by kind and reply, as they are met

    @classmethod
    def fit(
        cls,
        rows: Sequence[Row],
        base: Path,
        tokenizer: PreTrainedTokenizerFast,
        copied: CopiedWords | None,
        params: JudgeParams,
    ) -> "CrossEncoder":
        """Each epoch has other wrong replies."""
        torch.manual_seed(params.seed)
        model = LlamaForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
        epochs = [
            reply_pairs(rows, params.model_copy(update={"seed": params.seed + epoch})) for epoch in range(NUM_EPOCHS)
        ]
        batches = [
            [pairs[i] for i in order[start : start + BATCH_SIZE]]
            for pairs in epochs
            for order in [torch.randperm(len(pairs)).tolist()]
            for start in range(0, len(pairs), BATCH_SIZE)
        ]
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        warmup = max(1, round(WARMUP * len(batches)))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (len(batches) - step) / len(batches))
        )
        for batch in batches:
            chats = [chat for pair in batch for chat in (pair.given, pair.wrong)]
            given, wrong = _scores(model, [sequence(tokenizer, chat, copied) for chat in chats]).view(-1, 2).unbind(1)
            optimizer.zero_grad()
            (-logsigmoid(given - wrong)).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        scorer = RewardScorer(model.requires_grad_(False), SCORE_BATCH_SIZE)
        return cls(scorer, tokenizer, copied, others_of(rows, params))

    def score(self, chats: Sequence[Chat]) -> Floats:
        keys = [(kind_of(chat[:-1]), chat[-1]["content"]) for chat in chats]
        met = [key for key in dict.fromkeys(keys) if key not in self.means]
        moved = [chat for kind, reply in met for chat in with_replies(self.others[kind], [reply] * NUM_OTHERS)]
        scores = self._raw([*chats, *moved])
        means = scores[len(chats) :].reshape(len(met), NUM_OTHERS).mean(axis=1)
        self.means.update(zip(met, means.tolist(), strict=True))
        found = scores[: len(chats)] - np.array([self.means[key] for key in keys])
        return np.where([self._says_nothing(chat) for chat in chats], NOTHING, found)

    def _says_nothing(self, chat: Chat) -> bool:
        return self.copied is not None and not self.copied.lacks(self.tokenizer, chat)[:-1].any()

    def _raw(self, chats: Sequence[Chat]) -> Floats:
        return np.asarray(
            self.scorer.score([sequence(self.tokenizer, chat, self.copied) for chat in chats])[0].double().numpy()
        )


def sequence(tokenizer: PreTrainedTokenizerFast, chat: Chat, copied: CopiedWords | None) -> Tokens:
    """With a marker before the reply; its copied words are left out."""
    reply = line(tokenizer, chat[-1]["content"])
    if copied is not None:
        reply = [token for token, kept in zip(reply, copied.lacks(tokenizer, chat), strict=True) if kept]
    reply = reply[: MAX_TOKENS // 2]
    before = lines(tokenizer, chat[:-1], MAX_TOKENS - 3 - len(reply))
    return [tokenizer.bos_token_id, *before, *reply_start(tokenizer), *reply, tokenizer.eos_token_id]


def _scores(model: LlamaForSequenceClassification, sequences: Sequence[Tokens]) -> torch.Tensor:
    """[N], with gradients."""
    attention = PackedAttention([len(ids) for ids in sequences], model.device)
    ids = torch.tensor([token for ids in sequences for token in ids])
    return model.score(hidden_states(model.model, ids, attention, attention.ends))[:, 0]
