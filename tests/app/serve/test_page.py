"""The page in a real browser; test_page_files.py has what can be tested without one."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from groundup.app.chat.feedback import import_feedback
from groundup.core.formats.jsonl import read_jsonl
from groundup.prepare.sources.rows import to_record
from tests.app.serve.browser import CHROMIUM, Browser
from tests.app.serve.conftest import Running

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no Chromium: install it, or set CI to fail instead"
)

REPLIED = "document.querySelectorAll('.turn').length === {} && document.getElementById('stop-button').hidden"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def open_page(browser: Browser, url: str) -> None:
    browser.open(f"{url}/")
    assert browser.wait("document.querySelector('.model option')")
    browser.run("document.getElementById('seed').value = 5")


def say(browser: Browser, text: str, turn: int) -> list[str]:
    """Type a message; returns the replies."""
    browser.run("document.getElementById('message').focus()")
    browser.type(text)
    assert browser.wait(REPLIED.format(turn))
    return browser.run("[...document.querySelectorAll('.turn:last-child .reply .text')].map((e) => e.textContent)")


def thumbs(server: Running, path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.parametrize("size", [(1200, 800), (390, 760)], ids=["desktop", "phone"])
def test_a_conversation(browser: Browser, server: Running, size: tuple[int, int]) -> None:
    browser.resize(*size)
    open_page(browser, server.url)
    (first,) = say(browser, "Hello there!", 1)
    assert first.strip()
    assert browser.run("document.querySelector('.said').textContent") == "Hello there!"
    say(browser, "Do you like <b>music</b>?", 2)
    assert browser.run("document.querySelectorAll('.said b').length") == 0  # text stays text
    assert browser.run("document.querySelectorAll('.by')[1].textContent") == "aligned, sample"
    browser.click("#new")
    assert browser.run("document.querySelectorAll('.turn').length") == 0
    assert say(browser, "Hello there!", 1) == [first]  # the seed is set, and nothing is left of what was said
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []


def test_models_and_decodings_can_be_picked(browser: Browser, server: Running) -> None:
    open_page(browser, server.url)
    sampled = say(browser, "Hello there!", 1)
    options = browser.run("[...document.querySelector('.model').options].map((option) => option.value)")
    assert options == ["aligned", "sft"]
    browser.run("document.querySelector('.decoding').value = 'greedy'")
    browser.click("#new")
    assert say(browser, "Hello there!", 1) != sampled
    browser.run("document.querySelector('.model').value = 'sft'")
    browser.click("#new")
    say(browser, "Hello there!", 1)
    assert browser.run("document.querySelector('.by').textContent") == "sft, greedy"


def test_another_reply_takes_the_place_of_the_last_one(browser: Browser, server: Running) -> None:
    open_page(browser, server.url)
    (first,) = say(browser, "Hello there!", 1)
    browser.click(".again")
    shown = f"document.querySelector('.text').textContent !== {json.dumps(first)}"
    assert browser.wait(f"{REPLIED.format(1)} && {shown}")
    assert browser.run("document.querySelectorAll('.reply').length") == 1


def test_thumbs_of_a_comparison_become_a_preference(
    browser: Browser, server: Running, settings: object, tmp_path: Path
) -> None:
    log = settings.feedback_file
    log.unlink(missing_ok=True)
    open_page(browser, server.url)
    browser.click("#compare")
    left, right = say(browser, "Hello there!", 1)
    assert browser.run("[...document.querySelectorAll('.by')].map((e) => e.textContent)") == [
        "aligned, sample",
        "sft, sample",
    ]
    browser.click(".reply:nth-child(2) .up")
    assert browser.wait("document.querySelector('.goes-on .up[aria-pressed=true]')")
    say(browser, "And you?", 2)
    (row,) = thumbs(server, log)
    assert (row["rating"], row["model"], row["reply"], row["beside"]) == ("up", "sft", right.strip(), left.strip())
    browser.click(".turn:nth-child(2) .reply:nth-child(1) .down")
    assert browser.wait("document.querySelectorAll('[aria-pressed=true]').length === 2")
    last = thumbs(server, log)[-1]
    said = [message["content"] for message in last["messages"]]
    assert said == ["Hello there!", right.strip(), "And you?"]  # it continued from the preferred reply

    result = import_feedback(log, tmp_path / "preferences.jsonl")
    assert (result.num_pairs, result.problems) == (2, [])
    records = [to_record("feedback", "preferences", row, "text") for row in read_jsonl(tmp_path / "preferences.jsonl")]
    assert {record.chosen[0]["content"] for record in records if len(record.prompt) == 1} == {right.strip()}
    assert browser.errors == []


def test_stop_keeps_what_was_written(browser: Browser, slow_server: Callable[..., Running]) -> None:
    server = slow_server()
    open_page(browser, server.url)
    browser.run("document.getElementById('message').focus()")
    browser.type("Hello there!")
    assert browser.wait("document.querySelector('.text.writing')?.textContent.length > 5")
    browser.click("#stop-button")
    assert browser.wait(REPLIED.format(1))
    assert len(browser.run("document.querySelector('.text').textContent")) > 5
    assert server.wait_for("groundup_running_replies", 0)


def test_what_goes_wrong_is_said(browser: Browser, slow_server: Callable[..., Running]) -> None:
    server = slow_server(api_key="secret")
    browser.open(f"{server.url}/")
    assert browser.wait("document.getElementById('note').textContent.includes('API key is missing')")
    assert not browser.run("document.getElementById('settings').hidden")
    browser.run("document.getElementById('api-key').value = 'secret'")
    browser.run("document.getElementById('api-key').dispatchEvent(new Event('change'))")
    assert browser.wait("document.querySelector('.model option')")
    browser.run("document.getElementById('max-tokens').value = 5000")
    say(browser, "Hello there!", 1)
    assert "this server gives at most 100" in browser.run("document.querySelector('.failed .text').textContent")
    assert browser.run("document.getElementById('message').value") == "Hello there!"
    browser.errors.clear()  # the browser's own messages about the statuses 401 and 400
