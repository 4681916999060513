"""PPO: a forward and backward pass of the policy, and whole iterations with all models."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch

from bench.gpu.machine import EOS, PAD, Machine, kernels
from bench.gpu.rows import Figures, Measurement
from bench.results import ROOT
from groundup.align.methods.ppo.module import Ppo
from groundup.align.policy import Policy, SharedTrunkValue, ValueModel
from groundup.align.rollout import RolloutWorker
from groundup.align.tokens import Conversations, token_logprobs
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.runner.params.presets import with_preset


class Alone(Ppo):
    """Without a Lightning trainer."""

    def manual_backward(self, loss: torch.Tensor, *unused: Any, **more: Any) -> None:
        loss.backward()

    def optimizers(self, *unused: Any, **more: Any) -> Any:
        return self.optimizer


def measurements(machine: Machine) -> Iterator[Measurement]:
    for cudnn in (False, True):
        yield Measurement(
            f"policy, a forward batch, forward and backward, cuDNN {'on' if cudnn else 'off'}",
            "cuDNN the other way",
            partial(policy_pass, machine, cudnn),
        )
    for trunk in ("separate", "shared"):
        yield Measurement(
            f"an iteration, value trunk: {trunk}", "the other value trunk", partial(iteration, machine, trunk)
        )


def policy_pass(machine: Machine, cudnn: bool) -> Figures:
    model, seeds = machine.model(), count()
    sizes = machine.sizes
    num = max(2, sizes.num_chats // 8)

    def work() -> None:
        seed = next(seeds)
        chats = Conversations(
            machine.chats(num, sizes.prompt_tokens, seed), machine.chats(num, sizes.new_tokens, seed + 1000)
        )
        ((_, batch),) = chats.batches(range(num), num, machine.device)
        with machine.half():
            logprobs, entropy = token_logprobs(model, batch, 1.0)
        (logprobs.sum() + 0.01 * entropy.sum()).backward()

    with kernels(cudnn=cudnn):
        return {"ms": 1e3 * machine.seconds(work, 2, 4)} | machine.peak_memory()


def iteration(machine: Machine, trunk: str) -> Figures:
    params = with_preset(ROOT, "smoke" if machine.is_toy else "gpu", {"align.ppo.value_trunk": trunk}).params.align
    sizes = machine.sizes
    changes = {"max_new_tokens": sizes.new_tokens, "batch_size": sizes.num_chats}
    params = params.model_copy(update={"rollout": params.rollout.model_copy(update=changes)})
    policy = Policy(machine.model(), None)
    for reference in policy._reference:
        machine.on_device(reference)
    scorer = RewardScorer(machine.reward_model().requires_grad_(False))
    tokenizer: Any = SimpleNamespace(eos_token_id=EOS, pad_token_id=PAD)  # all that a rollout asks it for
    worker = RolloutWorker(policy, scorer, tokenizer, params, Builtin())
    value = ValueModel(policy.model) if trunk == "separate" else SharedTrunkValue(sizes.hidden_size)
    ppo = Alone(worker, value.to(machine.device), params).to(machine.device)
    seeds = count()

    def work() -> None:
        ppo.training_step(machine.chats(sizes.num_chats, sizes.prompt_tokens, next(seeds)), 0)

    with kernels(), machine.half():
        seconds = machine.seconds(work, 1, 2)
    return {
        "seconds": seconds,
        "replies/s": sizes.num_chats / seconds,
        "kl": ppo.metrics["kl"],
    } | machine.peak_memory()
