"""Likelihood of several replies to one prompt, for which the prompt is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from groundup.core.model.branches import Branches, BranchRows, as_rows, takes_branches
from groundup.core.model.forward import require_positions
from groundup.core.model.head import output_logits
from groundup.core.model.likelihood import HEAD_ROWS
from groundup.core.training.ranks import by_share


@dataclass(frozen=True)
class BranchScore:
    token_nats: torch.Tensor  # [T] fp64, on the CPU: negative log-likelihood of each token of the reply
    greedy: bool  # whether each of its tokens is the likeliest one

    @property
    def nats(self) -> float:
        return self.token_nats.sum().item()


def branch_scores(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[BranchScore]]:
    """Scores of every reply, in the given order."""
    scores = chain.from_iterable(_in_batches(model, as_rows(model, items), batch_size))
    return [list(islice(scores, len(item.replies))) for item in items]


def _in_batches(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[BranchScore]]:
    found: list[list[BranchScore]] = [[] for _ in items]
    order = sorted(range(len(items)), key=lambda i: num_inputs(items[i]), reverse=True)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        for i, scores in zip(rows, batch_scores(model, [items[i] for i in rows]), strict=True):
            found[i] = scores
    return found


def num_inputs(item: Branches) -> int:
    """The last token of a reply is predicted but not an input."""
    return item.num_tokens - len(item.replies)


def branch_nats(model: PreTrainedModel, items: Sequence[Branches], batch_size: int) -> list[list[float]]:
    """The negative log-likelihood of every reply, in nats. Ranks share the items."""
    return [[nats for nats, _ in scores] for scores in shared_scores(model, items, batch_size)]


def shared_scores(
    model: PreTrainedModel, items: Sequence[Branches], batch_size: int
) -> list[list[tuple[float, bool]]]:
    """(nats, greedy) of every reply. Ranks share the items."""

    def find(own: Sequence[Branches]) -> list[list[tuple[float, bool]]]:
        return [[(score.nats, score.greedy) for score in scores] for scores in branch_scores(model, own, batch_size)]

    return by_share(find, items)


@torch.no_grad()
def batch_scores(model: PreTrainedModel, batch: Sequence[Branches]) -> list[list[BranchScore]]:
    """The same for one batch, a row per item."""
    device = model.device
    rows = BranchRows.of([Branches(item.prompt, [reply[:-1] for reply in item.replies]) for item in batch])
    sources = [  # (row, column) whose output predicts each scored token
        (row, column) for row, start, end in rows.spans for column in (len(batch[row].prompt) - 1, *range(start, end))
    ]
    if not takes_branches(model):
        require_positions(model.base_model, rows.ids.shape[1])
    hidden = model.base_model(**rows.inputs(model), use_cache=False).last_hidden_state
    row_index, column_index = torch.tensor(sources, device=device).T
    targets = torch.tensor([token for item in batch for reply in item.replies for token in reply], device=device)
    nats, likeliest = [], []
    for states, labels in zip(hidden[row_index, column_index].split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True):
        logits = output_logits(model, states).float()
        nats.append(F.cross_entropy(logits, labels, reduction="none").cpu().double())  # mps has no fp64
        likeliest.append(logits.gather(-1, labels[:, None])[:, 0] == logits.amax(-1))
    lengths = [len(reply) for item in batch for reply in item.replies]
    scores = iter(
        BranchScore(values, bool(same.all()))
        for values, same in zip(torch.cat(nats).split(lengths), torch.cat(likeliest).split(lengths), strict=True)
    )
    return [[next(scores) for _ in item.replies] for item in batch]
