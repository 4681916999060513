"""`groundup configure`."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from groundup.app.cli import configure
from groundup.app.cli.main import app
from groundup.app.plan.sizing import resize
from groundup.runner.base import Base, read_lock, write_lock
from groundup.runner.files import file_digests, write_json
from groundup.runner.params import load_params
from tests.conftest import ROOT
from tests.presets import preset, preset_text

COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On a machine where bf16 is no faster."""
    monkeypatch.setattr(configure, "best_precision", lambda root, base, params: ("fp32", "bf16 is slow here"))
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "params.yaml").write_text(COMMITTED, encoding="utf-8")
    (tmp_path / "stages").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, answer: str = "") -> tuple[Result, str]:
    result = CliRunner().invoke(app, ["configure", *arguments], input=answer)
    return result, " ".join(result.output.split())


def text_of(checkout: Path) -> str:
    return (checkout / "params.yaml").read_text(encoding="utf-8")


def test_a_preset_is_written_and_the_way_back_is_exact(checkout: Path) -> None:
    for name in ("gpu", "smoke", "laptop"):
        result, output = run("--preset", name)
        assert result.exit_code == 0
        assert "params.yaml was written" in output
        assert text_of(checkout) == preset_text(name)
    assert text_of(checkout) == COMMITTED


def test_a_depth_shows_old_and_new_and_changes_only_these(checkout: Path) -> None:
    laptop = load_params(checkout / "params.yaml")
    depth = laptop.model.scratch.num_layers + 1
    result, _ = run("--preset", "laptop", "--depth", str(depth))
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "model.scratch.num_layers" in line)
    assert re.findall(r"[\d]+", row) == [str(depth - 1), str(depth)]
    lines = zip(COMMITTED.splitlines(), text_of(checkout).splitlines(), strict=True)
    keys = {new.split(":")[0].strip() for old, new in lines if old != new}
    assert "num_layers" in keys
    assert keys <= {key.rpartition(".")[2] for key in resize(laptop, depth)}
    _, output = run("--preset", "laptop", "--depth", str(depth))
    assert output.startswith("params.yaml needs no change.")


def test_a_dry_run_shows_and_writes_nothing(checkout: Path) -> None:
    result, output = run("--preset", "smoke", "--dry-run")
    assert result.exit_code == 0
    assert "pretrain.num_steps" in output
    assert "This is what would change; params.yaml was not written." in output
    assert text_of(checkout) == COMMITTED


def test_at_a_terminal_it_asks_first(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "is_terminal", lambda: True)
    result, output = run("--preset", "smoke", answer="n\n")
    assert result.exit_code == 0
    assert output.index("pretrain.num_steps") < output.index("Write params.yaml? [y/N]")
    assert output.endswith("params.yaml was not written.")
    assert text_of(checkout) == COMMITTED
    run("--preset", "smoke", answer="y\n")
    assert text_of(checkout) == preset_text("smoke")
    _, output = run("--preset", "laptop", "--yes")
    assert "Write params.yaml?" not in output
    assert text_of(checkout) == COMMITTED


def test_own_sources_stay_and_it_is_said(checkout: Path) -> None:
    (checkout / "params.yaml").write_text(COMMITTED.replace("name: chitchat", "name: talk"), encoding="utf-8")
    _, output = run("--preset", "gpu")
    assert "Your own prepare.sources stay" in output
    assert [source.name for source in load_params(checkout / "params.yaml").prepare.sources] == ["talk", "wikipedia"]


