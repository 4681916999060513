import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from groundup.data.files import find_files, read_files
from groundup.data.records import Conversation, Preference, Prompt, Record, Text
from groundup.frame.params.prepare import FilesSource
from tests.data.made_up import files_source


def source(*paths: str, yields: str = "text") -> FilesSource:
    return FilesSource.model_validate(files_source("own", list(paths), yields))


def read(data_dir: Path, *paths: str, yields: str = "text", max_characters: int = 100) -> list[Record]:
    return list(read_files(source(*paths, yields=yields), data_dir, max_characters))


def write_zst(path: Path, *frames: str) -> None:
    with path.open("wb") as file:
        for frame in frames:
            with pyarrow.output_stream(buffer := pyarrow.BufferOutputStream(), compression="zstd") as out:
                out.write(frame.encode())
            file.write(buffer.getvalue().to_pybytes())


def test_every_kind_of_text_file_gives_the_same_text(tmp_path: Path) -> None:
    text = "Gr\u00fc\u00dfe aus dem Garten.\nNoch eine Zeile.\n"
    row = json.dumps({"text": text, "id": 1}) + "\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "b.md").write_text(text, encoding="utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(text.encode()))
    write_zst(tmp_path / "d.txt.zst", text)
    (tmp_path / "e.jsonl").write_text(row + "\n")
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    write_zst(tmp_path / "g.jsonl.zst", row)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": text, "id": 1}]), tmp_path / "h.parquet")
    records = read(tmp_path, "*.*")
    assert [record.text for record in records if isinstance(record, Text)] == [text] * 8
    assert [record.id for record in records] == [
        f"own/{name}#0" for name in ("a.txt", "b.md", "c.txt.gz", "d.txt.zst")
    ] + ["own/1"] * 4


def test_a_zst_file_of_several_frames_is_read_to_its_end(tmp_path: Path) -> None:
    write_zst(tmp_path / "a.txt.zst", "one\n", "two\n")
    assert read(tmp_path, "a.txt.zst") == [Text("own/a.txt.zst#0", "own", "one\ntwo\n")]


def test_a_long_text_file_is_cut_at_blank_lines_and_loses_nothing(tmp_path: Path) -> None:
    paragraphs = [f"{letter * 30}\n\n" for letter in "abcdef"] + ["x" * 250 + "\n"]
    (tmp_path / "book.txt").write_text("".join(paragraphs))
    parts = [record.text for record in read(tmp_path, "book.txt") if isinstance(record, Text)]
    assert "".join(parts) == "".join(paragraphs)
    assert parts[0] == "".join(paragraphs[:3])
    assert max(map(len, parts)) <= 100


def test_rows_of_the_other_kinds(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = {
        "chats": {"id": 7, "messages": [{"role": "system", "content": "Be brief"}, *turns]},
        "preferences": {"id": 7, "prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": 1},
        "prompts": {"id": 7, "prompt": "Hi"},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    user, hello, no = turns[0], turns[1], {"role": "assistant", "content": "No"}
    assert read(tmp_path, "chats.jsonl", yields="chats") == [
        Conversation("own/7", "own", "Be brief", [(0, "Hi"), (1, "Hello")], None)
    ]
    assert read(tmp_path, "preferences.jsonl", yields="preferences") == [
        Preference("own/7", "own", [user], [hello], [no], 1.0)
    ]
    assert read(tmp_path, "prompts.jsonl", yields="prompts") == [Prompt("own/7", "own", [user])]


def test_a_row_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "zero"}\n{"text": "one"}\n')
    assert read(tmp_path, "a.jsonl")[0].id == read(tmp_path, "b.jsonl")[1].id


@pytest.mark.parametrize(
    ("yields", "row", "words"),
    [
        ("text", {"content": "x"}, "row 2: no column 'text', only content"),
        ("text", {"text": 3}, "'text' must be text, got int"),
        ("chats", {"messages": []}, "'messages' must be a text or a list of messages"),
        ("chats", {"messages": [{"role": "bot", "content": "x"}]}, "a message needs role"),
        ("chats", {"messages": [{"role": "assistant", "content": "x"}]}, "user and assistant must take turns"),
        ("prompts", {"messages": [{"role": "system", "content": "x"}]}, "user and assistant must take turns"),
        ("preferences", {"prompt": "a", "chosen": "b"}, "'rejected' must be a text or a list"),
        ("preferences", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": "big"}, "'margin' must be"),
        ("preferences", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": float("nan")}, "'margin' must be"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, yields: str, row: object, words: str) -> None:
    good = {
        "text": {"text": "x"},
        "chats": {"messages": "hi"},
        "prompts": {"prompt": "hi"},
        "preferences": {"prompt": "a", "chosen": "b", "rejected": "c"},
    }[yields]
    (tmp_path / "a.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=r"data/a\.jsonl, row 2") as error:
        read(tmp_path, "a.jsonl", yields=yields)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'["x"]\n', "line 1: one JSON object a line, got list"),
        ("a.txt", b"\xff\xfe\x00", "is not UTF-8"),
        ("a.txt.gz", gzip.compress(b"x" * 1000)[:-12], "is damaged or incomplete"),
        ("a.txt.gz", b"not gzip", "is damaged or incomplete"),
        ("a.jsonl.zst", b"not zstandard", "is damaged or incomplete"),
        ("a.parquet", b"PAR1 not parquet PAR1", "is damaged or incomplete"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"data/{name}") as error:
        read(tmp_path, name)
    assert words in str(error.value)


def test_all_paths_that_cannot_be_used_are_listed_at_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "a.pdf").write_bytes(b"")
    (data_dir / "b.parquet.gz").write_bytes(b"")
    (tmp_path / "outside.txt").write_text("x")
    (data_dir / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(ValueError, match="source own") as error:
        find_files(source("../outside.txt", "/etc/hosts", "none-*.txt", "a.pdf", "b.parquet.gz", "link.txt"), data_dir)
    lines = str(error.value).split("\n")
    assert len(lines) == 6
    for words in ("../outside.txt leads out", "/etc/hosts leads out", "none-*.txt matches no", "a.pdf: this kind"):
        assert any(words in line for line in lines)


def test_a_text_file_cannot_yield_chats(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a \.txt file yields text, not chats"):
        find_files(source("a.txt", yields="chats"), tmp_path)


def test_the_readme_of_the_folder_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("how to use this folder")
    (tmp_path / "notes.md").write_text("a note")
    assert find_files(source("*.md"), tmp_path) == [tmp_path / "notes.md"]
