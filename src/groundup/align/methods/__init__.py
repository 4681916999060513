"""The methods of alignment: METHODS is the only list of them."""

from collections.abc import Callable

from groundup.align.context import Context, Metrics

Train = Callable[[Context], Metrics]

# Each function imports its method only when it is chosen: TRL's trainers take a second.


def _ppo() -> Train:
    from groundup.align.methods.ppo.train import train_ppo

    return train_ppo


def _groups() -> Train:
    from groundup.align.methods.grpo import train_grpo

    return train_grpo


def _dpo() -> Train:
    from groundup.align.methods.dpo import train_dpo

    return train_dpo


METHODS: dict[str, Callable[[], Train]] = {"ppo": _ppo, "rloo": _groups, "grpo": _groups, "dpo": _dpo}
