"""Each training stage in 1, 2 and 4 processes follows one curve; a killed run goes on in another number of them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from groundup.runner.checkpoints import SEAL
from groundup.runner.environment import TIMEOUT, TORCHRUN_LOGS
from tests.align.conftest import write_align_inputs
from tests.evaluate.stage import write_project
from tests.llamas import tiny_llama
from tests.pretrain import conftest as pretrain_inputs
from tests.ranks.stages import STAGES
from tests.reward import test_reward as reward_inputs
from tests.sft import test_sft as sft_inputs

pytestmark = pytest.mark.services
TORCHRUN = [sys.executable, "-m", "groundup.runner.launch.torchrun", "--standalone"]


@dataclass
class Run:
    """One training of a stage."""

    stage: str
    inputs: dict[str, str]
    folder: Path

    def __call__(self, number: int, *, backwards: bool = False, dies_at: int | None = None) -> int:
        """In `number` processes; the exit code."""
        if "root" in self.inputs:  # it finds its inputs in its own folder
            shutil.copytree(self.inputs["root"], self.folder, dirs_exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        options = {"stage": self.stage, "inputs": self.inputs, "backwards": backwards, "dies_at": dies_at}
        (self.folder / "options.json").write_text(json.dumps(options))
        command = [*TORCHRUN, "--nproc-per-node", str(number), "-m", "tests.ranks", str(self.folder)]
        environment = os.environ | {TIMEOUT: "120", TORCHRUN_LOGS: "CRITICAL"}
        return subprocess.run(command, env=environment, timeout=300, check=False).returncode

    @cached_property
    def noted(self) -> list[dict[str, Any]]:
        """By process."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("noted-*.json"))]

    @property
    def curve(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = self.noted[0]["curve"]
        return found

    @property
    def weights(self) -> bytes:
        return (self.folder / "out/model.safetensors").read_bytes()

    def distance(self, other: "Run") -> float:
        """The largest difference between two weights, or two points of the curves."""
        kind = AutoModelForSequenceClassification if self.stage == "reward" else AutoModelForCausalLM
        mine, theirs = (kind.from_pretrained(run.folder / "out").state_dict() for run in (self, other))
        weights = max(float((mine[name] - theirs[name]).abs().max()) for name in mine)
        rows = [(self.curve[step], other.curve[step]) for step in self.curve.keys() & other.curve.keys()]
        assert all(a.keys() == b.keys() for a, b in rows)
        left_out = {"token_accuracy"}  # TRL's mean over passes, whose tokens it does not count
        return max(weights, *(abs(a[name] - b[name]) for a, b in rows for name in a.keys() - left_out))


@pytest.fixture(scope="module")
def inputs(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """By stage."""
    root = tmp_path_factory.mktemp("inputs")
    model = tiny_llama(tiny_tokenizer)
    write_align_inputs(root / "align", model, tiny_tokenizer)
    pretrain = pretrain_inputs.write_inputs(root / "pretrain", tiny_tokenizer)
    found = {
        "pretrain": pretrain,
        "pretrain-fsdp2": pretrain,
        "sft": sft_inputs.write_inputs(root / "sft", tiny_tokenizer),
        "reward": reward_inputs.write_inputs(root / "reward", model, tiny_tokenizer),
        "align": {"root": root / "align"},
        "align-dpo": {"root": root / "align"},
        "evaluate": {"root": root / "evaluate"},
    }
    write_project(root / "evaluate", model, tiny_tokenizer)
    return {stage: {name: str(path) for name, path in paths.items()} for stage, paths in found.items()}


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def runs(stage: str, inputs: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """By the number of processes; `order`: one process that adds up the rows of a pass the other way round."""
    root = tmp_path_factory.mktemp(stage)
    made = {name: Run(stage, inputs[stage], root / name) for name in ("1", "2", "4", "order", "again")}
    for name, run in made.items():
        number = {"order": 1, "again": 2}.get(name) or int(name)
        assert run(number, backwards=name == "order") == 0
    return made


def test_every_process_trains_on_its_own_rows(stage: str, runs: dict[str, Run]) -> None:
    (whole,) = runs["1"].noted
    num_steps = len(whole["moved"])
    assert num_steps >= 8
    size = len(whole["rows"]) // num_steps  # rows of a step
    assert size >= 4
    for number in (2, 4):
        noted = runs[str(number)].noted
        assert {it["engine"] for it in noted} == {STAGES[stage]}
        assert len({it["weights"] for it in noted}) == (number if "fsdp2" in stage else 1)  # a shard each, or all
        assert [len(it["moved"]) for it in noted] == [num_steps] * number
        for it in noted:  # the rate of the first and of the last step may be 0
            assert max(it["moved"]) == 1.0
            assert it["moved"] == whole["moved"] or "fsdp2" in stage
        share = size // number
        for step in range(num_steps):
            together = [row for it in noted for row in it["rows"][step * share : (step + 1) * share]]
            assert sorted(together) == sorted(whole["rows"][step * size : (step + 1) * size])


def test_the_curve_does_not_depend_on_the_number_of_processes(runs: dict[str, Run]) -> None:
    """As near as one process comes to itself when it adds up in another order."""
    order = runs["1"].distance(runs["order"])
    assert 0 < order < 1e-4
    for number in ("2", "4"):
        assert runs["1"].curve.keys() == runs[number].curve.keys()
        assert runs["1"].distance(runs[number]) <= 3 * order


def test_the_same_tokens_are_sampled(stage: str, runs: dict[str, Run]) -> None:
    if stage != "align":
        return

    def tokens(run: Run) -> list[int]:
        """Of all rollouts, the prompts of each in their order; a process has every n-th one."""
        rollouts = zip(*(it["tokens"] for it in run.noted), strict=True)
        prompts = (prompt for shares in rollouts for prompt in zip_longest(*shares, fillvalue=()))
        return [token for replies in prompts for reply in replies for token in reply]

    whole = tokens(runs["1"])
    assert len(whole) > 100
    for number in ("2", "4"):
        together = tokens(runs[number])
        assert len(together) == len(whole)
        assert sum(a != b for a, b in zip(whole, together, strict=True)) <= 0.001 * len(whole)


def test_the_same_number_of_processes_gives_the_same_bytes(runs: dict[str, Run]) -> None:
    assert runs["2"].weights == runs["again"].weights
    assert runs["2"].curve == runs["again"].curve


def test_a_run_that_ended_after_training_is_published(runs: dict[str, Run], tmp_path: Path) -> None:
    whole = runs["2"]
    run = Run(whole.stage, whole.inputs, tmp_path / "over")
    shutil.copytree(whole.folder / "work", run.folder / "work")
    assert run(2) == 0
    assert run.weights == whole.weights


@pytest.mark.parametrize(("killed", "resumed"), [(4, 1), (2, 4), (2, 2)])
def test_a_killed_run_goes_on_in_another_number_of_processes(
    runs: dict[str, Run], tmp_path: Path, killed: int, resumed: int
) -> None:
    whole = runs["1"]
    steps = sorted(map(int, whole.curve))
    run = Run(whole.stage, whole.inputs, tmp_path / "cut")
    assert run(killed, dies_at=steps[-1]) != 0
    assert list(run.folder.glob(f"work/checkpoint-*/{SEAL}"))
    assert not (run.folder / "out").exists()
    assert run(resumed) == 0
    rest = sorted(map(int, run.curve))
    assert 0 < len(rest) < len(steps)
    assert rest == steps[-len(rest) :]
    if killed == resumed:
        assert run.weights == runs[str(killed)].weights
    else:
        assert run.distance(whole) <= 3 * whole.distance(runs["order"])


def test_grpo_samples_the_same_replies_in_several_processes(inputs: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """TRL shuffles the replies within each process, so minibatches, and then the curve, are others."""
    one, two = (Run("align-grpo", inputs["align"], tmp_path / str(number)) for number in (1, 2))
    assert (one(1), two(2)) == (0, 0)
    assert {it["engine"] for it in two.noted} == {"DistributedDataParallel"}
    assert len({it["weights"] for it in two.noted}) == 1
    assert all(max(it["moved"]) == 1.0 for it in two.noted)
    first, before, after = "1", one.curve, two.curve
    assert before.keys() == after.keys()
    for name in ("reward", "score", "reply_length", "distinct_2"):
        assert after[first][name] == pytest.approx(before[first][name], rel=1e-4)


def test_muon_shares_its_iterations(stage: str, runs: dict[str, Run]) -> None:
    """With whole weights; each rank brings shards together for them."""
    if stage != "pretrain":
        return
    numbers = {name: [it["num_orthogonalized"] for it in run.noted] for name, run in runs.items()}
    assert numbers["1"][0] > 0
    assert numbers["2"] == [numbers["1"][0] / 2] * 2


def test_evaluate_finds_the_same_in_several_processes(inputs: dict[str, dict[str, str]], tmp_path: Path) -> None:
    one, *more = (Run("evaluate", inputs["evaluate"], tmp_path / str(number)) for number in (1, 2, 4))
    assert [run(number) for run, number in zip((one, *more), (1, 2, 4), strict=True)] == [0, 0, 0]
    whole = one.noted[0]["num_replies"]
    for run in more:
        shares = [it["num_replies"] for it in run.noted]
        assert sum(shares) == whole
        assert max(shares) < whole
        assert run.curve.keys() == one.curve.keys() == {"0", "1", "2", "3"}
        for step, values in one.curve.items():
            expected = {name: value for name, value in values.items() if not name.endswith("_seconds")}
            found = {name: run.curve[step][name] for name in expected}
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
