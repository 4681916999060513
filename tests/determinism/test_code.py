"""The code of a stage has nothing that depends on machine, folder, locale or hash seed."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.determinism.unstable import changing, locale_bound

SOURCES = sorted([*(ROOT / "src/groundup").rglob("*.py"), *(ROOT / "stages").glob("*.py")])
# The runner and the server do not change results: they measure time, and name processes and answers.
RESULTS = [path for path in SOURCES if not {"runner", "serve"} & set(path.parts)]
NO_TEXT = {
    "src/groundup/runner/tracking/check.py": "build_opener",
    "src/groundup/app/fetch/wheel.py": "archive.open",
}
SORTED_LATER = {
    "src/groundup/prepare/sources/files.py": "data_dir.glob",
    "src/groundup/align/policy.py": "id differs",  # which weights were there before
    "src/groundup/evaluate/model_judge/independence.py": "path.glob",  # into a set
    "src/groundup/core/training/adapters.py": "id differs",  # which layers are the same object
    "src/groundup/pretrain/optimizer.py": "id differs",  # which weights are the same object
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def assert_nothing_but(excused: str | None, findings: list[str]) -> None:
    """Every finding is excused, and every excuse is needed."""
    assert [finding for finding in findings if excused is None or excused not in finding] == []
    assert excused is None or findings, f"{excused} is gone: delete its excuse"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_text_is_read_and_written_in_one_encoding(path: Path) -> None:
    assert_nothing_but(NO_TEXT.get(name_of(path)), locale_bound(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", RESULTS, ids=name_of)
def test_nothing_that_changes_goes_into_a_result(path: Path) -> None:
    assert_nothing_but(SORTED_LATER.get(name_of(path)), changing(path.read_text(encoding="utf-8")))


def test_every_excuse_is_of_a_file_that_is_there() -> None:
    assert SORTED_LATER.keys() <= {name_of(path) for path in RESULTS}
    assert NO_TEXT.keys() <= {name_of(path) for path in SOURCES}


@pytest.mark.parametrize(
    "code",
    [
        "hash(text)",
        "id(text)",
        "for p in folder.iterdir(): ...",
        "names = list(os.listdir(folder))",
        "random.shuffle(rows)",
        "np.random.permutation(5)",
        "stamp = datetime.now()",
        "uuid.uuid4()",
    ],
)
def test_what_changes_is_found(code: str) -> None:
    assert changing(code), code


@pytest.mark.parametrize(
    "code",
    [
        "sorted(folder.rglob('*'))",
        "names = sorted(p.name for p in folder.iterdir())",
        "random.Random(seed).shuffle(rows)",
        "np.random.default_rng([seed, step])",
        "time.monotonic()",
    ],
)
def test_what_is_stable_passes(code: str) -> None:
    assert changing(code) == []


@pytest.mark.parametrize("code", ["open(p)", "p.open('w')", "p.read_text()", "p.write_text(text)"])
def test_an_encoding_left_to_the_locale_is_found(code: str) -> None:
    assert locale_bound(code), code


@pytest.mark.parametrize(
    "code",
    ["open(p, 'rb')", "p.open(mode='wb')", "p.read_text(encoding='utf-8')", "os.open(p, flags)", "write_text(p, t)"],
)
def test_a_stated_encoding_and_binary_files_pass(code: str) -> None:
    assert locale_bound(code) == []
