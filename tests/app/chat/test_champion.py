"""The champion: a complete copy in MLflow, which loads and serves."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.chat.loading import Models, champion_path
from groundup.core.model.llama import save_model
from groundup.runner.files import dvc_md5
from groundup.runner.tracking import fetch
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.registry import NAME, rollback
from groundup.runner.tracking.spool import Spool
from groundup.runner.tracking.store import open_store
from tests.conftest import ROOT
from tests.llamas import tiny_shape
from tests.runner.tracking.events import start
from tests.smoke_run import environment

PATIENCE = 300.0


@dataclass(frozen=True)
class Registered:
    """A checkout whose aligned model is the champion of its store."""

    root: Path
    uri: str
    runs: dict[str, str]


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, migrated_store: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> Registered:
    folder = tmp_path_factory.mktemp("champion")
    root = folder / "checkout"
    (root / "stages").mkdir(parents=True)
    shutil.copyfile(ROOT / "dvc.yaml", root / "dvc.yaml")
    torch.manual_seed(0)
    config = LlamaConfig(**tiny_shape(tiny_tokenizer, num_hidden_layers=1))
    card = "---\nlibrary_name: transformers\n---\n# The card\n"
    save_model(LlamaForCausalLM(config), tiny_tokenizer, root / "artifacts/aligned", card)
    client = open_store(f"sqlite:///{shutil.copy(migrated_store, folder / 'mlflow.db')}")
    client.create_experiment("groundup", artifact_location=(folder / "kept").as_uri())
    runs: dict[str, str] = {}
    for stage, upstream in (("align", {}), ("evaluate", {"align": "print-align"})):
        work = folder / stage
        work.mkdir()
        spool = Spool(work)
        spool.write("start", **start(stage, upstream, []))
        if stage == "evaluate":
            shutil.copytree(root / "artifacts/aligned", work / "candidate")
            (work / "report.html").write_text("<html>", encoding="utf-8")
            model = {"path": "artifacts/aligned", "md5": "d41d.dir", "model_type": "causal-lm", "params": {}}
            spool.write("register", model=model, copy="candidate", gates=[], report=["report.html"])
        spool.write("finish", status="FINISHED")
        deliverer = Deliverer(work, client, None)
        deliverer.deliver()
        runs[stage] = str(deliverer.run_id)
        shutil.rmtree(work)
    return Registered(root, f"sqlite:///{folder / 'mlflow.db'}", runs)


@pytest.fixture
def client(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(registered.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.uri)
    return open_store(registered.uri)


def test_the_copy_is_whole_with_report_and_lineage(client: MlflowClient, registered: Registered) -> None:
    path = champion_path(registered.root)
    assert dvc_md5(path) == dvc_md5(registered.root / "artifacts/aligned")
    folder = path.parent
    assert (folder / "report/report.html").read_text(encoding="utf-8") == "<html>"
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    assert [(run["stage"], run["run_id"]) for run in lineage] == list(registered.runs.items())
    assert lineage[0]["params"]["align.value7"] == "7"
    version = client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["upstream.align"] == registered.runs["align"]
    loaded = mlflow.transformers.load_model(f"models:/{NAME}@champion")
    model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True)
    ids = torch.arange(5, 25)[None]
    torch.testing.assert_close(model(ids).logits, loaded.model(ids).logits)
    assert AutoTokenizer.from_pretrained(path).get_vocab() == loaded.tokenizer.get_vocab()


def test_the_champion_can_be_talked_to(client: MlflowClient, registered: Registered) -> None:
    assistant = Models(registered.root, torch.device("cpu")).assistant("champion", rewarded=False)
    kept = AutoModelForCausalLM.from_pretrained(registered.root / "artifacts/aligned", use_safetensors=True)
    ids = torch.arange(5, 25)[None]
    torch.testing.assert_close(assistant.model(ids).logits, kept(ids).logits)


def test_no_path_of_the_checkout_is_told(client: MlflowClient, registered: Registered) -> None:
    for file in champion_path(registered.root).parent.rglob("*"):
        if file.is_file():
            assert str(registered.root).encode() not in file.read_bytes(), file


def test_a_champion_on_a_server_is_fetched_once(
    client: MlflowClient, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = champion_path(registered.root)
    monkeypatch.setattr(fetch, "is_local_uri", lambda uri: False)
    there = champion_path(registered.root)
    assert there.is_relative_to(registered.root / ".work/champion")
    assert dvc_md5(there) == dvc_md5(here)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda *of, **how: pytest.fail("fetched again"))
    assert champion_path(registered.root) == there
    assert len(list((registered.root / ".work/champion").iterdir())) == 1


def test_no_champion(
    client: MlflowClient, mlflow_store: str, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        with pytest.raises(ValueError, match=r"no champion yet: `dvc repro` .* `groundup promote --to champion"):
            champion_path(registered.root)
        context.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(ValueError, match=r"in MLflow, which cannot be reached now: .*Connection refused"):
            champion_path(registered.root)


def test_a_champion_whose_files_are_gone(client: MlflowClient, registered: Registered) -> None:
    folder = champion_path(registered.root).parent
    folder.rename(folder.with_name("elsewhere"))
    try:
        with pytest.raises(
            ValueError, match=r"version 1 of groundup-assistant has the alias champion, but there is no"
        ):
            champion_path(registered.root)
    finally:
        folder.with_name("elsewhere").rename(folder)


@pytest.fixture
def served(registered: Registered, tmp_path: Path) -> Iterator[str]:
    """URL of `mlflow models serve`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}@champion"]
    place = ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *place],
            cwd=tmp_path,
            env=environment(MLFLOW_TRACKING_URI=registered.uri, HF_HUB_OFFLINE="1"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield wait_for(f"http://127.0.0.1:{port}", process, tmp_path / "serve.log")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # of the session that it leads
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        assert time.monotonic() < end, log.read_text(encoding="utf-8")[-3000:]
        try:
            with urlopen(f"{url}/health", timeout=2):
                return url
        except (URLError, OSError):
            time.sleep(0.3)


def ask(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = Request(f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.services
def test_mlflow_serves_the_champion(served: str, client: MlflowClient, registered: Registered) -> None:
    messages = [{"role": "user", "content": "How are you?"}]
    status, answer = ask(served, {"messages": messages, "max_tokens": 8, "top_k": 1})
    assert status == 200
    (reply,) = answer
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    tokenizer = AutoTokenizer.from_pretrained(champion_path(registered.root))
    model = AutoModelForCausalLM.from_pretrained(champion_path(registered.root), use_safetensors=True)
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    assert reply["usage"]["prompt_tokens"] == prompt.shape[1]
    greedy = model.generate(prompt, max_new_tokens=8, do_sample=False)[0, prompt.shape[1] :]
    assert (
        reply["choices"][0]["message"]["content"].strip() == tokenizer.decode(greedy, skip_special_tokens=True).strip()
    )
    status, refusal = ask(served, {"messages": [{"role": "nobody", "content": "?"}]})
    assert status >= 400
    assert "unknown role nobody: use system, user or assistant" in refusal["message"]


def test_rollback_of_the_only_champion(client: MlflowClient) -> None:
    with pytest.raises(ValueError, match="no version that was champion before version 1 still exists"):
        rollback(client)
