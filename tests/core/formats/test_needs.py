"""What a stage lacks, and the target at which DVC can stop."""

from pathlib import Path

import pytest

from groundup.core.formats.needs import require_data, warnings


def prepared(folder: Path, **filled: str) -> dict[str, Path]:
    """Outputs of prepare; `filled` names the splits of an output that have a row."""
    data = {name: folder / name for name in ("text", "chats", "preferences", "prompts")}
    for name, path in data.items():
        path.mkdir()
        for split in ("train", "val", "test"):
            row = '{"text": "a", "reply": null}\n' if split in filled.get(name, "") else ""
            (path / f"{split}.jsonl").write_text(row, encoding="utf-8")
    return data


def test_text_that_is_all_for_training_stops_before_the_tokenizer(tmp_path: Path) -> None:
    data = prepared(tmp_path, text="train")
    found = warnings(data)
    assert [sentence.split()[0] for sentence in found] == [
        "tokenizer", "pretrain", "sft", "reward", "align", "evaluate",
    ]  # fmt: skip
    assert all(sentence.endswith("or stop before that with `dvc repro prepare`") for sentence in found)
    with pytest.raises(ValueError, match=r"tokenizer has no text for val: raise prepare\.splits\.val") as raised:
        require_data("tokenizer", data)
    assert str(raised.value) == found[0]


def test_the_tokenizer_is_measured_on_val_and_does_without_test(tmp_path: Path) -> None:
    require_data("tokenizer", prepared(tmp_path, text="train val"))
