"""The page without a browser: its files are served, load nothing else, and agree with each other and the server."""

import re
from collections import Counter
from typing import get_args

import pytest

from groundup.app.serve.app import PAGE
from groundup.core.decoding.settings import Method
from tests.app.serve.conftest import Running

HTML, SCRIPT = ((PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "chat.js"))
FILES = sorted(file.name for file in PAGE.iterdir())
LOADED = re.compile(r"""(?:src|href|from|url\()\s*=?\s*["']?([^"'\s)]+)""")


def test_every_file_is_loaded_by_the_page_and_served(server: Running) -> None:
    texts = [(PAGE / name).read_text(encoding="utf-8") for name in FILES if name.endswith((".html", ".js", ".css"))]
    loaded = {path for text in texts for path in LOADED.findall(text) if path.startswith(("/", "http"))}
    assert loaded == {f"/page/{name}" for name in FILES if name != "index.html"}
    assert server.http.get("/").text == HTML
    for path in loaded:
        assert server.http.get(path).content == (PAGE / path.rpartition("/")[2]).read_bytes()


@pytest.mark.parametrize(
    ("looked_up", "named"),
    [(r'byId\("([^"]+)"\)', r'\bid="([^"]+)"'), (r'querySelector(?:All)?\("\.([^"]+)"\)', r'class="(\w+)"')],
    ids=["ids", "classes"],
)
def test_what_the_script_looks_up_is_on_the_page(looked_up: str, named: str) -> None:
    wanted, present = set(re.findall(looked_up, SCRIPT)), set(re.findall(named, HTML))
    assert len(wanted) > 5
    assert wanted <= present


def test_an_id_stands_once() -> None:
    assert set(Counter(re.findall(r'\bid="([^"]+)"', HTML)).values()) == {1}


def test_the_page_offers_the_decodings_that_the_server_takes() -> None:
    assert set(re.findall(r'<option value="(\w+)"', HTML)) == set(get_args(Method))
