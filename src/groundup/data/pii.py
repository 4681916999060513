"""Personal data and secrets replaced by typed placeholders: [EMAIL] [PHONE] [CARD] [IP] [KEY]."""

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

# Nothing that is replaced is without one of these: most lines are done after this one search.
CANDIDATE = re.compile(
    r"[0-9@]|PRIVATE KEY|::|\b(?:[spr]k[-_]|gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-|AKIA|ASIA|AIza|eyJ)"
)

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|\b(?:sk|pk|rk)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?[A-Za-z0-9_-]{20,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|(?<![\w+-])(?=\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z])[A-Za-z0-9+_]{32,}={0,2}(?![\w-])"
    r"|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{32,}\b",
    re.DOTALL,
)
CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d]|[.-]\d)")
IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)|(?=[0-9A-Fa-f:]*\d)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]))"
)
PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"(?:\+|00)\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}"  # international
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}"  # North America
    r"|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,4}"  # trunk prefix
    r")(?![\w]|[.-]\d)"
)
PHONE_DIGITS = range(8, 16)  # E.164 allows 15
CARD_DIGITS = range(13, 20)  # ISO/IEC 7812


def replace_pii(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many of each kind were put in."""
    found: Counter[str] = Counter()
    if CANDIDATE.search(text) is None:
        return text, found
    # Keys first: they contain what looks like the others; cards before phones for the same reason.
    for kind, pattern, is_real in RULES:

        def replace(match: re.Match[str], kind: str = kind, is_real: Callable[[str], bool] = is_real) -> str:
            if not is_real(match.group()):
                return match.group()
            found[kind] += 1
            return f"[{kind.upper()}]"

        text = pattern.sub(replace, text)
    return text, found


def passes_luhn(candidate: str) -> bool:
    digits = [int(c) for c in candidate if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return len(digits) in CARD_DIGITS and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_ip(candidate: str) -> bool:
    try:
        ip_address(candidate)
    except ValueError:
        return False
    return True


def is_phone(candidate: str) -> bool:
    return sum(c.isdigit() for c in candidate) in PHONE_DIGITS


def always(_: str) -> bool:
    return True


RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("key", KEY, always),
    ("email", EMAIL, always),
    ("ip", IP, is_ip),
    ("card", CARD, passes_luhn),
    ("phone", PHONE, is_phone),
)
