"""MuonAdamW against torch's AdamW and the definition of orthogonality; the schedule against a written-out list."""

import pytest
import torch
from torch import nn

from groundup.pretrain.optimizer import MuonAdamW, build_optimizer, orthogonalize, warmup_stable_decay
from tests.presets import preset

PRETRAIN = preset("smoke").pretrain


def quadratic_steps(optimizer: torch.optim.Optimizer, weight: nn.Parameter, num_steps: int) -> torch.Tensor:
    target = torch.linspace(-1, 1, weight.numel()).view_as(weight)
    for _ in range(num_steps):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    return weight.detach()


def test_adamw_groups_equal_torch_adamw() -> None:
    start = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [ours], "orthogonalize": False, "lr": 0.05, "betas": (0.9, 0.95), "weight_decay": 0.1}
    reference = torch.optim.AdamW([theirs], lr=0.05, betas=(0.9, 0.95), weight_decay=0.1, eps=1e-8)
    torch.testing.assert_close(quadratic_steps(MuonAdamW([group]), ours, 20), quadratic_steps(reference, theirs, 20))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 16), (2, 16, 40)])
def test_orthogonalized_singular_values_are_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    singular_values = torch.linalg.svdvals(orthogonalize(matrices))
    assert singular_values.min() > 0.4
    assert singular_values.max() < 1.3


def test_orthogonalizing_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(2))
    left, _, right = torch.linalg.svd(matrix)
    diagonal = left.mT @ orthogonalize(matrix) @ right.mT
    off_diagonal = diagonal - torch.diag_embed(torch.diagonal(diagonal, dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-4


def test_muon_takes_steps_of_one_size_whatever_the_gradient() -> None:
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(8, 8))
        group = {"params": [weight], "orthogonalize": True, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
        weight.grad = scale * torch.randn(8, 8, generator=torch.Generator().manual_seed(3))
        MuonAdamW([group]).step()
        assert 0.03 < torch.linalg.svdvals(weight.detach()).max() < 0.13


def test_weight_decay_shrinks_a_weight_without_gradient_signal() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    group = {"params": [weight], "orthogonalize": True, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    MuonAdamW([group]).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_a_saved_state_goes_on_to_the_same_weights() -> None:
    def build() -> tuple[MuonAdamW, nn.Parameter]:
        weight = nn.Parameter(torch.zeros(5, 5))
        return MuonAdamW(
            [{"params": [weight], "orthogonalize": True, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}]
        ), weight

    whole, weight = build()
    expected = quadratic_steps(whole, weight, 6).clone()
    first, weight = build()
    quadratic_steps(first, weight, 3)
    second, resumed = build()
    second.load_state_dict(first.state_dict())
    resumed.data.copy_(weight.data)
    assert torch.equal(quadratic_steps(second, resumed, 3), expected)


def test_every_parameter_is_in_one_group_and_norms_are_not_decayed(tiny_model: nn.Module) -> None:
    for optimizer in ("muon", "adamw"):
        groups = build_optimizer(tiny_model, PRETRAIN.model_copy(update={"optimizer": optimizer})).param_groups
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(grouped) == sorted(id(parameter) for parameter in tiny_model.parameters())
        assert all(p.ndim == 2 for group in groups[:2] for p in group["params"])
        assert groups[2]["weight_decay"] == 0.0
        assert [group["orthogonalize"] for group in groups] == [optimizer == "muon", False, False]


def test_schedule() -> None:
    factors = [warmup_stable_decay(step, num_steps=10, warmup_steps=2, decay_fraction=0.4) for step in range(11)]
    assert factors == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_schedule_without_warmup_or_decay_is_flat() -> None:
    assert [warmup_stable_decay(step, 3, 0, 0.0) for step in range(3)] == [1.0, 1.0, 1.0]
