"""RLOO, GRPO and DPO as the stage runs them: they learn, resume to the same bytes, and write PPO's files."""

import json
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Trainer

from groundup.align.methods import METHODS as REGISTERED
from groundup.align.methods.dpo import make_pairs
from groundup.align.methods.grpo import GroupReward
from groundup.align.methods.ppo.module import Ppo
from groundup.align.rollout import RolloutWorker
from groundup.core.training.runtime import NonFiniteLossError
from groundup.runner.interruption import Terminated
from groundup.runner.params.align import AlignParams, Method
from tests.align.conftest import LORA, AlignRun, Recorder, without_clock

METHODS = ("rloo", "grpo", "dpo")
# PPO's keys that another method does not have.
ONLY_PPO = {"explained_variance", "explained_variance_last", "kl_coefficient_start", "kl_coefficient_end"}
LEARNING = {"num_iterations": 8, "rollout": {"batch_size": 32}, "minibatch_size": 16, "budgets": {"kl": 40.0}}


def test_every_method_of_the_schema_is_listed_and_has_a_section() -> None:
    assert get_args(Method) == tuple(REGISTERED)
    assert set(REGISTERED) <= set(AlignParams.model_fields)


def settings(method: str, **changes: Any) -> dict[str, Any]:
    section = {"learning_rate": 3e-3, "num_generations": 4, "beta": 0.02}
    return {"method": method, method: section} | changes


