"""Finds pickles: bare or legacy torch files, inside zip (torch.save) or compressed (joblib), numpy object arrays."""

import bz2
import gzip
import io
import lzma
import pickletools
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Opcodes that import or call something: without one, bytes that happen to parse are text or numbers.
CALLING = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD", "EXT1", "EXT2", "EXT4"}
PICKLED_NAMES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"}
COMPRESSED = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"x\x01": zlib.decompress,
    b"x\x9c": zlib.decompress,
    b"x\xda": zlib.decompress,
}


def pickles_below(folder: Path) -> list[str]:
    """`path: why` for every file that is or contains a pickle."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files, f"{folder} has no file to check"
    return [f"{path.relative_to(folder)}: {why}" for path in files for why in why_pickle(path.name, path.read_bytes())]


def why_pickle(name: str, content: bytes) -> Iterator[str]:
    if Path(name).suffix in PICKLED_NAMES:
        yield f"named {Path(name).suffix}"
    if is_pickle(content):
        yield "is a pickle"
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                for why in why_pickle(member, archive.read(member)):
                    yield f"{member} inside {why}"
    if content.startswith(b"\x93NUMPY"):
        try:
            np.load(io.BytesIO(content), allow_pickle=False)
        except ValueError:
            yield "is an array of pickled objects"
    for magic, decompress in COMPRESSED.items():
        if content.startswith(magic):
            try:
                inside = decompress(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                continue  # only looks compressed
            yield from (f"compressed: {why}" for why in why_pickle("", inside))


def is_pickle(content: bytes) -> bool:
    """A pickle from the first byte to a STOP: with a protocol header, or of protocol 0 and calling something."""
    has_header = content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    called = False
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # text that is no pickle
            for opcode, _, _ in pickletools.genops(content):
                called = called or opcode.name in CALLING
    except (ValueError, UnicodeDecodeError, KeyError, IndexError):
        return False
    return has_header or called
