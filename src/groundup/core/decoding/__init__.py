"""The decoding methods: greedy, sampling, beam search, best of n and tree of thoughts."""

from groundup.core.decoding.reply import Reply, reply, reply_to_prompt
from groundup.core.decoding.sampling import stream
from groundup.core.decoding.settings import METHODS, Decoding, make_decoding, parse_decoding

__all__ = ["METHODS", "Decoding", "Reply", "make_decoding", "parse_decoding", "reply", "reply_to_prompt", "stream"]
