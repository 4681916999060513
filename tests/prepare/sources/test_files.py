import errno
import gzip
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from groundup.core.formats.records import Conversation, Preference, Prompt, Record, Text
from groundup.prepare.sources import files
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow
from tests.prepare.made_up import files_source, open_source


def opened(data_dir: Path, *paths: str, yields: str = "text", max_row_bytes: int = 10_000) -> Reader[Any]:
    source = files_source("own", list(paths), yields)
    return open_source(source, data_dir, max_row_bytes=max_row_bytes, clean={"max_characters": 100})


def read_all(data_dir: Path, *paths: str, yields: str = "text", max_row_bytes: int = 10_000) -> list[Record | BadRow]:
    return list(opened(data_dir, *paths, yields=yields, max_row_bytes=max_row_bytes).read())


def read(data_dir: Path, *paths: str, yields: str = "text") -> list[Record]:
    rows = read_all(data_dir, *paths, yields=yields)
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row for row in rows if not isinstance(row, BadRow)]


def write_zst(path: Path, *frames: str) -> None:
    path.write_bytes(b"".join(map(zst, frames)))


def zst(frame: str) -> bytes:
    with pyarrow.output_stream(buffer := pyarrow.BufferOutputStream(), compression="zstd") as out:
        out.write(frame.encode())
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def parquet_with_a_damaged_page() -> bytes:
    table = pyarrow.Table.from_pylist([{"text": f"{i} {i * i}"} for i in range(2000)])
    pyarrow.parquet.write_table(table, buffer := pyarrow.BufferOutputStream())
    content: bytes = buffer.getvalue().to_pybytes()
    return content[:300] + b"\xff" * 200 + content[500:]


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
    ] + [f"own/{name}#1" for name in ("e.jsonl", "f.jsonl.gz", "g.jsonl.zst", "h.parquet")]


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
        Conversation("own/chats.jsonl#7", "own", "Be brief", [(0, "Hi"), (1, "Hello")], None)
    ]
    assert read(tmp_path, "preferences.jsonl", yields="preferences") == [
        Preference("own/preferences.jsonl#7", "own", [user], [hello], [no], 1.0)
    ]
    assert read(tmp_path, "prompts.jsonl", yields="prompts") == [Prompt("own/prompts.jsonl#7", "own", [user])]


def test_a_row_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "zero"}\n{"text": "one"}\n')
    assert read(tmp_path, "a.jsonl")[0].id == read(tmp_path, "b.jsonl")[1].id


def test_a_bad_row_of_a_table(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": None}, {"text": "x" * 20_000}, {"text": "two"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read_all(tmp_path, "a.parquet")
    assert [row.text for row in found if isinstance(row, Text)] == ["one", "two"]
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [(row.file, row.line, row.reason) for row in bad] == [
        ("data/a.parquet", 2, "wrong_type"),
        ("data/a.parquet", 3, "too_large"),
    ]
    assert len(bad[1].sample) == 2000


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        (b'{"text": ', "not_json", "not JSON (Expecting value"),
        (b'["x"]', "not_json", "one JSON object a line, got list"),
        (b"[" * 9000, "not_json", "brackets are nested too deeply"),
        (b'{"text": ' + b"1" * 9000 + b"}", "not_json", "not JSON (Exceeds the limit"),
        (b'{"text": "gr\xfc\xdfe"}', "not_utf8", "byte 13 is not UTF-8"),
        (b"\x00\x01\x02\x7fELF", "not_json", "not JSON"),
        (b'{"text": "' + b"x" * 10_000 + b'"}', "too_large", "more than prepare.max_row_bytes (10000)"),
    ],
    ids=["cut", "list", "nested", "number", "latin-1", "binary", "too large"],
)
def test_a_bad_line_is_named_and_the_next_one_read(tmp_path: Path, line: bytes, reason: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n\n' + line + b'\r\n{"text": "two"}')
    first, bad, last = read_all(tmp_path, "a.jsonl")
    assert isinstance(first, Text)
    assert isinstance(last, Text)
    assert (first.text, last.text) == ("one", "two")
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.reason) == (3, reason)
    assert words in bad.problem


