"""What adapters save, and the models that share a base with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.app.plan import workload
from groundup.app.plan.memory import model_outs, rooms
from groundup.app.plan.model import PlannedModel, planned_model
from groundup.app.plan.seconds import costs
from groundup.runner.params.training import LoraParams
from tests.app.plan.test_estimate import DATA, OPEN, changed, small

LORA = LoraParams(rank=16, alpha=32.0, dropout=0.0, target_modules="all-linear")


def test_adapters_save_the_memory_of_what_they_do_not_train() -> None:
    params = changed(small(), "pretrain", num_steps=0)
    whole = replace(OPEN, num_adapted={})
    n, adapters = 4 * OPEN.num_parameters, 4 * 4_884_480
    adapted, full = (rooms(params, DATA, workload.count_work(params, DATA, m), "cuda") for m in (OPEN, whole))
    assert full["reward"].device - adapted["reward"].device == pytest.approx(3 * (n - adapters), rel=0.05)
    assert full["sft"].device - adapted["sft"].device == pytest.approx(3 * (n - adapters), rel=0.4)
    # Checkpoints hold adapters alone, but the published model is whole.
    assert full["sft"].disk == 3 * n + 2 * 3 * n
    assert adapted["sft"].disk == 3 * (n + adapters) + 2 * 3 * adapters
    assert model_outs(DATA, OPEN)["align"] == n + adapters


def test_pretraining_an_adapter_keeps_the_optimizer_small() -> None:
    small_one = replace(OPEN, num_adapted=dict(OPEN.num_adapted) | {"pretrain": 1000})
    work, whole = (workload.count_work(small(), DATA, m) for m in (small_one, OPEN))
    adapted, full = (rooms(small(), DATA, w, "cuda")["pretrain"] for w in (work, whole))
    n = 4 * OPEN.num_parameters
    assert full.device - adapted.device == 3 * (n - 4000)
    assert adapted.disk == 3 * (n + 4000) + 2 * 3 * 4000
    assert model_outs(DATA, small_one)["pretrain"] == n + 4000
    tokens = work.pretrain_tokens
    assert costs(small(), DATA, work)["pretrain"].flops == 4 * OPEN.num_parameters * tokens + 2 * 1000 * tokens


def test_an_adapter_of_pretraining_counts_if_it_takes_steps(tmp_path: Path) -> None:
    params = changed(small(), "pretrain", lora=LORA)
    scratch = small().model.scratch.model_copy(
        update={"hidden_size": 96, "num_layers": 3, "num_heads": 3, "intermediate_size": 256}
    )
    params = changed(params, "model", scratch=scratch)
    of_layer = 16 * (4 * (96 + 96) + 3 * (96 + 256))
    assert planned_model(tmp_path, params).num_adapted == {"pretrain": 3 * of_layer}
    assert planned_model(tmp_path, changed(params, "pretrain", num_steps=0)).num_adapted == {}


def test_align_with_adapters_holds_one_base() -> None:
    """For policy, reference, value and reward model; the policy is published from a merged copy."""
    n, adapter = 4 * OPEN.num_parameters, 4 * 4_884_480
    rollout = small().align.rollout.model_copy(update={"max_prompt_tokens": 16, "max_new_tokens": 16, "batch_size": 1})
    few = changed(small(), "align", forward_batch_size=1, rollout=rollout)

    def align(reward_lora: LoraParams | None, **changes: Any) -> int:
        params = changed(changed(few, "reward", lora=reward_lora), "align", **changes)
        return rooms(params, DATA, workload.count_work(params, DATA, OPEN), "cuda")["align"].device

    separate = few.align.ppo.model_copy(update={"value_trunk": "separate"})
    shared = few.align.ppo.model_copy(update={"value_trunk": "shared"})
    assert align(LORA, lora=LORA, ppo=separate) == 2 * (n + 3 * adapter)
    assert align(LORA, lora=LORA, ppo=shared) == 2 * (n + 2 * adapter)
    # A reward model that was trained whole is a second model.
    assert align(None, lora=LORA, ppo=separate) == 2 * (n + 2 * adapter) + n
    for method in ("rloo", "grpo", "dpo"):  # with TRL's copy of the policy's adapter at the start
        assert align(LORA, lora=LORA, method=method) == 2 * (n + 3 * adapter)
        assert align(None, lora=LORA, method=method) == 2 * (n + 2 * adapter) + n

    def states(model: PlannedModel) -> int:
        many = changed(changed(few, "reward", lora=LORA), "align", lora=LORA, ppo=separate, forward_batch_size=64)
        return rooms(many, DATA, workload.count_work(many, DATA, model), "cuda")["align"].device

    # In training, each adapter with its gradient and two moments; that of the reward model is frozen.
    larger = replace(OPEN, num_adapted=dict.fromkeys(("sft", "reward", "align"), 2 * 4_884_480))
    assert states(larger) - states(OPEN) == (2 * 4 + 1) * adapter
