"""Control tokens: those that only the chat template may write, never the text of users or data."""

import re
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import models
from transformers import PreTrainedTokenizerFast

KEPT_TOKENIZERS = 8
MAX_ROUNDS = 8  # one suffices, unless breaking one token up completes another


def control_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """Special tokens, and added tokens that stand in the chat template, such as Qwen's <think>; by id."""
    return _control_tokens(tokenizer, tokenizer.chat_template, len(tokenizer), tokenizer.eos_token)


# The arguments after the first make a changed tokenizer another one.
@lru_cache(maxsize=KEPT_TOKENIZERS)
def _control_tokens(
    tokenizer: PreTrainedTokenizerFast, template: str | None, num_tokens: int, end: str | None
) -> dict[int, str]:
    named = set(tokenizer.all_special_ids)  # a bos can be added as an ordinary token
    return {
        token_id: token.content
        for token_id, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special or token_id in named or (token.content in (template or "") and is_marker(token.content))
    }


def is_marker(token: str) -> bool:
    """Words and white space can be added tokens too, and stand in templates as what they are."""
    return not token.isspace() and not token.isalnum()


def never_sampled(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> list[int]:
    """Ids for suppress_tokens: every control token but the end of turn, and ids that only pad the vocabulary."""
    padding = set(range(vocab_size)) - set(tokenizer.get_vocab().values())
    return sorted((control_tokens(tokenizer).keys() | padding) - {tokenizer.eos_token_id})


def first_control_token(tokenizer: PreTrainedTokenizerFast, text: str) -> str | None:
    """The first that is spelled in a text, if nothing but white space precedes it."""
    found = _pattern(tuple(control_tokens(tokenizer).values())).search(text)
    return found[0] if found and not text[: found.start()].strip() else None


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of raw texts, without start and end; no control token is among them, whatever they spell."""
    batch = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    forbidden = _forbidden(tokenizer)
    return [
        list(ids) if forbidden.isdisjoint(ids) else _encode_broken_up(tokenizer, text)
        for text, ids in zip(texts, batch, strict=True)
    ]


def _encode_broken_up(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    broken = break_up(tokenizer, text)
    return list(tokenizer(broken, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def break_up(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """The text with a space behind the first character of whatever would become a control token.

    Spelled tokens are found in the text. A normalizer can make others, such as of full-width letters, and a Unigram
    model finds tokens by their names, so the tokenizer is asked too.
    """
    forbidden = _forbidden(tokenizer)
    pattern = _pattern(tuple(control_tokens(tokenizer).values()))
    for _ in range(MAX_ROUNDS):
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        if pattern.search(text):
            continue
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if forbidden.isdisjoint(encoded["input_ids"]):
            return text
        for token, (start, _) in reversed(list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))):
            if token in forbidden:
                text = f"{text[: start + 1]} {text[start + 1 :]}"
    raise ValueError(f"a text would be read as markers of the chat template: {text[:80]!a}; remove it from the data")


def _forbidden(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """A character that the vocabulary lacks becomes <unk>, which marks nothing."""
    return control_tokens(tokenizer).keys() - {unknown_id(tokenizer)}


def unknown_id(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token that characters become which the vocabulary lacks; None if they become bytes."""
    model = tokenizer.backend_tokenizer.model
    can_lack = isinstance(model, models.Unigram) or getattr(model, "unk_token", None) is not None
    return tokenizer.unk_token_id if can_lack and not getattr(model, "byte_fallback", False) else None


@lru_cache(maxsize=KEPT_TOKENIZERS)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
