"""The text of a reply as its tokens arrive."""

import codecs
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode


def bytes_of_tokens(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """What each token stands for: of a byte-level tokenizer a character can be spread over several tokens."""
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    special = set(tokenizer.all_special_ids)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [
        b"" if token in special else bytes(byte_of[character] for character in name)
        for token, name in enumerate(names)
    ]


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