def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    line = b'{"text": "%s"}' % (b"x" * 988)
    assert len(line) == 1000
    (tmp_path / "a.jsonl").write_bytes(line + b"\r\n" + line + b"\n" + line)
    assert [type(row) for row in read_all(tmp_path, "a.jsonl", max_row_bytes=1000)] == [Text] * 3
    assert [type(row) for row in read_all(tmp_path, "a.jsonl", max_row_bytes=999)] == [BadRow] * 3


def test_a_line_of_100_mb_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "next"}\n')
    start = time.process_time()
    tracemalloc.start()
    bad, good = read_all(tmp_path, "a.jsonl", max_row_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.reason) == (1, "too_large")
    assert isinstance(good, Text)
    assert peak < 8 * 2**20
    assert time.process_time() - start < 10


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_text('{"text": "x"}\n', encoding=encoding)
    with pytest.raises(ValueError, match=rf"data/{name} is {encoding.upper()}, not UTF-8: convert it with `iconv -f"):
        read_all(tmp_path, name)


def test_a_utf8_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n', encoding="utf-8-sig")
    assert [record.text for record in read(tmp_path, "a.jsonl") if isinstance(record, Text)] == ["x"]


def test_an_empty_file_is_passed_over_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jsonl", "b.txt", "c.parquet", "d.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
        assert read_all(tmp_path, name) == []
        assert f"data/{name} is empty" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"caf\xe9", "is not UTF-8"),
        ("a.txt", bytes(range(256)) * 100, "is not UTF-8"),
        ("a.txt.gz", gzip.compress(b"x" * 1000)[:-12], "is damaged or incomplete"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 1000)[:-12], "is damaged or incomplete"),
        ("a.txt.gz", b"not gzip", "is damaged or incomplete"),
        ("a.jsonl.zst", b"not zstandard", "is damaged or incomplete"),
        ("a.parquet", b"PAR1 not parquet PAR1", "is damaged or incomplete"),
        ("a.parquet", parquet_with_a_damaged_page(), "is damaged or incomplete"),
        ("a.jsonl.zst", zst('{"text": "x"}\n' * 1000)[:-4], "is damaged or incomplete"),
    ],
    ids=["latin-1", "binary", "cut gz", "cut jsonl.gz", "no gz", "no zst", "no parquet", "damaged page", "cut zst"],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"data/{name}") as error:
        read_all(tmp_path, name)
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_the_system_says_is_no_damage(
    tmp_path: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"content")

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "open_bytes", fail)
    monkeypatch.setattr(files, "read_parquet", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        read_all(tmp_path, name)
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path / name))
    assert "damaged" not in str(error.value)


def test_all_paths_that_cannot_be_used_are_listed_at_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "a.pdf").write_bytes(b"")
    (data_dir / "b.parquet.gz").write_bytes(b"")
    (tmp_path / "outside.txt").write_text("x")
    (data_dir / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(ValueError, match="source own") as error:
        opened(data_dir, "../outside.txt", "/etc/hosts", "none-*.txt", "a.pdf", "b.parquet.gz", "link.txt").check()
    lines = str(error.value).split("\n")
    assert len(lines) == 6
    for words in ("../outside.txt is outside", "/etc/hosts is outside", "none-*.txt matches no", "a.pdf: this kind"):
        assert any(words in line for line in lines)


def test_a_text_file_cannot_yield_chats(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a \.txt file yields text, not chats"):
        opened(tmp_path, "a.txt", yields="chats").check()


def test_the_readme_of_the_folder_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("how to use this folder")
    (tmp_path / "notes.md").write_text("a note")
    # sha256 of "a note", as sha256sum prints it
    digest = "f63e34a034f19a24438f2d74b242bc96682abd843ecc4ea63fefed4006d860a3"
    assert opened(tmp_path, "*.md").describe() == {
        "name": "own", "kind": "files", "package": None, "version": None, "sha256": {"notes.md": digest},
        "licence": "CC0-1.0",
    }  # fmt: skip
