"""Replace personal data and secrets by typed placeholders: [EMAIL] [PHONE] [CARD] [IP] [KEY]."""

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}\b")
KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
    # To the end of the key; if that is cut off, all lines of base64 (in JSON, their line ends are escaped).
    r"(?:.{0,10000}?-----END [A-Z ]{0,30}PRIVATE KEY-----|(?:(?:\\[rn]|\s){1,4}[A-Za-z0-9+/=]{8,}(?![^\s\\]))*)"
    r"|\b(?:"  # shared by all: most places in a text do not start a word
    r"(?:sk|pk|rk)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?[A-Za-z0-9_-]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}"
    r"|pypi-[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,100}(?=@)"  # name:password in a URL
    # Length checks first: few words are long enough for the other checks.
    r"|(?<![/+-])(?=[A-Za-z0-9/+]{40}(?![\w/+=-]))(?=\w*[/+])(?=[\w/+]*[0-9])(?=[\w/+]*[a-z])[\w/+]*[A-Z][\w/+]*"
    r"|(?<![+-])(?=[A-Za-z0-9+_]{32})(?=\w*[0-9]\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z])[A-Za-z0-9+_]{32,}={0,2}(?![\w-])"
    r"|(?=[0-9a-f]{32})(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{32,}\b"
    r")",
    re.DOTALL,
)
CARD = re.compile(r"(?<![\d.-])[2-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d]|[.-]\d)")
IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
HEX = r"[0-9A-Fa-f]{0,4}"
IP = re.compile(
    rf"(?<![\w.:+])(?:{IPV4}|{HEX}(?::{HEX}){{1,6}}:{IPV4}|(?=[0-9A-Fa-f:]*\d){HEX}(?::{HEX}){{2,7}}(?![\w:]|\.\d))"
)
PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,5}"  # international
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ ./-])[2-9]\d\d[.-]\d{4}"  # North America
    r"|\(?0[1-9]\d{0,3}\)?[ -]\d{3,4}[ -]?\d{3,4}|0[1-9](?:[ .]\d\d){4}"  # trunk prefix
    r")(?![\w]|[.-]\d)"
)
# If this stands right before it, the match is not an address or not a secret.
NUMBERED = re.compile(r"(?i)\b(?:version|release|firmware|build|section|chapter)s?\W{1,2}$")
DIGEST = re.compile(r"(?i)\b(?:commit|revision|sha-?\d*|md5|hash|checksum|digest)\W{1,2}(?:(?:is|was|of)\W)?$")
CONTEXT = 24  # characters
PHONE_DIGITS = range(8, 16)  # E.164 allows 15
CARD_DIGITS = range(13, 20)  # ISO/IEC 7812


def replace_pii(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and the number of placeholders of each kind."""
    found: Counter[str] = Counter()
    # Keys first: they contain matches of other kinds; cards before phones for the same reason.
    possible = possible_kinds(text)
    for kind, pattern, is_real in RULES:
        if kind not in possible:
            continue

        def replace(match: re.Match[str], kind: str = kind, is_real: Callable[[re.Match[str]], bool] = is_real) -> str:
            if not is_real(match):
                return match.group()
            found[kind] += 1
            return f"[{kind.upper()}]"

        text = pattern.sub(replace, text)
    return text, found


# The patterns are slow. These quick checks pass every text that holds a real item of the kind.
NUMBER = re.compile(r"[0-9][\d ().+/-]{5,}\d")  # 1.2.3.4 is the shortest
COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
LONG_WORD = 20  # characters; the only shorter keys of one word are xox...


def possible_kinds(text: str) -> set[str]:
    """The kinds whose pattern must run on the text; placeholders of earlier kinds cannot add another."""
    kinds = set()
    if (
        max(map(len, text.split()), default=0) >= LONG_WORD
        or "PRIVATE KEY-----" in text
        or "xox" in text
        or ("@" in text and "://" in text)
    ):
        kinds.add("key")
    if "@" in text:
        kinds.add("email")
    if NUMBER.search(text):
        kinds |= {"ip", "card", "phone"}
    if COLONS.search(text):
        kinds.add("ip")
    return kinds


def follows(context: re.Pattern[str], match: re.Match[str]) -> bool:
    start = match.start()
    return context.search(match.string[max(0, start - CONTEXT) : start]) is not None


def is_key(match: re.Match[str]) -> bool:
    return not (re.fullmatch(r"[0-9a-f]+", match.group()) and follows(DIGEST, match))


def is_email(match: re.Match[str]) -> bool:
    return True


def is_card(match: re.Match[str]) -> bool:
    return passes_luhn(match.group())


def passes_luhn(candidate: str) -> bool:
    digits = [int(c) for c in candidate if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return len(digits) in CARD_DIGITS and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_ip(match: re.Match[str]) -> bool:
    try:
        ip_address(match.group())
    except ValueError:
        return False
    return not follows(NUMBERED, match)


def is_phone(match: re.Match[str]) -> bool:
    return sum(c.isdigit() for c in match.group()) in PHONE_DIGITS


RULES: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    ("key", KEY, is_key),
    ("email", EMAIL, is_email),
    ("ip", IP, is_ip),
    ("card", CARD, is_card),
    ("phone", PHONE, is_phone),
)
