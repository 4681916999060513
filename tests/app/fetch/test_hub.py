"""Models of the hub, from a mirror on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.app.fetch.fetch import fetch, find_source
from groundup.app.fetch.hub import Hub
from groundup.app.fetch.source import FetchError
from groundup.runner.base import read_record
from groundup.runner.files import hash_file
from tests.app.fetch.mirror import REPOSITORY, REVISION, Mirror
from tests.conftest import ROOT

NAME = f"{REPOSITORY}@{REVISION}"


def fetch_tiny(root: Path, accept: bool = False) -> Path:
    fetch(root, find_source(NAME, None), "tiny", accept)
    return root / "models/tiny"


def refusal(root: Path) -> str:
    with pytest.raises(FetchError) as refused:
        fetch_tiny(root)
    assert not (root / "models/tiny").exists()
    return str(refused.value)


def test_a_repository_is_fetched_whole_and_recorded(root: Path, model: Path, mirror: Mirror) -> None:
    for name in ("pytorch_model.bin", "modeling_tiny.py", "README.md", "onnx/config.json", "other.safetensors"):
        mirror.files[name] = b"not wanted"
    folder = fetch_tiny(root)
    names = sorted(path.name for path in model.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "groundup.json"])
    assert all((folder / name).read_bytes() == (model / name).read_bytes() for name in names)
    assert set(mirror.downloads) == set(names)
    base = read_record(root, "tiny")
    assert (base.source, base.revision, base.licence, base.licence_accepted) == (NAME, REVISION, "apache-2.0", False)
    assert base.files == {name: hash_file(model / name) for name in names}
    assert base.fetched_by == f"groundup fetch {NAME} --as tiny"
    assert [path.name for path in (root / "models").iterdir() if path.is_dir()] == ["tiny"]
    found = json.loads((folder / "groundup.json").read_text(encoding="utf-8"))["found"]
    assert (found["architecture"], found["parameters"], found["vocabulary"]) == ("LlamaForCausalLM", 89152, 300)


def test_what_is_there_is_not_fetched_again(root: Path, mirror: Mirror) -> None:
    fetch_tiny(root)
    asked = len(mirror.requests)
    with pytest.raises(FetchError, match="exists: `groundup fetch --check tiny` checks it; remove it"):
        fetch_tiny(root)
    assert len(mirror.requests) == asked


def test_a_broken_connection_is_continued_at_once(root: Path, model: Path, mirror: Mirror) -> None:
    mirror.tear = 10_000
    folder = fetch_tiny(root)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    ranges = [wanted for path, wanted in mirror.requests if path.endswith("model.safetensors")]
    assert ranges == [None, "bytes=10000-"]


def test_the_next_try_continues_where_the_last_one_ended(root: Path, model: Path, mirror: Mirror) -> None:
    mirror.tear, mirror.after_tear = 10_000, 500
    assert "the hub refused owner/tiny" in refusal(root)
    mirror.tear, mirror.after_tear = None, None
    mirror.requests.clear()
    folder = fetch_tiny(root)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    downloads = [(path.rpartition("/")[2], wanted) for path, wanted in mirror.requests if "/resolve/" in path]
    assert downloads == [("model.safetensors", "bytes=10000-")]  # the other files are there


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_than_the_hub_names_are_refused(
    root: Path, mirror: Mirror, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, whole = mirror.described(), mirror.files[name]
    monkeypatch.setattr(mirror, "described", lambda: described)
    mirror.files[name] = whole[:-1] + b" "
    assert f"{name} of owner/tiny came with digest" in refusal(root)
    mirror.files[name] = whole
    assert fetch_tiny(root).is_dir()  # the wrong bytes were thrown away


def test_bytes_left_by_another_file_are_not_used(root: Path, mirror: Mirror) -> None:
    downloads = root / "models/.tiny.fetching/downloads"
    downloads.mkdir(parents=True)
    for sibling in mirror.described()["siblings"]:
        (downloads / f"{sibling.get('lfs', {}).get('sha256', sibling['blobId'])}.part").write_bytes(b"x" * 10**6)
    assert fetch_tiny(root).is_dir()


@pytest.mark.parametrize("suffix", ["", ".part"], ids=["whole", "in part"])
def test_what_a_power_loss_spoilt_is_downloaded_again(root: Path, model: Path, mirror: Mirror, suffix: str) -> None:
    """Of the right name and size, but never written to the disk."""
    downloads = root / "models/.tiny.fetching/downloads"
    downloads.mkdir(parents=True)
    for sibling in mirror.described()["siblings"]:
        size = sibling["size"] - (10 if suffix else 0)
        (downloads / f"{sibling.get('lfs', {}).get('sha256', sibling['blobId'])}{suffix}").write_bytes(bytes(size))
    folder = fetch_tiny(root)
    for path in model.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in (root / "models").iterdir() if path.is_dir()] == ["tiny"]


@pytest.mark.parametrize("text", ["owner/tiny", "owner/tiny@main", "owner/tiny@0123456", f"owner/tiny@{'G' * 40}"])
def test_a_revision_that_can_move_is_refused(text: str) -> None:
    with pytest.raises(FetchError, match=r"which can move: pin the 40 digits of a commit, owner/tiny@<commit>"):
        Hub.parse(text)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("GatedRepo", "owner/tiny is gated: its owner gives it to those who accept its licence. Accept it on"),
        ("RepoNotFound", "the hub has no model owner/tiny that you may read: correct the name; for a private one"),
        ("RevisionNotFound", f"owner/tiny has no commit {REVISION}: pin one of its commits"),
        ("EntryNotFound", "the hub refused owner/tiny"),
    ],
)
def test_what_the_hub_refuses_is_explained(root: Path, mirror: Mirror, code: str, message: str) -> None:
    mirror.refuses = code
    assert message in refusal(root)


def test_no_connection(root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    said = refusal(root)
    assert "owner/tiny could not be downloaded" in said
    assert "set HF_ENDPOINT to a mirror, then run the same command again: it continues where it was" in said


def test_the_users_own_offline_mode(root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refusal(root) == "owner/tiny cannot be fetched while HF_HUB_OFFLINE is set: unset it"


def test_a_repository_without_safetensors(root: Path, mirror: Mirror) -> None:
    mirror.files["pytorch_model.bin"] = mirror.files.pop("model.safetensors")
    assert "owner/tiny has no model.safetensors and no shards of it: pickles, adapters and GGUF" in refusal(root)
    assert mirror.downloads == []


def test_a_config_that_cannot_be_used_costs_no_download_of_weights(root: Path, mirror: Mirror) -> None:
    config = json.loads(mirror.files["config.json"]) | {"quantization_config": {"quant_method": "awq"}}
    mirror.files["config.json"] = json.dumps(config).encode()
    assert "config.json has a quantization_config ('awq')" in refusal(root)
    assert "model.safetensors" not in mirror.downloads


def test_a_disk_without_room(root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.app.fetch.hub.free_bytes", lambda _: 1000)
    assert "owner/tiny takes 0.4 MB and 0.0 MB are free in" in refusal(root)
    assert mirror.downloads == []


@pytest.mark.parametrize(
    ("licence", "gated", "why"),
    [
        ("llama3.2", False, "the licence of tiny is llama3.2: find out"),
        ("apache-2.0", "auto", "the licence of tiny is apache-2.0 and its owner asks people to accept it: find out"),
        (None, False, "tiny states no licence: find out"),
    ],
)
def test_a_licence_that_must_be_accepted(
    root: Path, mirror: Mirror, licence: str | None, gated: str | bool, why: str
) -> None:
    mirror.licence, mirror.gated = licence, gated
    assert why in refusal(root)
    assert mirror.downloads == []
    fetch_tiny(root, accept=True)
    base = read_record(root, "tiny")
    assert (base.licence, base.licence_accepted) == (licence or "none stated", True)
    assert base.fetched_by.endswith("--as tiny --accept-licence")


def test_the_command_honours_the_address_and_the_token(root: Path, mirror: Mirror) -> None:
    mirror.token = "hf_secret"
    command = [sys.executable, "-m", "groundup.app.cli.main", "fetch", NAME, "--as", "own"]
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    environment |= {"HF_ENDPOINT": mirror.address, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    refused = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "the hub has no model owner/tiny that you may read" in " ".join(refused.stdout.split())
    environment["HF_TOKEN"] = "hf_secret"
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    assert "89,152" in done.stdout
    assert (root / "models/own/model.safetensors").is_file()