@pytest.mark.parametrize("method", METHODS)
def test_reward_rises_and_the_best_validation_is_kept(run_align: AlignRun, method: str) -> None:
    curve = Recorder()
    metrics = run_align("run", curve, **settings(method, **LEARNING))
    candidates = {i: p["val_reward"] for i, p in curve.points.items() if p["val_kl"] <= 40.0}
    assert metrics["kept_iteration"] == max(candidates, key=candidates.__getitem__)
    assert candidates[metrics["kept_iteration"]] > curve.points[0]["val_reward"] + 0.1
    assert metrics["heldout_reward_after"] > metrics["heldout_reward_before"]
    assert metrics["kl_to_reference"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_outputs_and_names_are_those_of_ppo(run_align: AlignRun, method: str) -> None:
    ppo_curve, curve = Recorder(), Recorder()
    ppo, metrics = run_align("ppo", ppo_curve), run_align("run", curve, method=method)
    own = {"num_pairs"} if method == "dpo" else set()
    assert metrics.keys() - own == ppo.keys() - ONLY_PPO
    assert curve.points.keys() == ppo_curve.points.keys()
    validation = {name for name in ppo_curve.points[4] if name.startswith(("val_", "alarm_"))}
    assert validation <= curve.points[4].keys()
    own_curve = {"gradient_norm"} | ({"pair_accuracy"} if method == "dpo" else set())
    assert curve.points[4].keys() - own_curve <= ppo_curve.points[4].keys()
    files = {
        name: sorted(
            str(p.relative_to(run_align.root / name))
            for f in ("out", "report")
            for p in (run_align.root / name / f).rglob("*")
        )
        for name in ("ppo", "run")
    }
    assert files["run"] == files["ppo"]
    points = {
        name: [json.loads(line) for line in (run_align.root / name / "report/evaluation_points.jsonl").open()]
        for name in ("ppo", "run")
    }
    assert [row.keys() for row in points["run"]] == [row.keys() for row in points["ppo"]]
    # The SFT model, seen by both.
    assert points["run"][:6] == [{**row, "kept": points["run"][0]["kept"]} for row in points["ppo"][:6]]


@pytest.mark.parametrize("method", METHODS)
def test_the_policy_learns_at_a_rate_that_rises_and_falls_to_zero(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    rates, step = [], Trainer.training_step

    def recorded(trainer: Trainer, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = step(trainer, *arguments, **named)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(Trainer, "training_step", recorded)
    run_align("run", method=method)
    num_steps, num_warmup = len(rates), len(rates) // 4
    falling = [1e-3 * (num_steps - i) / (num_steps - num_warmup) for i in range(num_warmup, num_steps)]
    assert rates == pytest.approx([1e-3 * i / num_warmup for i in range(num_warmup)] + falling)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("crash_at", [1, 3])
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(run_align: AlignRun, method: str, crash_at: int) -> None:
    whole, broken = Recorder(), Recorder(crash_at, "policy_loss")
    expected = run_align("whole", whole, **settings(method))
    assert expected["kept_iteration"] > 0
    run_align.crash(broken, **settings(method))
    run_align.assert_resumes(whole, expected, broken, **settings(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_to_end_saves_the_iteration_it_is_in(run_align: AlignRun, method: str) -> None:
    whole, broken = Recorder(), Recorder()
    expected = run_align("whole", whole, **settings(method, checkpoint_every=100))

    def end_in_the_second(step: int, **values: float) -> None:
        broken(step, **values)
        if step == 2:
            run_align.interruption.receive(15, None)

    with pytest.raises(Terminated):
        run_align("broken", end_in_the_second, **settings(method, checkpoint_every=100))
    assert max(broken.points) in (2, 3)
    run_align.assert_resumes(whole, expected, broken, **settings(method, checkpoint_every=100))


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_called_again_only_measures(run_align: AlignRun, method: str) -> None:
    expected = run_align("run", **settings(method))
    weights = run_align.weights("run")
    again = Recorder()
    assert without_clock(run_align("run", again, **settings(method))) == without_clock(expected)
    assert not again.points
    assert run_align.weights("run") == weights


@pytest.mark.parametrize("method", METHODS)
def test_a_kl_above_the_stop_ends_training_for_good(run_align: AlignRun, method: str) -> None:
    stop = settings(
        method,
        budgets={"kl": 1e-3},
        alarms={"kl_stop": 1e-3},
        rloo={"learning_rate": 3e-2, "num_generations": 2, "beta": 0.0},
    )
    curve, again = Recorder(), Recorder()
    metrics = run_align("run", curve, **stop)
    assert metrics["stopped_early"] == f"KL above kl_stop 0.001 at the validation of iteration {max(curve.points)}"
    assert max(curve.points) < 4
    assert without_clock(run_align("run", again, **stop)) == without_clock(metrics)
    assert not again.points


@pytest.mark.parametrize("method", METHODS)
def test_lora_publishes_adapter_and_merged_model_and_resumes(run_align: AlignRun, method: str) -> None:
    whole, broken = Recorder(), Recorder(3, "policy_loss")
    changes = settings(method, lora=LORA, budgets={"kl": 40.0})
    changes[method] |= {"learning_rate": 2e-2}
    expected = run_align("whole", whole, **changes)
    assert expected["kept_iteration"] > 0
    run_align.crash(broken, **changes)
    run_align.assert_resumes(whole, expected, broken, **changes)
    out = run_align.root / "broken/out"
    assert sorted(path.name for path in (out / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    merged, sft = load_file(out / "model.safetensors"), load_file(run_align.root / "sft/model.safetensors")
    changed = {name for name, weight in sft.items() if not torch.equal(weight, merged[name])}
    assert changed
    assert all("q_proj" in name or "v_proj" in name for name in changed)
    assert not [p for p in out.rglob("*") if p.is_file() and str(run_align.root).encode() in p.read_bytes()]


@pytest.mark.parametrize("method", METHODS)
def test_the_published_model_loads_and_is_what_ppo_publishes(run_align: AlignRun, method: str) -> None:
    run_align("ppo"), run_align("run", **settings(method, budgets={"kl": 40.0}))
    assert AutoModelForCausalLM.from_pretrained(run_align.root / "run/out").generation_config.use_cache
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert (run_align.root / "run/out" / name).read_bytes() == (run_align.root / "ppo/out" / name).read_bytes()
    assert f"by {method}, to score higher" in " ".join((run_align.root / "run/out/README.md").read_text().split())


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_names_its_iteration(run_align: AlignRun, method: str) -> None:
    diverging = settings(method)
    diverging[method] |= {"learning_rate": 1e30}
    with pytest.raises((NonFiniteLossError, ValueError), match=r"learning_rate|lower the learning rate"):
        run_align("run", **diverging)


@pytest.mark.parametrize("method", [*METHODS, "ppo"])
def test_gradients_that_are_not_finite_stop_before_the_step(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def spoil(model: torch.nn.Module) -> None:
        next(weight.grad for weight in model.parameters() if weight.grad is not None).view(-1)[0] = float("nan")

    step, backward = Trainer.training_step, Ppo.manual_backward

    def spoiled_step(trainer: Trainer, model: torch.nn.Module, *rest: Any) -> torch.Tensor:
        loss = step(trainer, model, *rest)
        spoil(model)
        return loss

    def spoiled_backward(ppo: Ppo, loss: torch.Tensor) -> None:
        backward(ppo, loss)
        spoil(ppo.value_model)

    monkeypatch.setattr(Trainer, "training_step", spoiled_step)
    monkeypatch.setattr(Ppo, "manual_backward", spoiled_backward)
    when = r"iteration 1 \(value model\)" if method == "ppo" else "step 1"
    match = rf"align: the norm of the gradients is nan at {when}.*lower align\.{method}\.learning_rate"
    with pytest.raises(NonFiniteLossError, match=match):
        run_align("run", **({} if method == "ppo" else settings(method)))


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_what_trl_samples_is_scored_as_ppo_would(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Prompts with the tokens of the template, replies without role markers, their ends as the penalty needs them."""
    calls: list[tuple[list[list[int]], list[list[int]], list[float]]] = []
    call = GroupReward.__call__

    def recorded(self: GroupReward, completion_ids: list[list[int]], ids: list[list[int]], **rest: Any) -> list[float]:
        rewards = call(self, completion_ids, ids, **rest)
        calls.append((ids, completion_ids, rewards))
        return rewards

    monkeypatch.setattr(GroupReward, "__call__", recorded)
    changes = settings(method)
    changes[method] |= {"length_control_gain": 0.0, "length_control_rate": 0.0}
    run_align("run", **changes)
    assert len(calls) == 4  # one per iteration: its epochs reuse the samples
    config = AutoModelForCausalLM.from_pretrained(run_align.root / "sft").generation_config
    eos = config.eos_token_id
    reward_model = AutoModelForSequenceClassification.from_pretrained(run_align.root / "reward")
    for ids, replies, rewards in calls:
        assert [len(ids), ids[0]] == [8, ids[3]]
        assert ids[0] != ids[4]
        for prompt, reply, reward in zip(ids, replies, rewards, strict=True):
            ended = reply[-1] == eos
            assert ended or len(reply) == 8
            assert not set(reply) & set(config.suppress_tokens)
            chat = prompt + reply + ([] if ended else [eos])
            score = reward_model(torch.tensor([chat])).logits[0, 0].item()
            assert reward == pytest.approx(score - (0.0 if ended else 1.0), abs=1e-4)


def test_pairs_are_the_best_and_the_worst_of_their_prompt(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def recorded(*arguments: Any) -> dict[str, Any]:
        made.append(make_pairs(*arguments))
        return made[-1]

    monkeypatch.setattr("groundup.align.methods.dpo.make_pairs", recorded)
    metrics = run_align("run", **settings("dpo"))
    assert (
        metrics["num_pairs"] == len(made[0]["pairs"]) == 8 - made[0]["ties"]
    )  # 4 iterations of 8 replies, 4 per prompt
    reward_model = AutoModelForSequenceClassification.from_pretrained(run_align.root / "reward")

    eos = AutoModelForCausalLM.from_pretrained(run_align.root / "sft").generation_config.eos_token_id

    def reward(prompt: list[int], reply: list[int]) -> float:
        ended = reply[-1] == eos
        chat = prompt + reply + ([] if ended else [eos])
        return reward_model(torch.tensor([chat])).logits[0, 0].item() - (not ended)

    for pair in made[0]["pairs"]:
        assert reward(pair["prompt_ids"], pair["chosen_ids"]) > reward(pair["prompt_ids"], pair["rejected_ids"])


def test_replies_that_are_all_worth_the_same_make_no_pairs(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RolloutWorker, "rewards", lambda worker, answers, *rest: torch.zeros(len(answers.tokens)))
    with pytest.raises(ValueError, match=r"replies to each of 8 prompts all have the same reward.*num_generations"):
        run_align("run", **settings("dpo"))
