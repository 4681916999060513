"""Code that gives other bytes on another machine: encodings, hash seeds, order of files, clocks."""

import ast
import re
from collections.abc import Iterator

LISTING = {"glob", "rglob", "iterdir", "listdir", "scandir", "walk"}
ORDERING = {"sorted", "set", "any", "all", "sum", "len", "max", "min"}
GLOBAL_GENERATOR = re.compile(r"(?:(?:np|numpy)\.)?random\.\w+")
SEEDED = {"Random", "default_rng", "SeedSequence", "seed", "getstate", "setstate", "get_state", "set_state"}
CHANGING = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.strftime"} | {
    "uuid.uuid1", "uuid.uuid4", "secrets.token_hex", "os.urandom", "os.getpid", "id"
}  # fmt: skip


def locale_bound(source: str) -> list[str]:
    """Text files read or written in the encoding of the locale, as `line: reason`."""
    return [
        f"{call.lineno}: {name} without encoding: it is the locale's"
        for call, name in _calls(ast.parse(source))
        if (
            name == "open"
            or (name.endswith((".open", ".read_text", ".write_text")) and name not in ("os.open", "gzip.open"))
        )
        and "encoding" not in {keyword.arg for keyword in call.keywords}
        and not _is_binary(call)
    ]


def changing(source: str) -> list[str]:
    """Values that differ from run to run or from machine to machine, as `line: reason`."""
    tree = ast.parse(source)
    ordered = {
        inner
        for call, name in _calls(tree)
        if name in ORDERING
        for argument in call.args
        for inner, _ in _calls(argument)
    }
    return [
        f"{call.lineno}: {reason}"
        for call, name in _calls(tree)
        for reason in _of_call(name, is_sorted=call in ordered)
    ]


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    return ((node, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _of_call(name: str, is_sorted: bool) -> Iterator[str]:
    last = name.rsplit(".", maxsplit=1)[-1]
    if last in LISTING and not is_sorted:
        yield f"{name} in the order of the file system: sort it"
    if name == "hash":
        yield "hash differs with PYTHONHASHSEED"
    if GLOBAL_GENERATOR.fullmatch(name) and last not in SEEDED:
        yield f"{name} draws from the global generator"
    if name in CHANGING:
        yield f"{name} differs from run to run"


def _is_binary(call: ast.Call) -> bool:
    values = [*call.args[:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(isinstance(value, ast.Constant) and "b" in str(value.value) for value in values)
