from pathlib import Path

import pytest

from groundup.core.formats.records import Record
from groundup.prepare.sources.rows import BadRow
from groundup.prepare.sources.sources import check_sources, describe_source, read_source
from tests.prepare.made_up import PackageMaker, files_source, make_params


def test_every_source_that_cannot_be_read_is_named_at_once(tmp_path: Path, install_package: PackageMaker) -> None:
    good = install_package("talk", {})
    hub = {
        "kind": "hub", "name": "far", "dataset": "owner/name", "config": None, "split": "train", "revision": "main",
        "yields": "text", "text_column": "text", "max_rows": None, "licence": "MIT",
    }  # fmt: skip
    params = make_params([good, good | {"name": "old", "version": "2.0"}, files_source("own", ["*.txt"], "text"), hub])
    with pytest.raises(ValueError, match=r"prepare\.sources cannot be read") as error:
        check_sources(params.sources, tmp_path)
    assert [line.split(":")[0] for line in str(error.value).split("\n")[1:]] == [
        "source old",
        "source own",
        "source far",
    ]


def test_files_are_described_by_their_digest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (source,) = make_params([files_source("own", ["*.txt"], "text")]).sources
    card = describe_source(source, tmp_path)
    # sha256 of "hello", as sha256sum prints it
    assert card["sha256"] == {"a.txt": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    assert card["licence"] == "CC0-1.0"


def test_a_package_is_never_imported(tmp_path: Path, install_package: PackageMaker) -> None:
    source = install_package("talk", {})
    (tmp_path / "site/talk/__init__.py").write_text("raise RuntimeError('imported')")
    params = make_params([source])
    (parsed,) = params.sources
    records: list[Record | BadRow] = list(read_source(parsed, tmp_path, tmp_path, params))
    assert records == []
