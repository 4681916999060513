"""Variational reward head: a score with an uncertainty that grows with the distance from the training chats.

An encoder q(z | h) = N(mu(h), diag sigma(h)^2) over the model's last hidden state h, and a reward w . z, trained with
Bradley-Terry's loss plus beta times KL(q || N(0, I)) (Graves 2011; InfoRM, Miao et al. 2024). The mean reward
w . mu(h) is linear in h: it is stored as the stock `score` head, and the whole variational head beside it.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

FILE = "variational.safetensors"
MEAN, STD, KL = range(3)  # outputs of the head for each hidden state


class VariationalHead(nn.Module):
    """Replaces a stock model's `score`, whose output is pooled at the last token.

    log sigma_i^2 = -softplus(e_i(h)) exp((1 - d^2(h)) / 2). The evidence e is trained. d is h's Mahalanobis distance
    from the training chats, 1 on average there: far from them there is no evidence, and sigma is the prior's 1.
    Until `fit_density` the factor is 1.
    """

    center: Tensor  # [H]
    precision: Tensor  # [H, H]
    mean_distance: Tensor  # mean squared distance of the training chats: 1 once fitted, 0 before

    def __init__(self, hidden_size: int, latent_size: int, initializer_range: float) -> None:
        super().__init__()
        self.mu = nn.Linear(hidden_size, latent_size, bias=False)
        self.evidence = nn.Linear(hidden_size, latent_size)
        self.w = nn.Parameter(torch.full((latent_size,), latent_size**-0.5))  # w . mu starts like a stock head
        nn.init.normal_(self.mu.weight, std=initializer_range)
        nn.init.zeros_(self.evidence.weight)
        nn.init.zeros_(self.evidence.bias)
        self.register_buffer("center", torch.zeros(hidden_size))
        self.register_buffer("precision", torch.zeros(hidden_size, hidden_size))
        self.register_buffer("mean_distance", torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., H] -> mean and standard deviation of the reward, KL to the prior in nats [..., 3]."""
        mean = functional.linear(hidden, self.mean_weight())[..., 0]
        log_variance = self.log_variance(hidden)
        std = (self.w.square() * log_variance.exp()).sum(-1).sqrt()
        return torch.stack([mean, std, kl_to_prior(self.mu(hidden), log_variance)], dim=-1)

    def mean_weight(self) -> Tensor:
        """[1, H]: the linear head that gives the mean reward."""
        return (self.w @ self.mu.weight)[None]

    def log_variance(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., D], below 0: data can only reduce the prior's variance."""
        offset = hidden.float() - self.center
        distance = ((offset @ self.precision) * offset).sum(-1, keepdim=True)
        return -functional.softplus(self.evidence(hidden)) * torch.exp((self.mean_distance - distance) / 2)

    @torch.no_grad()
    def fit_density(self, hidden: Tensor) -> None:
        """hidden: pooled states of training chats [N, H]."""
        states = hidden.double()
        center = states.mean(0)
        if torch.equal(states, center.expand_as(states)):
            raise ValueError(
                f"the model's last hidden state is the same for all {len(states)} chats, so the distance of other "
                "chats from them cannot be measured: train on more pairs"
            )
        precision = torch.linalg.inv(shrunk_covariance(states))
        offset = states - center
        mean_distance = ((offset @ precision) * offset).sum(-1).mean()
        self.center.copy_(center)
        self.precision.copy_(precision / mean_distance)
        self.mean_distance.fill_(1.0)


class WithUncertainty(nn.Module):
    """The stock head, for exactly its mean reward, with the standard deviation and KL of a variational head."""

    def __init__(self, score: nn.Linear, head: VariationalHead) -> None:
        super().__init__()
        self.score = score
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., 3], like VariationalHead."""
        return torch.cat([self.score(hidden), self.head(hidden)[..., STD:]], dim=-1)


def kl_to_prior(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, diag exp(log_variance)) || N(0, I)) in nats: [..., D] -> [...]."""
    return 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def shrunk_covariance(rows: Tensor) -> Tensor:
    """Oracle approximating shrinkage (Chen et al. 2010): [N, H] -> [H, H], invertible for any number of rows."""
    num, size = rows.shape
    covariance = torch.cov(rows.T, correction=0).reshape(size, size)
    scale, square = covariance.trace() / size, covariance.square().mean()
    share = torch.clamp((square + scale**2) / ((num + 1) * (square - scale**2 / size)), max=1.0)
    return (1 - share) * covariance + share * scale * torch.eye(size, dtype=rows.dtype, device=rows.device)


def fold(model: PreTrainedModel) -> VariationalHead:
    """Replace a model's variational head by the stock head of the same mean reward; returns the former."""
    head = model.score
    weight = head.mean_weight().detach()
    model.score = nn.Linear(weight.shape[1], 1, bias=False, device=weight.device, dtype=weight.dtype)
    model.score.weight.data.copy_(weight)
    return head


def save_head(head: VariationalHead, folder: Path) -> None:
    save_file({name: weight.detach().cpu().contiguous() for name, weight in head.state_dict().items()}, folder / FILE)


def load_head(folder: Path) -> VariationalHead:
    weights = load_file(folder / FILE)
    latent_size, hidden_size = weights["mu.weight"].shape
    head = VariationalHead(hidden_size, latent_size, 0.0)
    head.load_state_dict(weights)
    return head


def head_problems(folder: Path, score: Tensor) -> list[str]:
    """What is wrong with the variational head beside a model whose stock head has the weight `score` [1, H]."""
    try:
        weights = load_file(folder / FILE)
    except (SafetensorError, OSError) as error:
        return [f"{FILE} is damaged or incomplete ({error})"]
    size = score.shape[1]
    latent_size = max(1, weights["w"].numel() if "w" in weights else 1)
    wanted = {name: weight.shape for name, weight in VariationalHead(size, latent_size, 0.0).state_dict().items()}
    if {name: weight.shape for name, weight in weights.items()} != wanted:
        return [f"the weights in {FILE} are not those of a head on {size} hidden numbers"]
    if broken := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        return [f"{len(broken)} weights in {FILE} are not finite, such as {broken[0]}"]
    if not torch.allclose(load_head(folder).mean_weight(), score.float(), rtol=1e-3, atol=1e-5):
        return [f"{FILE} gives another mean reward than the weights: they are of different runs"]
    return []
