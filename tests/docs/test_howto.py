"""The recipes of docs/howto.md that extend the pipeline work, in the stated number of files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import GIT_IDENTITY, copy_working_tree
from tests.docs.recipes import Block, apply, changed, edited, read_recipe, ruff_problems

METRIC = """
from types import SimpleNamespace

from groundup.evaluate.measures import MEASURES
from groundup.evaluate.measures.questions import Questions
from groundup.evaluate.shown import Cell
from tests.contract.metrics_page import unnamed
from tests.evaluate.measures.made_up import context

TEXTS = {
    "base": ["No.", "No.", "No.", "No."],
    "sft": ["And you?", "I do. Do you like it?", "Well? Yes.", "Why?"],
    "aligned": ["And you?", "Yes.", "Yes.", "Yes."],
}


def test_figures_with_their_interval_and_the_row() -> None:
    replies = {model: {"texts": texts} for model, texts in TEXTS.items()}
    measure = Questions(context(replies=replies, conversations=["a", "b", "c", "d"]))
    metrics = {model: measure.of_model(model, None) for model in TEXTS}
    assert metrics["base"] == {"question_rate": 0.0, "question_rate_ci_low": 0.0, "question_rate_ci_high": 0.0}
    assert metrics["sft"] == {"question_rate": 1.0, "question_rate_ci_low": 1.0, "question_rate_ci_high": 1.0}
    assert metrics["aligned"] == {"question_rate": 0.25, "question_rate_ci_low": 0.0, "question_rate_ci_high": 0.75}
    (section,) = measure.shown(metrics).sections
    (row,) = section.tables[0].rows
    assert row.label == "Asks a question"
    percent = "\\u00a0%"
    assert row.cells == [
        Cell(f"0{percent}", f"0 to 0{percent}"),
        Cell(f"100{percent}", f"100 to 100{percent}"),
        Cell(f"25{percent}", f"0 to 75{percent}"),
    ]


def test_it_is_measured_and_named() -> None:
    assert Questions in MEASURES
    assert unnamed("evaluate", {"question_rate", "question_rate_ci_low"}) == set()
"""

METHOD = """
from safetensors.torch import load_file

from tests.align.conftest import LITERALS, AlignRun, Recorder, without_clock

LITERALS["raft"] = {"learning_rate": 3e-3, "num_generations": 4}


def test_it_learns_in_one_update_an_iteration(run_align: AlignRun) -> None:
    curve = Recorder()
    changes = {"num_iterations": 8, "rollout": {"batch_size": 32}, "minibatch_size": 16, "budgets": {"kl": 40.0}}
    metrics = run_align("run", curve, method="raft", **changes)
    assert [i for i, point in curve.points.items() if "policy_loss" in point] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (run_align.root / "run/work/checkpoint-8").is_dir()
    assert metrics["kept_iteration"] > 0
    assert metrics["val_reward"] > curve.points[0]["val_reward"] + 0.1
    assert metrics["heldout_reward_after"] > metrics["heldout_reward_before"]
    sft, aligned = (load_file(run_align.root / f / "model.safetensors") for f in ("sft", "run/out"))
    assert all((aligned[name] != sft[name]).any() for name in aligned)


def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(run_align: AlignRun) -> None:
    whole, broken = Recorder(), Recorder(3, "policy_loss")
    expected = run_align("whole", whole, method="raft")
    run_align.crash(broken, method="raft")
    run_align.assert_resumes(whole, expected, broken, method="raft")


def test_a_finished_run_called_again_only_measures(run_align: AlignRun) -> None:
    expected, again = run_align("run", method="raft"), Recorder()
    assert without_clock(run_align("run", again, method="raft")) == without_clock(expected)
    assert not again.points
"""

UNKNOWN_KEY = """
import pytest

from groundup.runner.params import ParamsError, load_params
from tests.contract.imports import ROOT


