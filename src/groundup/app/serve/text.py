"""The text of a reply as its tokens arrive."""

import codecs
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from groundup.core.formats.control_tokens import control_tokens

BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
SPACE, BYTE = "\u2581", re.compile(r"<0x([0-9A-F]{2})>")  # of SentencePiece


def bytes_of_tokens(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """What each token stands for: a character can be spread over several tokens, of bytes or of byte-level BPE."""
    added = {token_id: token.content for token_id, token in tokenizer.added_tokens_decoder.items()}
    added |= dict.fromkeys(control_tokens(tokenizer), "")
    read = bytes_of_piece if "ByteLevel" not in repr(tokenizer.backend_tokenizer.decoder) else bytes_of_characters
    names = tokenizer.convert_ids_to_tokens(list(range(max(tokenizer.get_vocab().values()) + 1)))
    return [
        added[token].encode() if token in added else b"" if name is None else read(name)
        for token, name in enumerate(names)
    ]


def bytes_of_characters(name: str) -> bytes:
    """Of byte-level BPE, which writes each byte as a printable character."""
    return bytes(BYTE_OF[character] for character in name)


def bytes_of_piece(name: str) -> bytes:
    """Of SentencePiece, which marks spaces and names bytes."""
    byte = BYTE.fullmatch(name)
    return bytes.fromhex(byte[1]) if byte else name.replace(SPACE, " ").encode()


class TextStream:
    """Gives out whole characters once they cannot begin a stop string; `text` ends before the first stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.text = ""
        self.num_shown = 0  # characters given out so far
        self.stopped = False
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, piece: bytes) -> str:
        """The text that can be shown now."""
        return self._take(self._decoder.decode(piece), is_last=False)

    def end(self) -> str:
        """The text that was held back."""
        return self._take(self._decoder.decode(b"", final=True), is_last=True)

    def _take(self, new: str, is_last: bool) -> str:
        if self.stopped:
            return ""
        longest = max(map(len, self._stops), default=0)
        start = max(0, len(self.text) - longest + 1)
        self.text += new
        found = [place for stop in self._stops if (place := self.text.find(stop, start)) >= 0]
        if found:
            self.stopped = True
            self.text = self.text[: min(found)]
        end = len(self.text) - (0 if is_last or self.stopped else self._num_held())
        shown = self.text[self.num_shown : end]
        self.num_shown = max(self.num_shown, end)
        return shown

    def _num_held(self) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        return max((n for stop in self._stops for n in range(1, len(stop)) if self.text.endswith(stop[:n])), default=0)
