"""Sources that prepare cannot read, or without usable rows."""

from typing import Any

import pytest

from tests.bad_input.checkout import conversations
from tests.bad_input.conftest import each_fails_clearly
from tests.bad_input.sources import FIX, SOURCES, hub, link_outside, prepare
from tests.bad_input.spoil import Spoil, both, files, own, package, set_param, write

pytestmark = pytest.mark.tried("bad input", "data")


def rated(rating: Any) -> Spoil:
    return package({"odd": next(iter(conversations().values())) | {"ratings": {"witty": rating}}})


CASES = [
    prepare("no such file", files("none.txt"), "matches no file | none.txt | put the files there"),
    prepare("a path above data", files("../params.yaml"),
            "is outside data/ | ../params.yaml | copy the files there"),
    prepare("an absolute path", files("/etc/hosts"), "is outside data/ | /etc/hosts | copy the files there"),
    prepare("a link out of data", link_outside, "is a link out of data/ | link.txt | copy the file instead"),
    prepare("a PDF", own("a.pdf", b"%PDF-1.4"), "this kind of file cannot be read | a.pdf | use .txt, .md or .jsonl"),
    prepare("chats from a .txt", own("a.txt", "hello", "chats"),
            "yields text, not chats | a.txt | use .jsonl or .parquet"),
    prepare("several sources at once", both(write("data/b.pdf", ""), files("none.txt", "b.pdf", "../c.txt")),
            "matches no file | b.pdf: this kind of file | copy the files there"),
    prepare("a package that is not installed", set_param(f"{SOURCES}.0.package", "no-such-data"),
            "is not installed | source talk | `pip install no-such-data==1.0`"),
    prepare("another version of a package", set_param(f"{SOURCES}.0.version", "2.0"),
            "talk is 1.0, params.yaml pins 2.0 | source talk | `pip install talk==2.0`"),
    prepare("a file that a package lacks", set_param(f"{SOURCES}.0.path", "talk/none.json"),
            "has no file talk/none.json | source talk | correct `path`"),
    prepare("a path out of a package", set_param(f"{SOURCES}.0.path", "../../params.yaml"),
            "leads out of | source talk | correct `path`"),
    prepare("a package whose file was changed", write("site/talk/data.json", "{}"),
            "sha256 of talk/data.json is | source talk | --force-reinstall"),
    prepare("a package that is no JSON", package("{"), "is not JSON | source talk: talk/data.json | correct `path`"),
    prepare("a package that is a list", package([1]), "list | source talk: talk/data.json | correct `format`"),
    prepare("a package of another format", package({"a": {"title": "x"}}),
            f"no 'messages' | talk/data.json, line 1 | {FIX}"),
    prepare("an encyclopedia that is none", package(conversations(), format="encyclopedia"),
            f"60 missing_column | talk/data.json, line 1: no 'title' | {FIX}"),
    prepare("a rating out of range", rated(99),
            f"from 1 to 10, got 99 | talk/data.json, line 1 | {FIX}"),
    prepare("a rating in words", rated("very"),
            f"from 1 to 10, got 'very' | talk/data.json, line 1 | {FIX}"),
    prepare("a dataset without a commit", hub("owner/name", "main"),
            "'main' of owner/name can move | source web | pin the 40 digits"),
    prepare("a hub that is out of reach", both(hub("owner/name"), lambda root: (root / "offline").touch()),
            "cannot be reached | source web: owner/name | Connect to the internet and unset HF_HUB_OFFLINE"),
    prepare("an absolute dataset", hub("/etc"),
            "must be a hub name or a folder inside data/ | source web: dataset /etc | must be a hub name"),
    prepare("a dataset folder without files", both(hub("empty"), lambda root: (root / "data/empty").mkdir()),
            "cannot be opened | source web: empty | hf download"),
    prepare("a dataset split that there is not",
            both(write("data/web/train.jsonl", '{"text": "x"}\n'), hub("web", split="dev")),
            "cannot be opened | split dev | Correct `dataset`"),
    prepare("a dataset without the column", both(write("data/web/train.jsonl", '{"content": "x"}\n' * 3), hub("web")),
            f"no column 'text', only content | web, line 1 | {FIX}"),
]  # fmt: skip

test_it_is_said_and_nothing_is_lost = each_fails_clearly(CASES)