def test_the_method_can_be_chosen_and_an_unknown_key_is_refused(tmp_path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  method: ppo", "  method: raft"), encoding="utf-8")
    assert load_params(path).align.method == "raft"
    path.write_text(text.replace("  raft:\\n", "  raft:\\n    beta: 0.1\\n"), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"align\\.raft\\.beta"):
        load_params(path)
"""

STAGE = """
import json

import pytest

from groundup.core.formats.jsonl import write_jsonl
from groundup.runner.params.load import WordlistParams
from groundup.wordlist.wordlist import list_words


def test_words_are_counted(tmp_path) -> None:
    write_jsonl(tmp_path / "text/train.jsonl", [{"text": "The sea the"}, {"text": "the river sea so"}])
    metrics = list_words(tmp_path / "text", tmp_path / "report", WordlistParams(num_listed=2))
    assert metrics == {"num_words": 4, "listed_share": 5 / 7}
    rows = [json.loads(line) for line in (tmp_path / "report/words.jsonl").open()]
    assert rows == [{"word": "the", "count": 3}, {"word": "sea", "count": 2}]
"""

SOURCE = """
import pytest

from groundup.prepare.sources.sources import check_sources, open_sources
from tests.prepare.made_up import make_params

CSV = {
    "kind": "csv", "name": "table", "path": "a.csv", "yields": "text", "text_column": "text", "licence": "CC0-1.0"
}


def test_rows_are_read_and_bad_ones_named(tmp_path) -> None:
    (tmp_path / "a.csv").write_text('id,text\\n1,"The sea, warm"\\n2\\n', encoding="utf-8")
    (reader,) = open_sources(make_params([CSV]), tmp_path, tmp_path)
    reader.check()
    good, bad = reader.read()
    assert (good.id, good.source, good.text) == ("table/1", "table", "The sea, warm")
    assert (bad.file, bad.line, bad.reason) == ("data/a.csv", 3, "wrong_type")
    assert reader.describe()["kind"] == "csv"
    assert list(reader.origin()["sha256"]) == ["a.csv"]


@pytest.mark.parametrize(("path", "problem"), [("b.csv", "data/b.csv is missing"), ("../a.csv", "leads out of data/")])
def test_what_cannot_be_read_is_said_before(tmp_path, path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_sources(open_sources(make_params([CSV | {"path": path}]), tmp_path, tmp_path))


def test_another_encoding_is_an_error_with_a_remedy(tmp_path) -> None:
    (tmp_path / "a.csv").write_bytes("text\\nS\\u00e4tze\\n".encode("latin-1"))
    (reader,) = open_sources(make_params([CSV]), tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"source table: data/a\\.csv cannot be read .* save it again as UTF-8"):
        list(reader.read())
"""


RECIPES = {
    "Add a metric to the report": {
        "src/groundup/evaluate/measures/questions.py": "??",
        "src/groundup/evaluate/measures/__init__.py": "M",
        "docs/metrics.md": "M",
    },
    "Add a method of alignment": {
        "src/groundup/align/methods/raft.py": "??",
        "src/groundup/align/methods/__init__.py": "M",
        "src/groundup/runner/params/align.py": "M",
        "params.yaml": "M",
    },
    "Add a stage": {
        "dvc.yaml": "M",
        "stages/wordlist.py": "??",
        "src/groundup/wordlist/__init__.py": "??",
        "src/groundup/wordlist/wordlist.py": "??",
        "src/groundup/runner/params/load.py": "M",
        "params.yaml": "M",
        "docs/metrics.md": "M",
    },
    "Add a kind of source": {
        "src/groundup/prepare/sources/tables.py": "??",
        "src/groundup/prepare/sources/sources.py": "M",
        "src/groundup/runner/params/prepare.py": "M",
    },
}
TESTS = {
    "tests/evaluate/measures/test_questions.py": METRIC,
    "tests/align/methods/test_raft.py": METHOD,
    "tests/runner/params/test_raft.py": UNKNOWN_KEY,
    "tests/core/test_wordlist.py": STAGE,
    "tests/prepare/sources/test_tables.py": SOURCE,
}
STAYS_TRUE = (
    "tests/contract/test_pipeline.py",
    "tests/contract/test_imports.py",
    "tests/contract/test_metrics_page.py",
    "tests/align/methods/test_methods.py::test_every_method_of_the_schema_is_listed_and_has_a_section",
    "tests/prepare/sources/test_sources.py::test_every_kind_of_the_schema_has_a_reader",
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """A copy of the tree after all recipes, and the files that each changed."""
    root = copy_working_tree(tmp_path_factory.mktemp("extended") / "copy")
    files = {}
    for heading in RECIPES:
        apply(read_recipe(heading), root)
        files[heading] = changed(root)
        for command in (["add", "-A"], ["commit", "-q", "-m", heading]):
            subprocess.run(["git", *command], cwd=root, check=True, env=os.environ | GIT_IDENTITY)
    return root, files


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_takes_the_files_that_it_names(
    extended: tuple[Path, dict[str, dict[str, str]]], heading: str
) -> None:
    root, files = extended
    assert files[heading] == RECIPES[heading]
    assert ruff_problems(root, [file for file in files[heading] if file.endswith(".py")]) == ""


def test_what_the_recipes_add_works(extended: tuple[Path, dict[str, dict[str, str]]]) -> None:
    """New test files of the copy, and those of the tree that hold for any pipeline, on the copy's code."""
    root, _ = extended
    contract, stages = root / "tests/contract/test_pipeline.py", 'STAGES == ["prepare", '
    text = contract.read_text(encoding="utf-8")
    assert text.count(stages) == 1
    contract.write_text(text.replace(stages, f'{stages}"wordlist", '), encoding="utf-8")
    for path, text in TESTS.items():
        (root / path).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *TESTS, *STAYS_TRUE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


PAGE = """
## Here

1. First.

   Create `a/b.py`:

   ```python
   def f():
       return 1
   ```

   In `c.py`:

   ```diff
    x = [
   +    1,

   -    3,
   @@
   +y = 0
    z = 0
   ```

## There
"""


def test_blocks_are_read_and_applied(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("x = [\n\n    3,\n]\nz = 0\n")
    apply(read_recipe("Here", PAGE), tmp_path)
    assert (tmp_path / "a/b.py").read_text() == "def f():\n    return 1\n"
    assert (tmp_path / "c.py").read_text() == "x = [\n    1,\n\n]\ny = 0\nz = 0\n"
    with pytest.raises(ValueError, match=r"a/b\.py already exists"):
        apply([Block(True, "a/b.py", "")], tmp_path)


@pytest.mark.parametrize("text", ["x = 1\n", "y = 1\nz = 1\ny = 1\n"])
def test_an_edit_whose_place_is_missing_or_ambiguous_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^c\.py must have these lines exactly once:\ny = 1\n$"):
        edited(text, " y = 1\n+z = 2\n", "c.py")


def test_a_block_without_its_file_is_an_error() -> None:
    with pytest.raises(ValueError, match="names its file"):
        read_recipe("Here", PAGE.replace("In `c.py`:", "Then:"))
