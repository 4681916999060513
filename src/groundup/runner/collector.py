"""Python's garbage collector, kept from what is no garbage: it would look through all modules at every turn."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """For imports: a fifth of their time otherwise, and a second more when the process ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
