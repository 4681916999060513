"""Ways to spoil a checkout; each is a function of its root."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from groundup.core.formats.jsonl import write_jsonl
from tests.bad_input.checkout import make, read_params, write_params
from tests.prepare.made_up import add_package, files_source

Spoil = Callable[[Path], Any]


def both(*spoils: Spoil) -> Spoil:
    return lambda root: [spoil(root) for spoil in spoils]


def edit_params(path: str, edit: Callable[[Any, str], None]) -> Spoil:
    """`edit` gets the mapping with the key, and the key."""

    def spoil(root: Path) -> None:
        params = target = read_params(root)
        *sections, key = path.split(".")
        for section in sections:
            target = target[int(section)] if section.isdigit() else target[section]
        edit(target, key)
        write_params(root, params)

    return spoil


def set_param(path: str, value: Any) -> Spoil:
    return edit_params(path, lambda section, key: section.update({key: value}))


def set_params(values: dict[str, Any]) -> Spoil:
    return both(*(set_param(path, value) for path, value in values.items()))


def drop_param(path: str) -> Spoil:
    return edit_params(path, lambda section, key: section.pop(key))


def write(path: str, content: str | bytes) -> Spoil:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda root: make(root / path).write_bytes(data)


def append(path: str, content: str) -> Spoil:
    return lambda root: (root / path).write_text((root / path).read_text(encoding="utf-8") + content, encoding="utf-8")


def replace(path: str, old: str, new: str) -> Spoil:
    def spoil(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        (root / path).write_text(text.replace(old, new), encoding="utf-8")

    return spoil


def delete(*paths: str) -> Spoil:
    def spoil(root: Path) -> None:
        for path in paths:
            if (root / path).is_dir():
                shutil.rmtree(root / path)
            else:
                (root / path).unlink()

    return spoil


def truncate(path: str, keep: float = 0.5) -> Spoil:
    return lambda root: (root / path).write_bytes((data := (root / path).read_bytes())[: int(len(data) * keep)])


def file_for_folder(path: str) -> Spoil:
    """A file in the place of a folder, which acts like a read-only place, also for root."""
    return both(lambda root: (root / path).exists() and delete(path)(root), write(path, ""))


def an_empty_folder(path: str) -> Spoil:
    return both(delete(path), lambda root: (root / path).mkdir())


def rows(path: str, rows: Iterable[dict[str, Any]]) -> Spoil:
    kept = list(rows)
    return lambda root: write_jsonl(root / path, kept)


def edit_row(path: str, **changes: Any) -> Spoil:
    """The first row of a .jsonl file."""

    def spoil(root: Path) -> None:
        first, *others = (root / path).read_text(encoding="utf-8").splitlines()
        write_jsonl(root / path, [json.loads(first) | changes, *map(json.loads, others)])

    return spoil


def edit_json(path: str, **changes: Any) -> Spoil:
    def spoil(root: Path) -> None:
        values = json.loads((root / path).read_text(encoding="utf-8"))
        (root / path).write_text(json.dumps(values | changes), encoding="utf-8")

    return spoil


def edit_weights(folder: str, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / folder / "model.safetensors"
        save_file(edit(load_file(path)), path, metadata={"format": "pt"})

    return spoil


def nan_weights(folder: str) -> Spoil:
    def edit(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: weight * float("nan") if "norm" in name else weight for name, weight in weights.items()}

    return edit_weights(folder, edit)


def files(*paths: str, yields: str = "text") -> Spoil:
    """params.yaml reads only these files of data/."""
    return set_param("prepare.sources", [files_source("own", list(paths), yields)])


def own(name: str, content: str | bytes, yields: str = "text") -> Spoil:
    """One file in data/, the only source."""
    return both(write(f"data/{name}", content), files(name, yields=yields))


def own_rows(*rows: Any, yields: str) -> Spoil:
    return own("own.jsonl", "".join(json.dumps(row) + "\n" for row in rows), yields)


def package(content: Any, **changes: Any) -> Spoil:
    """params.yaml reads only a package with this content and its sha256."""
    return lambda root: set_param("prepare.sources", [add_package(root / "site", "talk", content) | changes])(root)
