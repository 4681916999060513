"""Packed token shards: memory-mapped streams of documents with their boundaries."""

import json
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends
from groundup.core.formats.control_tokens import encode_texts
from groundup.runner.files import restore, write_json
from groundup.runner.steps import FinishedSteps

MANIFEST = "manifest.json"
BATCH_DOCUMENTS = 128  # tokenized together; what a full shard leaves of them is tokenized again


def write_shards(
    tokenizer: PreTrainedTokenizerFast, text: Path, out: Path, shard_tokens: int, steps: FinishedSteps
) -> dict[str, int]:
    """Write the documents of a JSONL file as shards, each a step.

    A document becomes its tokens between those of `document_ends`. A shard is closed once it has `shard_tokens`. Its
    tokens are in NNNNN.bin (uint16, or uint32 above 65,536 ids), the start of each document in NNNNN.idx (uint64).
    """
    out.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    shards: list[dict[str, int]] = []
    offset, size = 0, text.stat().st_size
    while offset < size:
        name = f"{len(shards):05d}"
        step = f"shard-{name}"
        shard = steps.fill(step, partial(pack, tokenizer, text, offset, shard_tokens, np.dtype(dtype), name))
        steps.copy(step, out)
        offset = shard["next_offset"]
        shards.append({"num_tokens": shard["num_tokens"], "num_documents": shard["num_documents"]})
    manifest = {"dtype": np.dtype(dtype).name, "shards": shards}
    write_json(out / MANIFEST, manifest)
    return {
        "num_tokens": sum(shard["num_tokens"] for shard in shards),
        "num_documents": sum(shard["num_documents"] for shard in shards),
        "num_shards": len(shards),
    }


def pack(
    tokenizer: PreTrainedTokenizerFast,
    text: Path,
    offset: int,
    shard_tokens: int,
    dtype: np.dtype,
    name: str,
    target: Path,
) -> dict[str, int]:
    """Write the shard `name` of the documents from byte `offset` on; returns counts and where the next one starts."""
    tokens = array("I")
    starts: list[int] = []
    first, last = document_ends(tokenizer)
    for end, ids in encoded(tokenizer, text, offset):
        starts.append(len(tokens))
        tokens.extend([first, *ids, last])
        offset = end
        if len(tokens) >= shard_tokens:
            break
    np.asarray(tokens, dtype=dtype).tofile(target / f"{name}.bin")
    np.asarray(starts, dtype=np.uint64).tofile(target / f"{name}.idx")
    return {"num_tokens": len(tokens), "num_documents": len(starts), "next_offset": offset}


def encoded(tokenizer: PreTrainedTokenizerFast, text: Path, offset: int) -> Iterator[tuple[int, Sequence[int]]]:
    """The end offset of each document, and its ids."""
    with text.open("rb") as file:
        file.seek(offset)
        while lines := list(islice(file, BATCH_DOCUMENTS)):
            batch = encode_texts(tokenizer, [json.loads(line)["text"] for line in lines])
            for line, ids in zip(lines, batch, strict=True):
                offset += len(line)
                yield offset, ids


def read_manifest(path: Path) -> dict[str, Any]:
    """ValueError if shards differ from their manifest: rows of a truncated shard would otherwise be lost silently."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        token_bytes = np.dtype(manifest["dtype"]).itemsize
        sizes = {
            f"{i:05d}.{kind}": size
            for i, shard in enumerate(manifest["shards"])
            for kind, size in (("bin", shard["num_tokens"] * token_bytes), ("idx", shard["num_documents"] * 8))
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path / MANIFEST} cannot be read ({type(error).__name__}: {error}). {restore(path)}"
        ) from None
    torn = [
        name for name, size in sizes.items() if not (path / name).is_file() or (path / name).stat().st_size != size
    ]
    if torn:
        raise ValueError(f"{path}: {', '.join(torn)} missing or of another size than in {MANIFEST}. {restore(path)}")
    return manifest


class TokenShards:
    """Rows of `length` tokens over all shards; a row never spans two shards, and the rest of a shard is not used."""

    def __init__(self, path: Path, length: int) -> None:
        manifest = read_manifest(path)
        self.length = length
        self._tokens = [
            np.memmap(path / f"{i:05d}.bin", dtype=manifest["dtype"], mode="r") for i in range(len(manifest["shards"]))
        ]
        self._starts = [np.fromfile(path / f"{i:05d}.idx", dtype=np.uint64) for i in range(len(manifest["shards"]))]
        self._first_row = np.cumsum([0] + [len(tokens) // length for tokens in self._tokens])
        if len(self) == 0:
            raise ValueError(
                f"{path}: fewer than {length} tokens in every shard; add text or lower the context length"
            )

    def __len__(self) -> int:
        return int(self._first_row[-1])

    @property
    def largest_token(self) -> int:
        return max(int(tokens.max()) for tokens in self._tokens)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens [length], positions [length]); positions restart at 0 where a document starts."""
        shard = int(np.searchsorted(self._first_row, index, side="right")) - 1
        begin = (index - int(self._first_row[shard])) * self.length
        tokens = np.asarray(self._tokens[shard][begin : begin + self.length], dtype=np.int64)
        starts = self._starts[shard]
        low, high = np.searchsorted(starts, [begin, begin + self.length])
        inside = starts[low:high].astype(np.int64) - begin
        positions = np.arange(self.length)
        origin = np.zeros(self.length, dtype=np.int64)
        origin[inside] = inside
        return tokens, positions - np.maximum.accumulate(origin)
