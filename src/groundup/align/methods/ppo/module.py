"""One PPO iteration as a LightningModule: roll out, estimate advantages, take minibatch steps."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from groundup.align.controllers import AdaptiveKl, EntropyFloor, LengthControl
from groundup.align.methods.ppo.objective import (
    approximate_kl,
    explained_variance,
    generalized_advantages,
    is_clipped,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from groundup.align.policy import AdaptedValue, SharedTrunkValue, ValueModel
from groundup.align.rollout import Rollout, RolloutWorker
from groundup.align.seeds import derived_seed
from groundup.align.tokens import TokenBatch, token_logprobs, token_values
from groundup.core.training.ranks import add_gradients, gathered, means, own_share, sums
from groundup.core.training.runtime import NonFiniteLossError, require_finite_gradients, seed_everything
from groundup.runner.params.align import AlignParams

MODELS = ("policy", "value model")  # as the optimizer's groups
RATES = "align.ppo.learning_rate or align.ppo.value_learning_rate"


@dataclass(frozen=True)
class Experience:
    """A rollout with values, advantages and returns of its tokens, [B, T] each; fixed during the minibatch steps."""

    rollout: Rollout
    values: Tensor
    advantages: Tensor
    returns: Tensor
    explained_variance: float  # how much of the rewards to come the values explain


class Ppo(L.LightningModule):
    """A training step is one iteration, its batch the prompts; `iteration` counts from 1.

    All random numbers of an iteration follow from (seed, iteration), so there is no generator state to save. Ranks
    share the rows of a rollout and of each minibatch; what they found and the gradients are brought together, so all
    ranks hold the same models and controllers.
    """

    def __init__(
        self, worker: RolloutWorker, value_model: ValueModel | AdaptedValue | SharedTrunkValue, params: AlignParams
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # one batch is many optimizer steps
        self.policy = worker.policy
        self.value_model = value_model
        self.worker = worker
        self.params = params
        ppo = params.ppo
        self.controller = AdaptiveKl(ppo.kl_coefficient, ppo.kl_target, ppo.kl_horizon)
        self.length_control = LengthControl(ppo.length_control_gain, ppo.length_control_rate)
        self.entropy_floor = EntropyFloor(ppo.entropy_coefficient, ppo.entropy_floor, ppo.entropy_floor_rate)
        self.iteration = 0
        self.num_updates = 0  # iterations that changed the policy: `iteration` without those rolled back
        self.metrics: dict[str, float] = {}  # of the last iteration
        self.stopped_early = ""  # the reason
        # One optimizer for both models: Lightning counts the steps of every optimizer as its own.
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(self.policy.trainable().values()), "lr": ppo.learning_rate},
                {"params": list(value_model.parameters()), "lr": ppo.value_learning_rate},
            ],
            eps=1e-5,
            fused=True,
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def training_step(self, prompts: list[list[int]], batch_index: int) -> None:
        self.iteration += 1
        seed = derived_seed(self.params.seed, self.iteration)
        seed_everything(seed)  # for libraries that draw from the global generators
        rollout = self.worker.roll_out(self.policy.model, prompts, seed)
        self.metrics = self.summary(rollout) | {
            "kl_coefficient": self.controller.coefficient,
            "length_coefficient": self.length_control.coefficient,
            "entropy_coefficient": self.entropy_floor.coefficient,
            **means(self.worker.engine.figures),
        }
        kl = self.metrics["kl"]
        if kl > (kl_stop := self.params.alarms.kl_stop):
            self.stop(f"KL {kl:.2f} above kl_stop {kl_stop} in iteration {self.iteration}")
            return
        if self.num_updates == 0:
            self.value_model.head.start_from(self.metrics["reward"])
        experience = self.appraise(rollout)
        self.metrics |= {"explained_variance": experience.explained_variance}
        self.metrics |= self.learn(experience, torch.Generator().manual_seed(seed))
        cost = self.controller.coefficient  # of the KL, which grows with the length too
        self.controller.update(kl, len(prompts))
        self.length_control.update(rollout.mask.sum(1), self.rewards(rollout) - cost * rollout.kl.sum(1))
        self.entropy_floor.update(self.metrics["entropy"])
        self.num_updates += 1

    def stop(self, reason: str) -> None:
        self.stopped_early = reason
        self.trainer.should_stop = True

    def roll_back(self, learned: dict[str, Any], kl_factor: float) -> None:
        """Return to an earlier `learned_state`; the KL coefficient is `kl_factor` times the higher of then and now.

        The iterations keep counting, so that training continues with other prompts and random numbers than before.
        """
        coefficient = self.controller.coefficient
        self.load_learned_state(learned)
        self.controller.coefficient = kl_factor * max(coefficient, self.controller.coefficient)

    def rewards(self, rollout: Rollout) -> Tensor:
        """[B]"""
        return self.worker.rewards(rollout.answers, self.length_control.target)

    def summary(self, rollout: Rollout) -> dict[str, float]:
        return {"reward": self.rewards(rollout).mean().item(), **rollout.summary()}

    @torch.no_grad()
    def appraise(self, rollout: Rollout) -> Experience:
        """Values before the update, and the advantages and returns computed from them."""
        ppo, mask = self.params.ppo, rollout.mask
        values = torch.zeros(mask.shape)
        own = own_share(range(len(mask)))
        for rows, batch in rollout.conversations.batches(own, self.params.forward_batch_size, self.device):
            values[rows] = token_values(self.value_model, batch).cpu()
        values = torch.tensor(gathered(values[list(own)].tolist()))
        wanted = self.rewards(rollout) + self.length_control.bonus(mask.sum(1))
        rewards = token_rewards(wanted, rollout.kl, mask, self.controller.coefficient)
        advantages, returns = generalized_advantages(rewards, values, mask, ppo.discount, ppo.gae_lambda)
        # Not `returns` as the target: those contain the values and would flatter the value model.
        _, rewards_to_come = generalized_advantages(rewards, values, mask, ppo.discount, gae_lambda=1.0)
        explained = explained_variance(values, rewards_to_come, mask)
        return Experience(rollout, values, whiten(advantages, mask), returns, explained)

    def learn(self, experience: Experience, generator: torch.Generator) -> dict[str, float]:
        """Epochs of minibatch steps on one rollout; the metrics are means over all tokens of all epochs."""
        params, mask = self.params, experience.rollout.mask
        # The value model has its full rate from the start: the policy should move little until the values are useful.
        # The policy's falls to zero, so that what swings, such as the length, settles.
        warmup, num_left = params.warmup_iterations, params.num_iterations - self.iteration + 1
        self.optimizer.param_groups[0]["lr"] = params.ppo.learning_rate * min(
            (self.num_updates + 1) / (warmup + 1), num_left / max(1, params.num_iterations - warmup)
        )
        optimizer = self.optimizers()
        totals: defaultdict[str, float] = defaultdict(float)
        for _ in range(params.num_epochs):
            for rows in torch.randperm(len(mask), generator=generator).split(params.minibatch_size):
                num_tokens = int(mask[rows].sum())
                optimizer.zero_grad()
                batches = experience.rollout.conversations.batches(
                    own_share(rows.tolist()), params.forward_batch_size, self.device
                )
                for batch_rows, batch in batches:
                    for name, total in self.accumulate_gradients(experience, batch_rows, batch, num_tokens).items():
                        totals[name] += total
                for model, group in zip(MODELS, self.optimizer.param_groups, strict=True):
                    add_gradients(group["params"])
                    # Apart: the value model's gradients are far larger.
                    norm = clip_grad_norm_(group["params"], params.max_gradient_norm)
                    require_finite_gradients(norm.item(), "align", f"iteration {self.iteration} ({model})", RATES)
                optimizer.step()
        return {name: total / (params.num_epochs * int(mask.sum())) for name, total in sums(totals).items()}

    def accumulate_gradients(
        self, experience: Experience, rows: list[int], batch: TokenBatch, num_tokens: int
    ) -> dict[str, float]:
        """Backward pass over some rows of a minibatch of `num_tokens` reply tokens; returns sums over those rows."""
        ppo = self.params.ppo
        old_logprobs, old_values, advantages, returns = (
            x[rows].to(self.device)
            for x in (experience.rollout.logprobs, experience.values, experience.advantages, experience.returns)
        )
        logprobs, entropy = token_logprobs(self.policy.model, batch, self.params.rollout.temperature)
        values = token_values(self.value_model, batch)
        loss_by_token = policy_loss(logprobs, old_logprobs, advantages, ppo.clip_range)
        if experience.rollout.ratios is not None:  # others drew the replies, by a slightly different distribution
            loss_by_token = loss_by_token * experience.rollout.ratios[rows].to(self.device)
        by_token = {
            "policy_loss": loss_by_token,
            "value_loss": value_loss(values, old_values, returns, ppo.value_clip_range),
            "entropy": entropy,
            "approximate_kl": approximate_kl(logprobs, old_logprobs),
            "clip_fraction": is_clipped(logprobs, old_logprobs, ppo.clip_range),
        }
        totals = {name: (x * batch.mask).sum() for name, x in by_token.items()}
        loss = totals["policy_loss"] + totals["value_loss"] - self.entropy_floor.coefficient * totals["entropy"]
        if not loss.isfinite():
            raise NonFiniteLossError(
                f"align: the loss of iteration {self.iteration} is {loss.item()} (policy "
                f"{totals['policy_loss'].item()}, value {totals['value_loss'].item()}); lower {RATES}, or look for "
                "non-finite weights in the SFT or reward model"
            )
        self.manual_backward(loss / num_tokens)
        return {name: total.item() for name, total in totals.items()}

    def full_state(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {"iteration": self.iteration, "stopped_early": self.stopped_early, "learned": self.learned_state()}

    def load_full_state(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        self.stopped_early = state["stopped_early"]
        self.load_learned_state(state["learned"])

    def learned_state(self) -> dict[str, Any]:
        """A copy on the CPU of what training has changed, to which a rollback returns."""
        return {
            "num_updates": self.num_updates,
            "kl_control": self.controller.state(),
            "length_control": self.length_control.state(),
            "entropy_floor": self.entropy_floor.state(),
            "policy": self.policy.weights(),
            "value_model": _copied(self.value_model.state_dict()),
            "optimizer": _copied(self.optimizer.state_dict()),
        }

    def load_learned_state(self, state: dict[str, Any]) -> None:
        self.num_updates = state["num_updates"]
        self.controller.load_state(state["kl_control"])
        self.length_control.load_state(state["length_control"])
        self.entropy_floor.load_state(state["entropy_floor"])
        self.policy.load_weights(state["policy"])
        self.value_model.load_state_dict(state["value_model"])
        self.optimizer.load_state_dict(_copied(state["optimizer"]))  # the optimizer would train the given tensors


def _copied(state: Any) -> Any:
    """Nested dicts and lists with every tensor copied to the CPU."""
    match state:
        case Tensor():
            return state.detach().cpu().clone()
        case dict():
            return {key: _copied(value) for key, value in state.items()}
        case list():
            return [_copied(value) for value in state]
        case _:
            return state
