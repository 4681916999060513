"""The chats run on the assistants that decoding is tested with."""

from tests.core.decoding.conftest import assistant, checkout

__all__ = ["assistant", "checkout"]
