"""The processes that train together, as torch.distributed connects them: their shares, sums and means.

With one process a share is the whole. Every process has to make the same calls.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn

S = TypeVar("S")
T = TypeVar("T")


def own_rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def num_ranks() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def num_ranks_here() -> int:
    """Those of this machine. Every rank has to ask."""
    return joined([platform.node()]).count(platform.node())


def is_first() -> bool:
    """Whether this is the one that writes."""
    return own_rank() == 0


def own_share(rows: Sequence[T]) -> Sequence[T]:
    return rows[own_rank() :: num_ranks()]


def gathered(share: Sequence[T]) -> list[T]:
    """What all ranks found for their shares of some rows, in the order of those rows."""
    if num_ranks() == 1:
        return list(share)
    shares = cast("list[Sequence[T]]", [()] * num_ranks())
    distributed.all_gather_object(shares, list(share))
    return [shares[place % len(shares)][place // len(shares)] for place in range(sum(map(len, shares)))]


def by_share(find: Callable[[Sequence[T]], Sequence[S]], rows: Sequence[T]) -> list[S]:
    """find(rows), of which each rank finds its own_share.

    `find` returns plain values: a part of a tensor would be sent with all of it.
    """
    return gathered(find(own_share(rows)))


def joined(rows: Sequence[T]) -> list[T]:
    """Those of all ranks, one rank after the other, where each has its own stretch and not its own_share."""
    if num_ranks() == 1:
        return list(rows)
    stretches = cast("list[Sequence[T]]", [()] * num_ranks())
    distributed.all_gather_object(stretches, list(rows))
    return [row for stretch in stretches for row in stretch]


def own_stretch(num_rows: int) -> range:
    """Places in `joined` of this rank's rows, of which each rank has as many."""
    return range(own_rank() * num_rows, (own_rank() + 1) * num_rows)


def by_block(find: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """find(rows) of rows that all ranks have: each rank finds a block of them.

    `find` gives one row for each, and takes rows of zeros too, which fill up the last blocks.
    """
    if num_ranks() == 1:
        return find(rows)
    size = -(-len(rows) // num_ranks())
    padded = torch.cat([rows, rows.new_zeros(size * num_ranks() - len(rows), *rows.shape[1:])])
    part = find(padded[own_rank() * size : (own_rank() + 1) * size]).contiguous()
    found = part.new_empty(size * num_ranks(), *part.shape[1:])
    distributed.all_gather_into_tensor(found, part)
    return found[: len(rows)]


def total(value: Tensor) -> Tensor:
    """Its sum over all ranks."""
    if num_ranks() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def wait() -> None:
    """Until all ranks are here."""
    total(torch.zeros(()))


@contextmanager
def calling(model: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """`model(...)` is `forward(...)` inside the context, also of a model that is wrapped to bring ranks together.

    A wrapper adds up the gradients of what has gone through it.
    """
    before = model.__dict__.get("forward")
    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def add_gradients(weights: Iterable[Tensor]) -> None:
    """Every rank has the gradients of its share of a loss: afterwards, those of the loss."""
    if num_ranks() > 1:
        for weight in weights:
            if weight.grad is None:  # this rank's share is empty
                weight.grad = torch.zeros_like(weight)
            distributed.all_reduce(weight.grad)


def sums(values: Mapping[str, float]) -> dict[str, float]:
    """Of each value, over all ranks, which have the same names."""
    if num_ranks() == 1:
        return dict(values)
    found = total(torch.tensor(list(values.values()), dtype=torch.float64))
    return dict(zip(values, found.tolist(), strict=True))


def means(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value / num_ranks() for name, value in sums(values).items()}
