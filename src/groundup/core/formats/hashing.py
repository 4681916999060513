"""Choices that depend only on a seed and a name: the same in every run, process and reading order."""

from hashlib import blake2b


def hash_integer(seed: int, purpose: str, name: str) -> int:
    """64 bits; `purpose` makes several choices for one name independent of each other."""
    return int.from_bytes(blake2b(f"{seed}\n{purpose}\n{name}".encode(), digest_size=8).digest(), "big")


def hash_fraction(seed: int, purpose: str, name: str) -> float:
    """In [0, 1)."""
    return (hash_integer(seed, purpose, name) >> 11) / 2**53


def content_id(content: str) -> str:
    """A name for a row without id, which stays the same when other rows are added."""
    return blake2b(content.encode(), digest_size=8).hexdigest()
