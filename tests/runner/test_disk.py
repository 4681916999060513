"""A full or read-only disk is distinguished from other errors, for every library; a small tmpfs stands for it."""

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from groundup.runner.checkpoints import Checkpoints
from groundup.runner.disk import DiskError, free_bytes, writing
from groundup.runner.files import files_below, publishing
from groundup.runner.interruption import Interruption
from tests.small_disk import fill, make_read_only, make_writable, small_disk

STATE = {"weights": torch.zeros(3_000_000)}  # 12 MB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=4) as folder:
        yield folder


def torch_save_to_a_file(folder: Path) -> None:
    with (folder / "state.pt").open("wb") as file:
        torch.save(STATE, file)


def copy_a_tree(folder: Path) -> None:
    source = folder.parent / "source"
    source.mkdir()
    torch.save(STATE, source / "state.pt")
    shutil.copytree(source, folder / "copy")


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda folder: (folder / "state").write_bytes(b"\0" * 12_000_000),
    "torch.save to a path": lambda folder: torch.save(STATE, folder / "state.pt"),
    "torch.save to a file": torch_save_to_a_file,
    "safetensors": lambda folder: save_file(STATE, folder / "state.safetensors"),
    "copytree": copy_a_tree,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named(disk: Path, writer: str) -> None:
    raised = pytest.raises(DiskError, match=rf"^the model could not be written to {disk}: the disk is full \(.* MB")
    with raised as error, writing("the model", disk):
        WRITERS[writer](disk)
    assert "`groundup clean`" in str(error.value)
    assert "`dvc gc -w`" in str(error.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_read_only_disk_is_named(disk: Path, writer: str) -> None:
    make_read_only(disk)
    with pytest.raises(DiskError, match=r"the disk is read-only .*mount it for writing"), writing("the model", disk):
        WRITERS[writer](disk)


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (ValueError("x"), RuntimeError("unexpected pos 576 vs 534"), OSError(errno.EINVAL, "x")):
        with pytest.raises(type(error)) as raised, writing("the model", tmp_path / "not/there"):
            raise error
        assert raised.value is error
    assert not (tmp_path / "not").exists()


def test_the_first_explanation_stays(disk: Path) -> None:
    fill(disk)
    with pytest.raises(DiskError, match=r"^the seal"), writing("all", disk), writing("the seal", disk):
        WRITERS["bytes"](disk)


def test_free_space_of_a_folder_that_is_yet_to_be_made(disk: Path) -> None:
    assert free_bytes(disk / "a/b") == free_bytes(disk) < 5_000_000


def test_a_full_disk_costs_no_checkpoint_but_the_one_being_written(disk: Path) -> None:
    def save(step: int, num_bytes: int) -> None:
        with checkpoints.training(), checkpoints.saving(step) as folder:
            (folder / "state").write_bytes(b"\0" * num_bytes)

    checkpoints = Checkpoints(disk / "checkpoints", Interruption())
    save(1, 1_000_000)
    save(2, 1_000_000)
    free = free_bytes(disk)
    with pytest.raises(DiskError, match="a checkpoint could not be written"):
        save(3, 12_000_000)
    assert free_bytes(disk) == free  # the partial file is gone
    assert checkpoints.newest() == disk / "checkpoints/checkpoint-2"
    save(3, 1_000_000)
    assert checkpoints.newest() == disk / "checkpoints/checkpoint-3"


def make(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("read_only", [False, True])
def test_a_publication_that_does_not_fit_changes_no_target(disk: Path, tmp_path: Path, read_only: bool) -> None:
    staged = [make(tmp_path / "staged/a", new="a"), make(tmp_path / "staged/b", new="b" * 3_000_000)]
    targets = [make(disk / "a", old="1"), make(disk / "b", old="2")]
    copies = list(zip(staged, targets, strict=True))
    ballast = fill(disk, leave_bytes=1_000_000)
    if read_only:
        make_read_only(disk)
    with pytest.raises(DiskError, match=r"could not be written to .*disk: the disk is"), publishing(copies):
        pytest.fail("it was written")
    if read_only:
        make_writable(disk)
    assert [path.relative_to(disk).as_posix() for path in files_below(disk)] == ["a/old", "b/old", "ballast"]
    ballast.unlink()
    with publishing(copies):
        pass
    assert [path.relative_to(disk).as_posix() for path in files_below(disk)] == ["a/new", "b/new"]
    assert (staged[0] / "new").exists()


def test_the_disk_that_the_error_names(disk: Path, tmp_path: Path) -> None:
    """Not the disk of the work dir, which has room."""
    elsewhere = OSError(errno.ENOSPC, "No space left on device", str(disk / "a/state"))
    raised = pytest.raises(DiskError, match=rf"^x could not be written to {disk}/a: the disk is full")
    with raised, writing("x", tmp_path / "work"):
        raise elsewhere
    raised = pytest.raises(
        DiskError, match=rf"^x could not be written: the disk is full, but not the disk of {tmp_path}"
    )
    with raised, writing("x", tmp_path / "work"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_of_a_copy_the_disk_that_was_written_to(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 8_000_000)
    raised = pytest.raises(DiskError, match=rf"could not be written to {disk}: the disk is full")
    with raised, writing("a copy", disk):
        shutil.copyfile(tmp_path / "source", disk / "copy")


def test_a_number_in_the_text_of_another_error_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="os error 28"), writing("x", tmp_path):
        raise ValueError("row 7: 'os error 28' is no label")
