"""The loss of pairs: TRL's with a linear head and weights of 1, hand-computed otherwise."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

from groundup.core.model.branches import Branches
from groundup.core.model.variational import VariationalHead
from groundup.reward.comparisons import Comparison
from groundup.reward.pair_trainer import PairTrainer, collate, pair_losses
from groundup.runner.params.training import VariationalParams

VARIATIONAL = VariationalParams(
    latent_size=4, kl_coefficient=0.1, num_samples=20_000, num_density_chats=8, num_ood_chats=8
)
PAIRS = [([1, 2, 3, 4 + i], [1, 2, 9 + i], 0.1 * i) for i in range(6)]  # both sides and the margin


def log1p_exp(x: float) -> float:
    return math.log1p(math.exp(x))


def test_linear_loss_on_literal_values() -> None:
    scores = torch.tensor([[2.0], [0.5], [1.0], [0.7]])
    losses = pair_losses(scores, torch.tensor([0.5, 0.0]), 0.01, VARIATIONAL)
    expected = [log1p_exp(-(2 - 1 - 0.5)) + 0.01 * 9, log1p_exp(-(0.5 - 0.7)) + 0.01 * 1.44]
    assert losses.tolist() == pytest.approx(expected)


def test_variational_loss_without_spread_is_the_linear_one_plus_kl() -> None:
    scores = torch.tensor([[2.0, 0.0, 3.0], [0.5, 0.0, 1.0], [1.0, 0.0, 4.0], [0.7, 0.0, 0.0]])
    margins = torch.tensor([0.5, 0.0])
    linear = pair_losses(scores[:, :1], margins, 0.01, VARIATIONAL)
    losses = pair_losses(scores, margins, 0.01, VARIATIONAL)
    assert losses.tolist() == pytest.approx((linear + 0.1 * torch.tensor([7.0, 1.0])).tolist())


def test_variational_loss_is_the_expectation_over_both_sides() -> None:
    """The difference is N(0.3, 0.6^2 + 0.8^2): against its integral on a grid."""
    torch.manual_seed(0)
    scores = torch.tensor([[0.5, 0.6, 0.0], [0.2, 0.8, 0.0]])
    losses = pair_losses(scores, torch.zeros(1), 0.0, VARIATIONAL)
    grid = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
    density = torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi)
    expected = torch.trapezoid(density * torch.nn.functional.softplus(-(0.3 + grid)), grid)
    assert losses.item() == pytest.approx(expected.item(), abs=0.01)


def test_the_spread_gets_a_gradient_and_costs() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[0.5, 0.6, 0.0], [0.2, 0.8, 0.0]], requires_grad=True)
    pair_losses(scores, torch.zeros(1), 0.0, VARIATIONAL).sum().backward()
    assert scores.grad is not None
    assert (scores.grad[:, 1] > 0).all()


def config(folder: Path) -> RewardConfig:
    return RewardConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
        per_device_train_batch_size=3,
        center_rewards_coefficient=0.02,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


@pytest.fixture
def model(tiny_model: LlamaForCausalLM) -> LlamaForSequenceClassification:
    tiny_model.config.num_labels = 1
    torch.manual_seed(0)
    return LlamaForSequenceClassification(tiny_model.config).eval()


def loss_of_first_batch(trainer: RewardTrainer, model: LlamaForSequenceClassification) -> torch.Tensor:
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer.compute_loss(model, batch)


def make(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, folder: Path, weights: list[float]
) -> PairTrainer:
    compared = [
        Comparison(Branches.of([chosen, rejected]), margin, weight)
        for (chosen, rejected, margin), weight in zip(PAIRS, weights, strict=True)
    ]
    return PairTrainer(model, tokenizer, compared, config(folder), VARIATIONAL)


def test_with_weights_of_one_it_is_the_loss_of_trl(
    model: LlamaForSequenceClassification, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    from datasets import Dataset

    rows = [{"chosen_ids": chosen, "rejected_ids": rejected, "margin": margin} for chosen, rejected, margin in PAIRS]
    stock = RewardTrainer(
        model=model, processing_class=tiny_tokenizer, train_dataset=Dataset.from_list(rows), args=config(tmp_path)
    )
    ours = make(model, tiny_tokenizer, tmp_path, [1.0] * 6)
    torch.testing.assert_close(loss_of_first_batch(ours, model), loss_of_first_batch(stock, model))
    assert ours._metrics["eval"]["accuracy"] == stock._metrics["eval"]["accuracy"]
    assert ours._metrics["eval"]["margin"] == pytest.approx(stock._metrics["eval"]["margin"], abs=1e-6)


def test_the_loss_of_a_comparison_is_the_mean_over_its_wrong_sides(
    model: LlamaForSequenceClassification, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make(model, tiny_tokenizer, tmp_path, [1.0] * 6)

    def loss(wrong: list[list[int]], weight: float = 1.0) -> float:
        compared = Comparison(Branches.of([[1, 2, 3, 4], *wrong]), margin=0.3, weight=weight)
        return trainer.compute_loss(model, collate([asdict(compared)])).item()

    wrong = [[1, 2, 9], [1, 2, 3, 7, 8], [1, 2, 30, 31]]
    alone = [loss([side]) for side in wrong]
    assert len({round(value, 4) for value in alone}) == 3
    assert loss(wrong) == pytest.approx(sum(alone) / 3)
    assert loss(wrong, weight=2.0) == pytest.approx(2 * sum(alone) / 3)


def test_a_batch_on_literal_values() -> None:
    batch = collate(
        [
            asdict(Comparison(Branches([1], [[2], [3], [4]]), margin=0.0, weight=1.0)),
            asdict(Comparison(Branches([5], [[6], [7]]), margin=0.5, weight=3.0)),
        ]
    )
    assert batch["sides"].tolist() == [0, 0, 3, 1, 2, 4]  # the right ones, then what each is compared with
    assert batch["margin"].tolist() == [0.0, 0.0, 0.5]
    assert batch["weight"].tolist() == [0.25, 0.25, 1.5]


def test_a_weight_scales_the_loss_of_its_pair(
    model: LlamaForSequenceClassification, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def loss(*weights: float) -> float:
        return loss_of_first_batch(make(model, tiny_tokenizer, tmp_path, [*weights, 1.0, 1.0, 1.0]), model).item()

    alone = [loss(1.0, 0.0, 0.0), loss(0.0, 1.0, 0.0), loss(0.0, 0.0, 1.0)]
    assert len({round(value, 4) for value in alone}) == 3
    assert loss(1.0, 0.5, 2.0) == pytest.approx(alone[0] + 0.5 * alone[1] + 2 * alone[2])


def test_the_variational_head_logs_its_spread_and_kl(
    model: LlamaForSequenceClassification, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model.score = VariationalHead(model.config.hidden_size, 4, 0.02)
    trainer = make(model, tiny_tokenizer, tmp_path, [1.0] * 6)
    assert loss_of_first_batch(trainer, model).isfinite()
    figures = trainer._metrics["eval"]
    assert figures["latent_std"] == pytest.approx([math.sqrt(0.5)])
    assert figures["latent_kl"][0] >= 4 * (0.5 - 1 + math.log(2)) / 2
