"""Packed token shards: memory-mapped streams of documents with their boundaries."""

import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from groundup.data.jsonl import read_jsonl

MANIFEST = "manifest.json"


def write_shards(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], out: Path, shard_tokens: int, batch_documents: int = 512
) -> dict[str, int]:
    """Each document becomes bos + tokens + end; a shard is closed once it holds `shard_tokens`.

    Writes tokens as NNNNN.bin (uint16, or uint32 above 65,536 ids), the start of each document as NNNNN.idx (uint64).
    """
    out.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    shards: list[dict[str, int]] = []
    tokens = array("I")
    starts: list[int] = []

    def close() -> None:
        name = f"{len(shards):05d}"
        np.asarray(tokens, dtype=dtype).tofile(out / f"{name}.bin")
        np.asarray(starts, dtype=np.uint64).tofile(out / f"{name}.idx")
        shards.append({"num_tokens": len(tokens), "num_documents": len(starts)})
        del tokens[:]
        starts.clear()

    for batch in _batches(texts, batch_documents):
        for ids in tokenizer(batch, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
            starts.append(len(tokens))
            tokens.extend([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id])
            if len(tokens) >= shard_tokens:
                close()
    if tokens:
        close()
    manifest = {"dtype": np.dtype(dtype).name, "shards": shards}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return {
        "num_tokens": sum(shard["num_tokens"] for shard in shards),
        "num_documents": sum(shard["num_documents"] for shard in shards),
        "num_shards": len(shards),
    }


def shard_text(tokenizer: Path, text: Path, out: Path, shard_tokens: int) -> dict[str, int]:
    """Shards of the documents of a JSONL file."""
    return write_shards(
        PreTrainedTokenizerFast.from_pretrained(tokenizer),
        (row["text"] for row in read_jsonl(text)),
        out,
        shard_tokens,
    )


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class TokenShards:
    """Rows of `length` tokens over all shards; a row never spans two shards, the rest of a shard is left out."""

    def __init__(self, path: Path, length: int) -> None:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
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
