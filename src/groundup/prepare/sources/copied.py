"""The copy of a checkout that `dvc exp run --temp` and `--queue` work in: git makes it, so untracked files lack."""

from pathlib import Path

from groundup.runner.environment import main_root
from groundup.runner.files import files_below

MAX_NAMED = 5


def check_copied(data_dir: Path) -> None:
    """ValueError inside such a copy that lacks files of the user's data/; a source would train on less in silence."""
    checkout = main_root(data_dir.parent)
    original = checkout / data_dir.name
    if checkout == data_dir.parent or not original.is_dir():
        return
    files = (file.relative_to(original) for file in files_below(original))
    lacking = [file.as_posix() for file in files if not (data_dir / file).exists()]
    if lacking:
        named = ", ".join(lacking[:MAX_NAMED]) + (", ..." if len(lacking) > MAX_NAMED else "")
        raise ValueError(
            f"the experiment's copy lacks {len(lacking)} files of data/ ({named}), since git does not track them: run "
            "`dvc exp run` without --temp and --queue, or track them (`git add -f`)"
        )
