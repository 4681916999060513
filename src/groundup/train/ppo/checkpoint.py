"""Checkpoints that survive a crash: a file is whole or is not there."""

import os
from pathlib import Path
from typing import Any

import torch

NUM_KEPT = 2


def save_checkpoint(folder: Path, iteration: int, state: dict[str, Any]) -> None:
    """Tensors, numbers, strings, lists and dicts only: loading runs no code."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{iteration:08d}.pt"
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    for old in _checkpoints(folder)[:-NUM_KEPT]:
        old.unlink()


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """None if there is none yet."""
    paths = _checkpoints(folder)
    return torch.load(paths[-1], map_location="cpu", weights_only=True) if paths else None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"))
