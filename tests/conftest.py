"""Fixtures shared by all tests: a tokenizer and a model small enough to build in process."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # workers and the processes they start share the cores

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from groundup.runner.interruption import SIGNALS
from groundup.runner.params.presets import with_preset
from groundup.tokenizer.tokenizer import chat_tokenizer, train_bpe
from tests.llamas import tiny_llama
from tests.smoke_run import SmokeRun, run_stages

pytest_plugins = ["tests.tried"]
ROOT = Path(__file__).resolve().parents[1]
WITH_SMOKE_RUN = ("tests/end_to_end", "tests/chaos/test_chaos.py")  # one worker makes the run for all workers
# Tests that run stages, train or start servers, longest first. `make check` leaves them out.
SLOW = (
    *WITH_SMOKE_RUN,
    "tests/align/methods/test_methods.py",
    "tests/align/test_align.py",
    "tests/open_models",
    "tests/bad_input",
    "tests/own_data",
    "tests/runner/tracking/test_team.py",
    "tests/runner/tracking/test_server.py",
    "tests/app/chat",
    "tests/app/export",
    "tests/app/serve",
    "tests/evaluate/test_evaluate.py",
    "tests/evaluate/harness",
    "tests/reward/test_reward.py",
    "tests/sft/test_sft.py",
    "tests/pretrain",
    "tests/determinism/test_surroundings.py",
    "tests/bench/test_compare_alignment.py",
    "tests/bench/test_gpu.py",
    "tests/device",
    "tests/runner/tracking/test_deliverer.py",
    "tests/runner/test_interruption.py",
    "tests/align/methods/ppo/test_optimum.py",
    "tests/align/test_exploitable_reward.py",
    "tests/runner/test_stage.py",
    "tests/runner/tracking/test_register.py",
    "tests/chaos/test_events.py",
    "tests/docs",
    "tests/app/fetch/test_hub.py",
    "tests/runner/test_context.py",
    "tests/tokenizer/test_open_model.py",
    "tests/bench/test_runner.py",
    "tests/prepare/test_processes.py",
    "tests/runner/test_device.py",
    "tests/core/model/test_variants.py",
    "tests/core/training/test_runtime.py",
    "tests/security/test_pickle.py",
    "tests/prepare/outputs/test_relevance.py",
)
GIT_IDENTITY = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

SENTENCES = [
    "What do you think about the beach? I like it very much, the sea is warm there.",
    "Hello there! How are you today? I am well, thank you for asking me.",
    "The river flows through the old town and then through the green valley to the sea.",
    "Do you like music? Yes, I like to listen to music when I am at home.",
]


class ByFile(LoadScopeScheduling):
    """One worker runs all tests of a file, so that shared fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        return "smoke run" if nodeid.startswith(WITH_SMOKE_RUN) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False  # as pytest_collection_modifyitems has ordered them
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first, so that no worker is left with a long one at the end."""
    assert [path for path in SLOW if not (ROOT / path).exists()] == []
    places = {item: next((i for i, path in enumerate(SLOW) if item.nodeid.startswith(path)), None) for item in items}
    for item, place in places.items():
        if place is not None:
            item.add_marker("slow")
    items.sort(key=lambda item: len(SLOW) if (place := places[item]) is None else place)


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """As in the delivering process: without network, MLflow tries to get a licence from the hub for half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 300 tokens with our special tokens and chat template."""
    return chat_tokenizer(train_bpe(iter(SENTENCES), vocab_size=300, min_frequency=1), context_length=128)


@pytest.fixture
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random Llama with weights so large that every input matters."""
    return tiny_llama(tiny_tokenizer)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; making one takes seconds, copying it none."""
    from mlflow import MlflowClient  # 3 s; most tests need none

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(migrated_store: Path, tmp_path: Path) -> str:
    """URI of a store for this test; the artifacts of its one experiment are in the test's folder."""
    from mlflow import MlflowClient

    path = shutil.copy(migrated_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{path}"
    MlflowClient(uri).create_experiment("groundup", artifact_location=(tmp_path / "mlartifacts").as_uri())
    return uri


@pytest.fixture
def delivered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what arrives in MLflow, not of the delivering process."""
    from tests.delivery import deliver_here  # imports MLflow

    deliver_here(monkeypatch)


@pytest.fixture
def working_copy(tmp_path: Path) -> Path:
    """This working tree as a git repository of its own, on the smoke preset, without artifacts or metrics."""
    return copy_working_tree(tmp_path / "copy")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """The whole pipeline, run once; a test that changes `root` first restores the state it needs."""
    folder = tmp_path_factory.mktemp("smoke")
    copy_working_tree(folder / "copy")
    return run_stages(SmokeRun(folder))


def copy_working_tree(target: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.split("\0"):
        if name and not name.startswith("metrics/") and name != "dvc.lock" and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    params = with_preset(ROOT, "smoke", {"runtime.num_threads": 1}).text
    (target / "params.yaml").write_text(params, encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=target, check=True, env=os.environ | GIT_IDENTITY)
    return target
