"""The target of an export: complete or absent, and never overwritten."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.runner.files import fsync_tree, remove


@contextmanager
def written(target: Path, option: str = "--out") -> Iterator[Path]:
    """A temporary path that is renamed to the target once all is written; ValueError if that is impossible.

    option: of the command, which names the target.
    """
    if os.path.lexists(target):
        raise ValueError(f"{target} already exists: remove it, or name another place with {option}")
    beside = target.with_name(f".{target.name}.writing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(beside)
        yield beside
        fsync_tree(beside)
        os.replace(beside, target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written ({error.strerror or error}): make room, correct its folder's permissions, or "
            f"name another place with {option}"
        ) from None
    finally:
        remove(beside)
