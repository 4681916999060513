"""Optimizers and the learning-rate schedule of pretraining."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from groundup.core.training.ranks import by_block
from groundup.runner.params.training import PretrainParams

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon"): fast convergence towards 1,
# where singular values then stay between about 0.7 and 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
ADAM_EPSILON = 1e-8


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximately the nearest semi-orthogonal matrices of [N, rows, columns], by Newton-Schulz.

    In bf16 on cuda, as in the paper and torch.optim.Muon; elsewhere in the input's precision, because bf16 is very
    slow on CPUs without support for it.
    """
    a, b, c = NEWTON_SCHULZ
    if matrices.is_cuda:
        matrices = matrices.bfloat16()
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for groups with `orthogonalize`, AdamW (Loshchilov and Hutter 2019) for the others.

    Muon: the Nesterov momentum of each 2-D weight, orthogonalized and scaled by sqrt(max(1, rows / columns)). One
    optimizer rather than two, so that Lightning's clipping, accumulation and step count stay simple.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["orthogonalize"]:
                self._muon(parameters, group)
            elif parameters:
                self._adamw(parameters, group)
        return loss

    def _muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Orthogonalize weights of the same shape in one batch, of which each rank of DDP takes a part."""
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for shape, alike in by_shape.items():
            directions = torch.stack([self._direction(p, group["momentum"]) for p in alike])
            in_shards = isinstance(directions, DTensor)  # which moves what each product needs
            directions = orthogonalize(directions) if in_shards else by_block(orthogonalize, directions)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, direction in zip(alike, directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(direction, alpha=-group["lr"] * scale)

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum"], momentum)

    def _adamw(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """torch's fused kernel, which applies the weight decay too."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "step": torch.zeros((), device=parameter.device),
                    "first_moment": torch.zeros_like(parameter),
                    "second_moment": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            list[Tensor](parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["first_moment"] for state in states],
            [state["second_moment"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=ADAM_EPSILON,
        )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Of the trained weights: (2-D hidden weights, embeddings and output head, the rest: norms and biases)."""
    vocabulary = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    hidden, embeddings, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim != 2:
            rest.append(parameter)
        elif id(parameter) in vocabulary or "lm_head" in name:
            embeddings.append(parameter)
        else:
            hidden.append(parameter)
    return hidden, embeddings, rest


def build_optimizer(model: nn.Module, params: PretrainParams) -> MuonAdamW:
    """AdamW for everything, or Muon for the 2-D hidden weights and AdamW for the rest; norms are never decayed."""
    hidden, embeddings, rest = split_parameters(model)
    # `fused` makes torch put the step counts of a loaded state on the parameters' device.
    plain = {"orthogonalize": False, "fused": True, "lr": params.learning_rate, "betas": (params.beta1, params.beta2)}
    muon = {"orthogonalize": True, "lr": params.muon_learning_rate, "momentum": params.muon_momentum}
    return MuonAdamW(
        [
            {"params": hidden, "weight_decay": params.weight_decay, **(muon if params.optimizer == "muon" else plain)},
            {"params": embeddings, "weight_decay": params.weight_decay, **plain},
            {"params": rest, "weight_decay": 0.0, **plain},
        ]
    )


def warmup_stable_decay(step: int, num_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Learning-rate factor at a step, from 0: linear warmup, constant, linear decay to 0 (Hu et al. 2024, MiniCPM)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    decay_steps = decay_fraction * num_steps
    if step > num_steps - decay_steps:
        return (num_steps - step) / decay_steps
    return 1.0
