"""Variational head: closed forms against references, the stored files, and errors for damaged files."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.covariance import oas
from torch.distributions import Independent, Normal, kl_divergence
from transformers import (
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from groundup.core.model.check import REWARD, check_model
from groundup.core.model.llama import save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.model.variational import (
    FILE,
    KL,
    MEAN,
    STD,
    VariationalHead,
    fold,
    kl_to_prior,
    load_head,
    save_head,
    shrunk_covariance,
)

CHATS = [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11, 12], [20, 30, 40]]


@pytest.fixture
def head() -> VariationalHead:
    torch.manual_seed(1)
    head = VariationalHead(64, 5, initializer_range=0.3)
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    head.fit_density(torch.randn(40, 64))
    return head.requires_grad_(False)


@pytest.fixture
def model(tiny_model: LlamaForCausalLM, head: VariationalHead) -> LlamaForSequenceClassification:
    config = tiny_model.config
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(tiny_model.model.state_dict())
    model.score = head
    return model.eval()


@pytest.fixture
def saved(model: LlamaForSequenceClassification, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    head = fold(model)
    save_model(model, tiny_tokenizer, tmp_path / "reward", "card")
    save_head(head, tmp_path / "reward")
    model.score = head
    return tmp_path / "reward"


def test_kl_is_that_of_torch(head: VariationalHead) -> None:
    hidden = torch.randn(7, 64)
    mu, log_variance = head.mu(hidden), head.log_variance(hidden)
    q, prior = Normal(mu, (log_variance / 2).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))
    expected = kl_divergence(Independent(q, 1), Independent(prior, 1))
    torch.testing.assert_close(kl_to_prior(mu, log_variance), expected)
    torch.testing.assert_close(head(hidden)[:, KL], expected)


def test_kl_on_literal_values() -> None:
    assert kl_to_prior(torch.zeros(3), torch.zeros(3)).item() == 0.0
    expected = (4 + 0.25 - 1 - math.log(0.25)) / 2
    assert kl_to_prior(torch.tensor([2.0]), torch.tensor([math.log(0.25)])).item() == pytest.approx(expected)


def test_mean_and_std_are_those_of_samples(head: VariationalHead) -> None:
    hidden = torch.randn(3, 64)
    mu, sigma = head.mu(hidden), (head.log_variance(hidden) / 2).exp()
    rewards = (mu + sigma * torch.randn(200_000, 3, 5)) @ head.w
    torch.testing.assert_close(head(hidden)[:, MEAN], rewards.mean(0), atol=0.01, rtol=0.01)
    torch.testing.assert_close(head(hidden)[:, STD], rewards.std(0), atol=0.01, rtol=0.01)


def test_a_new_head_has_the_variance_that_its_evidence_says() -> None:
    """softplus(0) = ln 2 nats of evidence at any distance, so sigma^2 = 1/2; and w has length 1."""
    scores = VariationalHead(8, 4, 0.02)(torch.randn(6, 8) * 100)
    torch.testing.assert_close(scores[:, STD], torch.full((6,), math.sqrt(0.5)))


def test_uncertainty_is_as_trained_at_the_usual_distance_and_the_priors_far_away() -> None:
    torch.manual_seed(0)
    head = VariationalHead(8, 4, 0.02).requires_grad_(False)
    hidden = torch.randn(500, 8) * torch.arange(1.0, 9.0) + 3
    before = head(hidden)[0, STD]
    head.fit_density(hidden)
    center = hidden.mean(0)
    offset = hidden[0] - center
    usual = offset / ((offset @ head.precision) @ offset).sqrt()
    stds = [head(center + usual * distance)[STD] for distance in (0.0, 1.0, 2.0, 4.0, 100.0)]
    assert stds == sorted(stds)
    torch.testing.assert_close(stds[1], before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stds[-1], head.w.norm())
    distances = ((hidden - center) @ head.precision * (hidden - center)).sum(1)
    assert distances.mean().item() == pytest.approx(1.0, abs=1e-4)


def test_no_variance_is_above_the_priors(head: VariationalHead) -> None:
    assert (head.log_variance(torch.randn(100, 64) * 10) <= 0).all()


def test_shrinkage_is_that_of_scikit_learn() -> None:
    rows = torch.randn(30, 50, dtype=torch.float64) @ torch.randn(50, 50, dtype=torch.float64)
    expected, share = oas(rows.numpy())
    assert 0 < share < 1
    torch.testing.assert_close(shrunk_covariance(rows), torch.from_numpy(expected))
    assert torch.linalg.matrix_rank(shrunk_covariance(rows)) == 50
    assert torch.linalg.matrix_rank(torch.cov(rows.T)) == 29


def test_states_that_do_not_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"the same for all 3 chats.*train on more pairs"):
        VariationalHead(4, 2, 0.02).fit_density(torch.ones(3, 4))


def test_it_is_stored_as_a_stock_model_with_exactly_the_mean_reward(
    saved: Path, model: LlamaForSequenceClassification
) -> None:
    expected_mean, expected_std = RewardScorer(model).score(CHATS)
    stock, report = AutoModelForSequenceClassification.from_pretrained(saved, output_loading_info=True)
    assert not any(report.values())
    assert type(stock.score) is torch.nn.Linear
    assert torch.equal(stock.score.weight, (model.score.w @ model.score.mu.weight)[None])
    check_model(saved, REWARD)
    mean, std = RewardScorer.load(saved, torch.device("cpu")).score(CHATS)
    with torch.no_grad():
        alone = torch.cat([stock.eval()(torch.tensor([chat])).logits[:, 0] for chat in CHATS])
    torch.testing.assert_close(mean, alone)
    torch.testing.assert_close(mean, expected_mean)
    torch.testing.assert_close(std, expected_std)
    assert (std > 0).all()


def test_a_stored_head_is_the_same_head(head: VariationalHead, tmp_path: Path) -> None:
    save_head(head, tmp_path)
    loaded = load_head(tmp_path).state_dict()
    assert loaded.keys() == head.state_dict().keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in head.state_dict().items())


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_w(path: Path) -> None:
    save_file({name: weight for name, weight in load_file(path).items() if name != "w"}, path)


def of_another_size(path: Path) -> None:
    weights = load_file(path)
    save_file(weights | {"mu.weight": weights["mu.weight"][:, :-1].contiguous()}, path)


def not_finite(path: Path) -> None:
    weights = load_file(path)
    weights["evidence.bias"][0] = math.nan
    save_file(weights, path)


def of_another_run(path: Path) -> None:
    weights = load_file(path)
    save_file(weights | {"w": -weights["w"]}, path)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (cut_off, "variational.safetensors is damaged or incomplete"),
        (empty, "variational.safetensors is damaged or incomplete"),
        (without_w, "not those of a head on 64 hidden numbers"),
        (of_another_size, "not those of a head on 64 hidden numbers"),
        (not_finite, "1 weights in variational.safetensors are not finite, such as evidence.bias"),
        (of_another_run, "variational.safetensors gives another mean reward .* different runs"),
    ],
)
def test_a_damaged_head_is_a_clear_error(saved: Path, spoil, what: str) -> None:
    spoil(saved / FILE)
    with pytest.raises(ValueError, match=what) as raised:
        check_model(saved, REWARD)
    assert "dvc checkout --force" in str(raised.value)


def test_the_head_alone_is_no_model(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="it has no weights"):
        check_model(saved, REWARD)
