from pathlib import Path

import pytest

from groundup.runner.disk import DiskError
from groundup.runner.files import files_below
from groundup.runner.steps import FinishedSteps
from tests.small_disk import fill, small_disk


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    calls = []

    def compute(value: float) -> dict[str, float]:
        calls.append(value)
        return {"third": value / 3}

    assert FinishedSteps(tmp_path / "w").get("a", compute, 1.0) == {"third": 1.0 / 3}
    assert FinishedSteps(tmp_path / "w").get("a", compute, 1.0) == {"third": 1.0 / 3}
    assert FinishedSteps(tmp_path / "w").get("b", compute, 2.0) == {"third": 2.0 / 3}
    assert calls == [1.0, 2.0]


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        FinishedSteps(tmp_path).get("a", fail)
    assert FinishedSteps(tmp_path).get("a", dict, {"x": 1.0}) == {"x": 1.0}


def write_half_then_fail(folder: Path) -> dict[str, int]:
    (folder / "half").write_text("x")
    raise RuntimeError("interrupted")


def write_whole(folder: Path) -> dict[str, int]:
    assert list(folder.iterdir()) == []
    (folder / "sub").mkdir()
    (folder / "sub/whole").write_text("four")
    return {"done": 1}


def test_a_folder_cut_off_in_the_middle_is_filled_afresh(tmp_path: Path) -> None:
    steps = FinishedSteps(tmp_path / "w")
    with pytest.raises(RuntimeError, match="interrupted"):
        steps.fill("a", write_half_then_fail)
    assert (steps.folder("a") / "half").exists()
    assert steps.fill("a", write_whole) == {"done": 1}
    assert steps.fill("a", write_half_then_fail) == {"done": 1}
    assert (tmp_path / "w/a/sub/whole").read_text() == "four"


@pytest.mark.parametrize("damage", ["cut", "zeros", "removed", "added"])
def test_files_that_are_not_as_the_step_left_them_are_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps = FinishedSteps(tmp_path)
    steps.fill("a", write_whole)
    path = tmp_path / "a/sub/whole"
    match damage:
        case "cut":
            path.write_text("fou")
        case "zeros":
            path.write_bytes(b"\0" * 4)
        case "removed":
            path.unlink()
        case "added":
            (tmp_path / "a/other").write_text("")
    assert steps.fill("a", write_whole) == {"done": 1}
    assert [file.name for file in files_below(tmp_path / "a")] == ["whole"]
    assert path.read_text() == "four"
    assert "a: its files have changed, so the step runs again" in caplog.text


@pytest.mark.parametrize(
    "torn", [b"", b'{"result": {"done"', b"\xff\x00", b"[]", b"{}", b'{"result": {"done": 9}, "sizes": {}}']
)
def test_a_step_whose_record_cannot_be_read_is_done_again(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    steps = FinishedSteps(tmp_path)
    steps.fill("a", write_whole)
    steps.get("b", dict, {"x": 1.0})
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_bytes(torn)
    assert steps.fill("a", write_whole) == {"done": 1}
    assert steps.get("b", dict, {"x": 2.0}) == {"x": 2.0}
    assert "a: its record cannot be read, so the step runs again" in caplog.text
    assert steps.fill("a", write_half_then_fail) == {"done": 1}


def test_a_record_is_gone_before_its_files_are_replaced(tmp_path: Path) -> None:
    steps = FinishedSteps(tmp_path)
    steps.fill("a", write_whole)
    (tmp_path / "a/sub/whole").write_text("fou")

    def write(folder: Path) -> dict[str, int]:
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        return write_whole(folder)

    assert steps.fill("a", write) == {"done": 1}
    assert (tmp_path / "a.json").exists()


def test_the_first_result_is_as_the_saved_one(tmp_path: Path) -> None:
    first = FinishedSteps(tmp_path).get("a", lambda: {"pair": (1, 2)})
    assert first == FinishedSteps(tmp_path).get("a", lambda: {}) == {"pair": [1, 2]}


def test_copies_stand_beside_each_other(tmp_path: Path) -> None:
    steps = FinishedSteps(tmp_path / "w")
    steps.fill("a", write_whole)
    target = tmp_path / "export/out"
    target.mkdir(parents=True)
    (target / "other").write_text("x")
    steps.copy("a", target)
    assert [path.relative_to(target).as_posix() for path in files_below(target)] == ["other", "sub/whole"]
    (target / "sub/whole").write_text("changed")
    assert (tmp_path / "w/a/sub/whole").read_text() == "four"


def test_a_copy_that_finds_no_room_says_so(tmp_path: Path) -> None:
    steps = FinishedSteps(tmp_path / "w")
    steps.fill("a", write_whole)
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        (tmp_path / "w/a/sub/whole").write_bytes(b"x" * 2**23)
        with pytest.raises(DiskError, match=r"out could not be written to .*export: the disk is full"):
            steps.copy("a", disk / "export/out")


def test_a_full_disk_names_the_step_and_after_room_is_made_it_is_done(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, int]:
        (folder / "big").write_bytes(b"x" * 2**20)
        return {"done": 1}

    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        steps = FinishedSteps(disk / "steps")
        assert steps.fill("first", write) == {"done": 1}
        ballast = fill(disk, leave_bytes=2**19)
        with pytest.raises(DiskError, match=r"the step second could not be written to .*steps: the disk is full"):
            steps.fill("second", write)
        ballast.unlink()
        assert steps.fill("second", write) == {"done": 1}
        assert (disk / "steps/second/big").stat().st_size == 2**20
