"""The chats use the assistants of the decoding tests."""

from tests.core.decoding.conftest import assistant, checkout

__all__ = ["assistant", "checkout"]
