"""A key is sent to this machine or through https, and nowhere else."""

from collections.abc import Callable

import pytest

from groundup.evaluate.pairwise.server import judge_server
from tests.evaluate.judging import OPENAI_PARAMS

Server = tuple[str | None, str | None]
KEY = "sk-verysecret-0123456789"
SAFE = [
    "https://judge.example/v1",
    "HTTPS://judge.example/v1",
    "http://127.0.0.1:8000/v1",
    "http://[::1]:8000/v1",
    "http://localhost:8000/v1",
]
UNSAFE = [
    "http://judge.example/v1",
    "http://10.0.0.7:8000/v1",
    "http://localhost.example/v1",
    "http://127.0.0.1.example",
]


@pytest.fixture(params=["params", "environment"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Server]:
    def found(url: str, key: str) -> Server:
        is_param = request.param == "params"
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", "" if is_param else url)
        return judge_server(OPENAI_PARAMS.model_copy(update={"base_url": url if is_param else None}))

    return found


@pytest.mark.parametrize("url", SAFE)
def test_a_key_that_nobody_can_read_on_the_way(server: Callable[[str, str], Server], url: str) -> None:
    assert server(url, KEY) == (url, KEY)


@pytest.mark.parametrize("url", UNSAFE)
def test_a_key_that_would_travel_unencrypted(server: Callable[[str, str], Server], url: str) -> None:
    with pytest.raises(ValueError, match="OPENAI_API_KEY would be sent unencrypted") as raised:
        server(url, KEY)
    assert KEY not in str(raised.value)
    assert server(url, "") == (url, None)
