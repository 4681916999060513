"""The stage as a whole: it learns, resumes to the same bytes, stops on alarms, and publishes a model that loads."""

import json
import os
import signal
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from groundup.align.methods.ppo.module import Ppo
from groundup.core.judging.statistics import clustered_mean
from groundup.core.training.runtime import NonFiniteLossError
from groundup.runner.interruption import Terminated
from tests.align.conftest import LORA, AlignRun, Recorder, align_params, without_clock


@pytest.mark.parametrize(
    ("crash_at", "value_trunk"), [(1, "separate"), (4, "separate"), (5, "separate"), (4, "shared")]
)
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(
    run_align: AlignRun, crash_at: int, value_trunk: str
) -> None:
    whole, broken = Recorder(), Recorder(crash_at)
    changes = {"num_iterations": 5, "ppo": {"value_trunk": value_trunk}}
    expected = run_align("whole", whole, **changes)
    run_align.crash(broken, **changes)
    run_align.assert_resumes(whole, expected, broken, **changes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_iteration_and_nothing_is_lost(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A real signal in the middle of iteration 3, after Lightning has installed its own handler."""
    whole, broken = Recorder(), Recorder()
    expected = run_align("whole", whole, num_iterations=5)
    learn = Ppo.learn

    def interrupted(ppo: Ppo, *arguments: Any) -> Any:
        if ppo.iteration == 3:
            os.kill(os.getpid(), number)
        return learn(ppo, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ppo, "learn", interrupted)
        with pytest.raises(Terminated) as ended:
            run_align("broken", broken, num_iterations=5)
    assert ended.value.code == 128 + number
    assert max(broken.points) == 3
    run_align.assert_resumes(whole, expected, broken, num_iterations=5)


def test_the_policy_learns_at_a_rate_that_rises_and_falls_to_zero(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, learn = [], Ppo.learn

    def recorded(ppo: Ppo, *arguments: Any) -> Any:
        learned = learn(ppo, *arguments)
        rates.append([group["lr"] for group in ppo.optimizer.param_groups])
        return learned

    monkeypatch.setattr(Ppo, "learn", recorded)
    run_align("run", num_iterations=5, warmup_iterations=2)
    policy, value_model = zip(*rates, strict=True)
    assert policy == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert set(value_model) == {1e-2}


def test_a_finished_run_called_again_only_measures(run_align: AlignRun) -> None:
    expected = run_align("run")
    weights = run_align.weights("run")
    again = Recorder()
    metrics = run_align("run", again)
    assert not again.points
    assert without_clock(metrics) == without_clock(expected)
    assert run_align.weights("run") == weights


def test_the_seed_decides(run_align: AlignRun) -> None:
    run_align("a"), run_align("b"), run_align("c", seed=5)
    assert run_align.weights("a") == run_align.weights("b")
    assert run_align.weights("a") != run_align.weights("c")


def test_curve_and_metrics_have_their_names(run_align: AlignRun) -> None:
    curve = Recorder()
    metrics = run_align("run", curve)
    replies = {"reward", "score", "score_std", "kl", "reply_length", "end_of_turn_rate", "distinct_2", "repetition"}
    coefficients = {"kl_coefficient", "length_coefficient", "entropy_coefficient"}
    learning = {"policy_loss", "value_loss", "clip_fraction", "entropy", "approximate_kl", "explained_variance"}
    training = replies | coefficients | learning
    monitored = {"val_monitor_score", "val_monitor_change", "val_monitor_z"}
    alarms = {"alarm_overoptimization", "alarm_length", "alarm_repetition", "alarm_style", "alarm_kl"}
    style = {"greeting_rate", "question_rate", "echo_rate", "repeat_rate"}
    validation = {f"val_{name}" for name in replies | style} | monitored | alarms
    assert curve.points.keys() == {0, 1, 2, 3, 4}
    assert curve.points[0].keys() == validation
    assert curve.points[4].keys() == training | validation
    assert metrics["kl_budget"] == 5.0
    for name in style:
        assert metrics[f"val_{name}"] == curve.points[metrics["kept_iteration"]][f"val_{name}"]
        assert metrics[f"val_{name}_sft"] == curve.points[0][f"val_{name}"]
    assert metrics["kl_coefficient_start"] == 0.05
    assert metrics["kl_coefficient_end"] != 0.05
    assert metrics["num_test_prompts"] == 10
    difference = metrics["heldout_reward_after"] - metrics["heldout_reward_before"]
    assert metrics["heldout_reward_difference"] == pytest.approx(difference, abs=1e-6)
    low, high = metrics["heldout_reward_difference_ci_low"], metrics["heldout_reward_difference_ci_high"]
    assert low <= metrics["heldout_reward_difference"] <= high
    assert all(isinstance(value, float | int | str) for value in metrics.values())


def test_the_first_iteration_samples_from_the_reference(run_align: AlignRun) -> None:
    curve = Recorder()
    run_align("run", curve, num_iterations=1, num_epochs=1, minibatch_size=8)
    assert curve.points[1]["kl"] == pytest.approx(0, abs=1e-4)
    assert curve.points[1]["approximate_kl"] == pytest.approx(0, abs=1e-6)  # one step: every ratio is still 1
    assert curve.points[1]["clip_fraction"] == 0


def test_reward_rises_and_the_best_validation_is_kept(run_align: AlignRun) -> None:
    curve = Recorder()
    metrics = run_align(
        "run", curve, num_iterations=15, rollout={"batch_size": 32}, minibatch_size=16, ppo={"learning_rate": 3e-3}
    )
    rows = [json.loads(line) for line in (run_align.root / "run/report/evaluation_points.jsonl").open()]

    def kl_at_most(iteration: int) -> float:
        """The mean and its standard error."""
        points = [row for row in rows if row["iteration"] == iteration]
        return sum(clustered_mean([row["kl"] for row in points], [row["conversation_id"] for row in points]))

    candidates = {i: p["val_reward"] for i, p in curve.points.items() if kl_at_most(i) <= 5.0}
    assert metrics["kept_iteration"] == max(candidates, key=candidates.__getitem__)
    assert candidates[metrics["kept_iteration"]] > curve.points[0]["val_reward"] + 0.3
    assert metrics["heldout_reward_after"] > metrics["heldout_reward_before"]


def test_above_the_kl_budget_nothing_but_the_sft_model_is_kept(run_align: AlignRun) -> None:
    metrics = run_align("run", budgets={"kl": 2e-6}, ppo={"kl_target": 1e-6, "learning_rate": 1e-2})
    assert metrics["kept_iteration"] == 0
    assert run_align.weights("run") == (run_align.root / "sft/model.safetensors").read_bytes()
    assert metrics["heldout_reward_difference"] == 0


STOPPED: dict[str, Any] = {
    "alarms": {"kl_stop": 0.02},
    "budgets": {"kl": 0.01},
    "ppo": {"kl_target": 0.01, "learning_rate": 3e-2},
}


def test_hard_stop(run_align: AlignRun) -> None:
    curve = Recorder()
    metrics = run_align("run", curve, **STOPPED)
    last = max(curve.points)
    assert 1 < last < 4
    assert curve.points[last]["kl"] > 0.02
    assert "policy_loss" not in curve.points[last]  # stopped before the update
    assert metrics["stopped_early"] == f"KL {curve.points[last]['kl']:.2f} above kl_stop 0.02 in iteration {last}"


def test_a_stop_before_the_first_update_has_no_explained_variance(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = Ppo.summary
    monkeypatch.setattr(Ppo, "summary", lambda ppo, rollout: summary(ppo, rollout) | {"kl": 51.0})
    metrics = run_align("run")
    assert metrics["stopped_early"] == "KL 51.00 above kl_stop 50.0 in iteration 1"
    assert metrics["kept_iteration"] == 0
    assert not {"explained_variance", "explained_variance_last"} & metrics.keys()
    assert run_align.weights("run") == (run_align.root / "sft/model.safetensors").read_bytes()


def stop_early(run_align: AlignRun, name: str, log: Recorder | None = None) -> dict[str, Any]:
    """With training above the KL budget, and no checkpoint before the stop."""
    return run_align(name, log, **STOPPED, checkpoint_every=100)


def test_a_run_that_stopped_early_and_is_killed_before_it_measures_only_measures(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stop_early(run_align, "whole")
    assert expected["stopped_early"] != "no"
    with monkeypatch.context() as patch:
        patch.delattr("groundup.align.align._heldout_metrics")
        with pytest.raises(NameError):
            stop_early(run_align, "broken")
    again = Recorder()
    run_align.assert_resumes(Recorder(), expected, again, **STOPPED, checkpoint_every=100)


def test_a_signal_in_the_iteration_that_stops_early_loses_nothing(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = Recorder(), Recorder()
    expected = stop_early(run_align, "whole", whole)
    last = max(whole.points)
    training_step = Ppo.training_step

    def interrupted(ppo: Ppo, *arguments: Any) -> None:
        if ppo.iteration == last - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        training_step(ppo, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ppo, "training_step", interrupted)
        with pytest.raises(Terminated):
            stop_early(run_align, "broken", broken)
    assert [path.name for path in (run_align.root / "broken/work").iterdir()] == [f"checkpoint-{last}"]
    assert broken.points == whole.points
    again = Recorder()
    run_align.assert_resumes(Recorder(), expected, again, **STOPPED, checkpoint_every=100)


def test_no_more_test_prompts_are_measured_than_asked_for(run_align: AlignRun) -> None:
    assert run_align("run", num_iterations=1, test={"num_prompts": 4})["num_test_prompts"] == 4


def test_a_loss_that_is_not_finite_names_its_iteration(run_align: AlignRun) -> None:
    with pytest.raises(NonFiniteLossError, match=r"iteration 2 .*align.ppo.learning_rate"):
        run_align("run", ppo={"value_learning_rate": 1e30}, num_epochs=1, minibatch_size=8)  # one step per iteration


def test_checkpoints_two_kept_and_plain(run_align: AlignRun) -> None:
    run_align("run", num_iterations=7)
    work = run_align.root / "run/work"
    assert sorted(path.name for path in work.iterdir()) == ["checkpoint-6", "checkpoint-7"]
    state = torch.load(work / "checkpoint-7/state.pt", weights_only=True)
    assert state["ppo"]["iteration"] == 7


def test_the_published_model_loads_and_carries_no_path(run_align: AlignRun) -> None:
    run_align("run", budgets={"kl": 40.0})
    out = run_align.root / "run/out"
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    config = model.generation_config
    assert (config.eos_token_id, config.pad_token_id, config.use_cache) == (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        True,
    )
    card = (out / "README.md").read_text()
    assert "## Alignment" in card
    assert "artifacts/reports/evaluate" in card  # the view of a judge that it was not trained to please
    assert not [p for p in out.rglob("*") if p.is_file() and str(run_align.root).encode() in p.read_bytes()]


def test_lora_publishes_adapter_and_merged_model(run_align: AlignRun) -> None:
    curve = Recorder()
    metrics = run_align("run", curve, lora=LORA, num_iterations=6, ppo={"learning_rate": 1e-2}, budgets={"kl": 40.0})
    assert metrics["kept_iteration"] > 0
    assert curve.points[1]["kl"] == pytest.approx(0, abs=1e-4)
    out = run_align.root / "run/out"
    merged = AutoModelForCausalLM.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(run_align.root / "sft")
    ids = torch.tensor([[7, 8, 9, 10]])
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, out / "adapter").eval()
    assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-5)
    assert not torch.allclose(plain, merged(ids).logits, atol=1e-3)
    assert not [p for p in out.rglob("*") if p.is_file() and str(run_align.root).encode() in p.read_bytes()]


@pytest.mark.parametrize("value_trunk", ["separate", "shared"])
def test_lora_resumes_to_the_same_bytes(run_align: AlignRun, value_trunk: str) -> None:
    changes = {"lora": LORA, "ppo": {"value_trunk": value_trunk}}
    whole, broken = Recorder(), Recorder(crash_at=4)
    expected = run_align("whole", whole, **changes)
    run_align.crash(broken, **changes)
    run_align.assert_resumes(whole, expected, broken, **changes)


def test_lora_dropout_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout must be 0"):
        align_params(lora=LORA | {"dropout": 0.1})


def test_samples_follow_the_same_prompts(run_align: AlignRun) -> None:
    run_align("run")
    rows = [json.loads(line) for line in (run_align.root / "run/report/samples.jsonl").read_text().splitlines()]
    assert [(row["iteration"], row["prompt"]) for row in rows] == [(i, p) for i in (0, 2, 4) for p in (0, 1)]
    assert rows[0]["messages"] == rows[2]["messages"]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3)
    page = (run_align.root / "run/report/samples.md").read_text()
    assert page.count("## Prompt") == 2
    assert page.count("\n| 4 |") == 2


def test_prompts_that_are_all_too_long(run_align: AlignRun) -> None:
    with pytest.raises(
        ValueError, match=r"train.jsonl: none of its 10 prompts .*raise align.rollout.max_prompt_tokens"
    ):
        run_align("run", rollout={"max_prompt_tokens": 2})


def test_lengths_beyond_the_context(run_align: AlignRun) -> None:
    with pytest.raises(ValueError, match=r"= 169 is above the SFT model's context of 128"):
        run_align("run", rollout={"max_new_tokens": 108})
