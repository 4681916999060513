"""Token shards: read back as written, with document boundaries in every row."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats import shards as module
from groundup.core.formats.chat_format import encode_text
from groundup.core.formats.shards import TokenShards, pack, write_shards
from groundup.runner.steps import FinishedSteps

TEXTS = ["the sea", "I like music", "the old town and the valley", "how are you"]


def write(tokenizer: PreTrainedTokenizerFast, texts: list[str], folder: Path, shard_tokens: int) -> dict[str, int]:
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return write_shards(tokenizer, text, folder, shard_tokens, FinishedSteps(folder / "steps"))


@pytest.fixture
def stream(tiny_tokenizer: PreTrainedTokenizerFast) -> list[int]:
    bos, end = tiny_tokenizer.bos_token_id, tiny_tokenizer.eos_token_id
    return [token for text in TEXTS for token in [bos, *encode_text(tiny_tokenizer, text), end]]


def test_rows_are_the_stream_in_order(
    tiny_tokenizer: PreTrainedTokenizerFast, stream: list[int], tmp_path: Path
) -> None:
    counts = write(tiny_tokenizer, TEXTS, tmp_path, shard_tokens=10**6)
    shards = TokenShards(tmp_path, 5)
    assert counts == {"num_tokens": len(stream), "num_documents": 4, "num_shards": 1}
    assert len(shards) == len(stream) // 5
    rows = [token for i in range(len(shards)) for token in shards.row(i)[0].tolist()]
    assert rows == stream[: len(rows)]


def test_positions_restart_at_every_document(
    tiny_tokenizer: PreTrainedTokenizerFast, stream: list[int], tmp_path: Path
) -> None:
    write(tiny_tokenizer, TEXTS, tmp_path, shard_tokens=10**6)
    shards = TokenShards(tmp_path, 7)
    for i in range(len(shards)):
        tokens, positions = shards.row(i)
        expected, position = [], -1
        for token in tokens:
            position = 0 if token == tiny_tokenizer.bos_token_id else position + 1
            expected.append(position)
        assert positions.tolist() == expected


def test_a_row_never_spans_two_shards(
    tiny_tokenizer: PreTrainedTokenizerFast, stream: list[int], tmp_path: Path
) -> None:
    counts = write(tiny_tokenizer, TEXTS, tmp_path, shard_tokens=10)
    sizes = [path.stat().st_size // 2 for path in sorted(tmp_path.glob("*.bin"))]
    shards = TokenShards(tmp_path, 4)
    assert counts["num_shards"] == len(sizes) > 1
    assert sum(sizes) == len(stream)
    assert len(shards) == sum(size // 4 for size in sizes)
    boundary = sizes[0] // 4
    assert shards.row(boundary)[0].tolist() == stream[sizes[0] : sizes[0] + 4]


@pytest.mark.parametrize("damage", ["kept", "cut", "gone"])
def test_packing_goes_on_at_the_first_shard_that_is_not_there(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{text} {i} \u4f60" for i in range(100) for text in TEXTS]  # more than one batch
    counts = write(tiny_tokenizer, texts, tmp_path, shard_tokens=1000)
    shards = {path.name: path.read_bytes() for path in tmp_path.glob("0*")}
    assert len(shards) == 2 * counts["num_shards"] > 6
    match damage:
        case "cut":
            os.truncate(tmp_path / "steps/shard-00001/00001.bin", 10)
        case "gone":
            for path in (tmp_path / "steps").glob("shard-0000[2-9].json"):
                path.unlink()
    packed = []
    monkeypatch.setattr(module, "pack", lambda *args: packed.append(args[-1].name) or pack(*args))
    assert write(tiny_tokenizer, texts, tmp_path, shard_tokens=1000) == counts
    assert {path.name: path.read_bytes() for path in tmp_path.glob("0*")} == shards
    rest = [f"shard-{i:05d}" for i in range(2, counts["num_shards"])]
    assert packed == {"kept": [], "cut": ["shard-00001"], "gone": rest}[damage]


def test_ids_take_two_bytes(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    write(tiny_tokenizer, TEXTS, tmp_path, shard_tokens=10**6)
    assert '"uint16"' in (tmp_path / "manifest.json").read_text()
    assert np.fromfile(tmp_path / "00000.bin", dtype=np.uint16)[0] == tiny_tokenizer.bos_token_id


def test_too_little_text_for_one_row_is_an_error(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    write(tiny_tokenizer, ["hi"], tmp_path, shard_tokens=10)
    with pytest.raises(ValueError, match="fewer than 64 tokens in every shard"):
        TokenShards(tmp_path, 64)
