"""Where keys of older versions stand now: for the error that names the new place, and for `configure --migrate`."""

from collections.abc import Callable
from typing import Any

MODEL = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "intermediate_size",
    "position",
    "attention",
    "rope_theta",
    "tie_embeddings",
    "initializer_range",
)
TOKENIZER = ("vocab_size", "min_frequency", "curve_vocab_sizes")

# Old key -> its new places; a value that several sections read now goes to each.
MOVED: dict[str, tuple[str, ...]] = {
    **{f"model.{name}": (f"model.scratch.{name}",) for name in MODEL},
    **{f"tokenizer.{name}": (f"tokenizer.scratch.{name}",) for name in TOKENIZER},
}
# New key -> the old keys that it is made of, and how from their values.
MADE: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {}
# New key -> the value that means what the older version did.
ADDED: dict[str, Any] = {"model.base": None}


def new_places(key: str) -> tuple[str, ...]:
    """Empty for a key that is not an old one."""
    return MOVED.get(key) or tuple(made for made, (olds, _) in MADE.items() if key in olds)


def old_keys() -> list[str]:
    return [*MOVED, *(old for olds, _ in MADE.values() for old in olds)]
