"""Where the judge of evaluate.openai is, and whether its key may travel there."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from groundup.runner.environment import judge_access
from groundup.runner.params.evaluate import OpenAIJudgeParams
from groundup.runner.redact import redact


def judge_server(params: OpenAIJudgeParams) -> tuple[str | None, str | None]:
    """(URL, key), None where there is none; ValueError where anyone on the way could read the key."""
    url, key = judge_access()
    url = params.base_url or url
    if url and key and urlsplit(url).scheme.lower() != "https" and not is_this_machine(urlsplit(url).hostname):
        raise ValueError(
            f"evaluate.judge is openai, and OPENAI_API_KEY would be sent unencrypted to {redact(url)}: give an https "
            "URL as evaluate.openai.base_url or OPENAI_BASE_URL, or unset OPENAI_API_KEY if that server needs none"
        )
    return url, key


def is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:  # another name
        return False