def test_an_old_file_is_taken_over(checkout: Path) -> None:
    old = re.sub(r"(?m)^  base: null.*\n|^  chat_template: own.*\n|^  scratch:.*\n", "", COMMITTED)
    start, end = old.index("tokenizer:"), old.index("pretrain:")
    old = old[:start] + re.sub("(?m)^    ", "  ", old[start:end]) + old[end:]
    (checkout / "params.yaml").write_text(old, encoding="utf-8")
    result, output = run("--preset", "laptop")
    assert result.exit_code == 1
    assert (
        "model.num_layers: moved to model.scratch.num_layers; `groundup configure --migrate` rewrites the file"
        in output
    )
    assert text_of(checkout) == old
    result, output = run("--migrate")
    assert result.exit_code == 0
    assert "model.scratch.num_layers" in output
    assert load_params(checkout / "params.yaml") == preset("laptop")
    assert "    num_heads: 3  # attention heads" in text_of(checkout)
    assert run("--migrate")[1].startswith("params.yaml needs no change.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "unknown preset huge: use cluster, evening, gpu, laptop, open, open-lunch, smoke"),
        (("--preset", "../laptop"), "unknown preset ../laptop"),
        (("--preset", "laptop", "--depth", "0"), "greater than or equal to 1"),
        ((), "use --preset NAME, with --depth N for another size, and one of --base NAME and"),
        (("--depth", "4"), "use --preset NAME, with --depth N"),
        (("--migrate", "--preset", "gpu"), "use --preset NAME, with --depth N"),
        (("--migrate", "--depth", "4"), "use --preset NAME, with --depth N"),
        (("--base", "own", "--from-scratch"), "use --preset NAME, with --depth N"),
        (("--base", "own", "--migrate"), "use --preset NAME, with --depth N"),
        (("--base", "own", "--depth", "2"), "use --preset NAME, with --depth N"),
    ],
)
def test_what_does_not_exist_is_refused(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    result, output = run(*arguments)
    assert result.exit_code != 0
    assert message in re.sub(r"[^ -~] ", "", output)
    assert text_of(checkout) == COMMITTED


def test_a_damaged_file_stays_and_is_named(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("model: [1")
    for argument in (("--preset", "laptop"), ("--migrate",)):
        result, output = run(*argument)
        assert result.exit_code == 1
        assert "params.yaml was not written." in output
        assert "is not valid YAML" in output
        assert text_of(checkout) == "model: [1"


def test_a_preset_with_problems_names_all(checkout: Path) -> None:
    path = checkout / "presets/laptop.yaml"
    path.write_text(path.read_text().replace("num_heads: ", "num_heads: -").replace("seed: 21", "seed: -1"))
    result, output = run("--preset", "laptop", "--depth", "6")
    assert result.exit_code == 1
    assert "model.scratch.num_heads" in output
    assert "prepare.seed" in output
    assert text_of(checkout) == COMMITTED


def add_model(checkout: Path, name: str = "own") -> Base:
    """A model in models/, as `groundup fetch` notes it."""
    folder = checkout / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    base = Base(
        name=name, source=name, revision="1", licence="mit", licence_accepted=False, files=file_digests(folder)
    )
    write_json(folder / "groundup.json", {"base": base.model_dump(), "found": {}})
    return base


def test_a_base_is_written_to_params_and_lock_and_taken_back(checkout: Path) -> None:
    base = add_model(checkout)
    result, output = run("--base", "own", "--dry-run")
    assert result.exit_code == 0
    assert "model.base" in output
    assert not (checkout / "base.lock").exists()
    result, output = run("--base", "own")
    assert result.exit_code == 0
    assert "Training starts from own (licence: mit)." in output
    assert "runtime.precision is fp32: bf16 is slow here." in output
    assert text_of(checkout) == COMMITTED.replace("  base: null", "  base: own", 1)
    assert read_lock(checkout) == base
    result, output = run("--from-scratch")
    assert result.exit_code == 0
    assert (text_of(checkout), read_lock(checkout)) == (COMMITTED, None)


def test_a_preset_with_and_without_a_base(checkout: Path) -> None:
    base = add_model(checkout)
    run("--preset", "smoke", "--base", "own")
    assert load_params(checkout / "params.yaml").model.base == "own"
    assert read_lock(checkout) == base
    run("--preset", "laptop")
    assert (text_of(checkout), read_lock(checkout)) == (COMMITTED, None)


def test_bf16_is_written_where_it_is_faster_and_goes_with_the_base(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(checkout)
    monkeypatch.setattr(configure, "best_precision", lambda root, base, params: ("bf16", "it is faster here"))
    _, output = run("--base", "own")
    assert "runtime.precision is bf16: it is faster here." in output
    assert load_params(checkout / "params.yaml").runtime.precision == "bf16"
    run("--from-scratch")
    assert text_of(checkout) == COMMITTED


def test_from_scratch_the_precision_is_the_users(checkout: Path) -> None:
    own = COMMITTED.replace("  precision: fp32", "  precision: bf16", 1)
    (checkout / "params.yaml").write_text(own, encoding="utf-8")
    write_lock(checkout, None)
    _, output = run("--from-scratch")
    assert output.startswith("params.yaml needs no change.")
    assert text_of(checkout) == own


def test_a_preset_may_name_a_base(checkout: Path) -> None:
    result, output = run("--preset", "open")
    assert result.exit_code == 1
    assert "there is no model smollm2-135m in" in output
    assert "`groundup fetch smollm2-135m` brings it" in output
    assert (text_of(checkout), (checkout / "base.lock").exists()) == (COMMITTED, False)
    base = add_model(checkout, "smollm2-135m")
    result, output = run("--preset", "open", "--depth", "5")
    assert result.exit_code == 1
    assert "--depth is of a model from scratch, and training would start from smollm2-135m" in output
    result, output = run("--preset", "open")
    assert result.exit_code == 0
    assert "Training starts from smollm2-135m (licence: mit). `groundup plan` estimates its time" in output
    params = load_params(checkout / "params.yaml")
    assert (params.model.base, params.pretrain.num_steps) == ("smollm2-135m", 0)
    assert params.sft.lora is not None
    assert read_lock(checkout) == base
    run("--preset", "laptop")
    assert (text_of(checkout), read_lock(checkout)) == (COMMITTED, None)


def test_a_model_fetched_again_is_pinned_again(checkout: Path) -> None:
    add_model(checkout)
    run("--base", "own")
    shutil.rmtree(checkout / "models/own")
    base = add_model(checkout).model_copy(update={"licence": "isc"})
    write_json(checkout / "models/own/groundup.json", {"base": base.model_dump(), "found": {}})
    _, output = run("--base", "own")
    assert "params.yaml needs no change." in output
    assert read_lock(checkout) == base


def test_a_base_that_cannot_be_pinned_changes_nothing(checkout: Path) -> None:
    result, output = run("--base", "none")
    assert result.exit_code == 1
    assert "params.yaml was not written. there is no model none in" in output
    assert "`groundup fetch MODEL --as none` brings it" in output
    result, output = run("--base", "../own")
    assert result.exit_code == 1
    assert "got '../own', which is not a name in models/" in output
    add_model(checkout)
    (checkout / "models/own/config.json").write_text("[]", encoding="utf-8")
    result, output = run("--base", "own")
    assert result.exit_code == 1
    assert "models/own is not as it was fetched: config.json has changed. Remove it and run" in output
    assert text_of(checkout) == COMMITTED
    assert not (checkout / "base.lock").exists()
