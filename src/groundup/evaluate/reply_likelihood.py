"""Likelihood of several replies to one prompt, for which the prompt is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel

from groundup.core.model.forward import require_positions
from groundup.core.model.head import output_logits


@dataclass(frozen=True)
class Branches:
    prompt: list[int]
    replies: list[list[int]]

    @property
    def num_inputs(self) -> int:
        """Number of input tokens; the last token of a reply is predicted but not an input."""
        return len(self.prompt) + sum(len(reply) - 1 for reply in self.replies)


@dataclass(frozen=True)
class BranchScore:
    token_nats: torch.Tensor  # [T] fp64, on the CPU: negative log-likelihood of each token of the reply
    greedy: bool  # whether each of its tokens is the likeliest one

    @property
    def nats(self) -> float:
        return self.token_nats.sum().item()


def branch_scores(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[BranchScore]]:
    """Scores of every reply, in the given order."""
    if not takes_branches(model):
        alone = [Branches(item.prompt, [reply]) for item in items for reply in item.replies]
        scores = (score for (score,) in _in_batches(model, alone, batch_size))
        return [list(islice(scores, len(item.replies))) for item in items]
    return _in_batches(model, items, batch_size)


def takes_branches(model: PreTrainedModel) -> bool:
    """Whether replies can share a prompt's row: where a mask alone decides what a token sees. Sliding windows count
    columns too, and a prompt and its last reply would be far apart.
    """
    return isinstance(model, LlamaForCausalLM)


def _in_batches(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[BranchScore]]:
    found: list[list[BranchScore]] = [[] for _ in items]
    order = sorted(range(len(items)), key=lambda i: items[i].num_inputs, reverse=True)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        for i, scores in zip(rows, batch_scores(model, [items[i] for i in rows]), strict=True):
            found[i] = scores
    return found


def branch_nats(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[float]]:
    """The negative log-likelihood of every reply, in nats."""
    return [[score.nats for score in scores] for scores in branch_scores(model, items, batch_size)]


@torch.no_grad()
def batch_scores(model: PreTrainedModel, batch: Sequence[Branches]) -> list[list[BranchScore]]:
    """One row per item: the prompt, then its replies, each of which sees only the prompt and itself."""
    device = model.device
    width = max(item.num_inputs for item in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    positions = torch.zeros(len(batch), width, dtype=torch.long)
    branch = torch.full((len(batch), width), -1)  # 0 for the prompt, then a number per reply, -1 for padding
    sources: list[tuple[int, int]] = []  # (row, column) whose output predicts each scored token
    for row, item in enumerate(batch):
        column = len(item.prompt)
        ids[row, :column] = torch.tensor(item.prompt)
        positions[row, :column] = torch.arange(column)
        branch[row, :column] = 0
        for number, reply in enumerate(item.replies, start=1):
            end = column + len(reply) - 1
            ids[row, column:end] = torch.tensor(reply[:-1], dtype=torch.long)
            positions[row, column:end] = torch.arange(len(reply) - 1) + len(item.prompt)
            branch[row, column:end] = number
            sources += [(row, len(item.prompt) - 1), *((row, source) for source in range(column, end))]
            column = end
    if takes_branches(model):
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = causal & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))  # [B, T, T]
        seen = {"attention_mask": visible[:, None].to(device), "position_ids": positions.to(device)}
    else:  # one reply per row: what is causal sees no padding
        require_positions(model.base_model, width)
        seen = {}
    hidden = model.base_model(ids.to(device), **seen, use_cache=False).last_hidden_state
    row_index, column_index = torch.tensor(sources, device=device).T
    logits = output_logits(model, hidden[row_index, column_index]).float()
    targets = torch.tensor([token for item in batch for reply in item.replies for token in reply], device=device)
    nats = F.cross_entropy(logits, targets, reduction="none").cpu().double()  # mps has no fp64
    lengths = [len(reply) for item in batch for reply in item.replies]
    likeliest = (logits.gather(-1, targets[:, None])[:, 0] == logits.amax(-1)).split(lengths)
    scores = iter(
        BranchScore(values, bool(same.all())) for values, same in zip(nats.split(lengths), likeliest, strict=True)
    )
    return [[next(scores) for _ in item.replies] for item in batch]
