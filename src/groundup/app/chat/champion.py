"""Where the champion is, the version of groundup-assistant that commands call by that name."""

from pathlib import Path

from groundup.runner.environment import main_root, tracking_store
from groundup.runner.tracking.check import check_store


def champion_path(root: Path) -> Path:
    """The champion of the checkout as a directory that from_pretrained loads.

    ValueError, with the remedy, if there is none.
    """
    if problem := check_store(root):
        raise ValueError(f"the champion is with MLflow, which cannot be asked now: {problem}")
    from groundup.runner.tracking.fetch import fetch_champion  # imports MLflow: 3 s

    return fetch_champion(tracking_store(root)[0], main_root(root) / ".work/champion")
