"""base.lock, models/NAME and model.base: a stage starts only if they are of one model."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundup.runner.base import Base, BaseError, checked_base, found_base, read_lock, write_lock
from groundup.runner.context import StageContext
from groundup.runner.files import DamagedFileError, file_digests, write_json
from groundup.runner.pipeline import PipelineError, read_pipeline
from tests.conftest import ROOT

FETCHED = "`groundup fetch owner/own@c0ffee --as own`"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A model in models/own, and base.lock of it."""
    folder = tmp_path / "models/own"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    base = Base(
        name="own",
        source="owner/own@c0ffee",
        revision="c0ffee",
        licence="mit",
        licence_accepted=False,
        files=file_digests(folder),
    )
    write_json(folder / "groundup.json", {"base": base.model_dump(), "found": {}})
    write_lock(tmp_path, base)
    return base


def test_the_committed_lock_is_from_scratch() -> None:
    assert (ROOT / "base.lock").read_text(encoding="utf-8") == '{\n  "base": null\n}\n'
    assert checked_base(ROOT, None) is None


def test_a_lock_is_read_as_it_was_written(tmp_path: Path, base: Base) -> None:
    assert read_lock(tmp_path) == base
    assert found_base(tmp_path, "own") == base
    assert found_base(tmp_path, None) is None
    write_lock(tmp_path, None)
    assert read_lock(tmp_path) is None


def test_the_folder_is_that_of_the_users_checkout(tmp_path: Path, base: Base) -> None:
    copy = tmp_path / ".dvc/tmp/exps/one"
    copy.mkdir(parents=True)
    write_lock(copy, base)
    for root in (tmp_path, copy):
        assert checked_base(root, "own") == tmp_path / "models/own"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "model.base is null and base.lock holds own: `groundup configure --from-scratch` writes both"),
        ("other", "model.base is other and base.lock holds own: `groundup configure --base other` writes both"),
    ],
)
def test_params_and_lock_of_different_models(tmp_path: Path, base: Base, name: str | None, message: str) -> None:
    with pytest.raises(BaseError) as refused:
        checked_base(tmp_path, name)
    assert str(refused.value) == message


def test_a_model_that_is_not_there(tmp_path: Path, base: Base) -> None:
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(BaseError) as refused:
        checked_base(tmp_path, "own")
    folder = tmp_path / "models/own"
    assert str(refused.value) == f"there is no model in {folder}, which model.base names: {FETCHED} brings it"


def test_all_files_that_differ_are_named(tmp_path: Path, base: Base) -> None:
    folder = tmp_path / "models/own"
    (folder / "model.safetensors").write_bytes(b"weightz")  # of the same size
    (folder / "config.json").unlink()
    (folder / "model-00001-of-00001.safetensors").write_bytes(b"")
    what = (
        "config.json is missing, model-00001-of-00001.safetensors is not one of its files, model.safetensors has "
        "changed"
    )
    with pytest.raises(BaseError) as refused:
        checked_base(tmp_path, "own")
    assert str(refused.value) == (
        f"{folder} is not the model that base.lock pins: {what}. Remove the folder and run {FETCHED}; or `groundup "
        "configure --base own` pins the model that was fetched"
    )
    with pytest.raises(BaseError) as refused:
        found_base(tmp_path, "own")
    assert str(refused.value) == f"models/own is not as it was fetched: {what}. Remove it and run {FETCHED}"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, BaseError, "is missing: `groundup configure --base NAME` writes it again"),
        ("", DamagedFileError, "is not valid JSON"),
        ("[]", DamagedFileError, r"is not an object but \[\]; `groundup configure --base NAME` writes it again"),
        ("{}", BaseError, r"wrong or missing: base\); `groundup configure"),
        ('{"base": "own"}', BaseError, r"wrong or missing: base\)"),
        ('{"base": {"name": "own", "files": 3}}', BaseError, "source, revision, licence, licence_accepted, files"),
        ("<<<<<<< HEAD\n{}", DamagedFileError, "git's conflict markers; resolve the conflict"),
    ],
)
def test_a_damaged_lock(tmp_path: Path, content: str | None, error: type[Exception], message: str) -> None:
    if content is not None:
        (tmp_path / "base.lock").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=message):
        read_lock(tmp_path)


def test_an_unknown_field_is_refused(tmp_path: Path, base: Base) -> None:
    values = json.loads((tmp_path / "base.lock").read_text(encoding="utf-8"))
    values["base"]["code"] = "run me"
    write_json(tmp_path / "base.lock", values)
    with pytest.raises(BaseError, match=r"wrong or missing: code\)"):
        read_lock(tmp_path)


def test_a_stage_gets_its_base_only_if_it_declares_the_lock(tmp_path: Path, base: Base) -> None:
    pipeline = read_pipeline(ROOT)
    params = {"model.base": "own"}
    stage: Any = SimpleNamespace(root=tmp_path, spec=pipeline["tokenizer"], params=params)
    stage.dep = lambda path: StageContext.dep(stage, path)
    assert StageContext.base(stage) == tmp_path / "models/own"
    stage.spec = pipeline["sft"]
    with pytest.raises(PipelineError, match=r"sft reads base\.lock: declare it under deps in dvc\.yaml"):
        StageContext.base(stage)
