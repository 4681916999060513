"""Where an export goes: whole or not at all, and never over something else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.runner.files import fsync_tree, remove


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A path beside the target, which takes its name once all is written; ValueError if it cannot."""
    if os.path.lexists(target):
        raise ValueError(f"{target} is there already: remove it, or name another place with --out")
    beside = target.with_name(f".{target.name}.writing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(beside)
        yield beside
        fsync_tree(beside)
        os.replace(beside, target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written ({error.strerror or error}): make room or mend its folder's permissions, or "
            "name another place with --out"
        ) from None
    finally:
        remove(beside)
