"""Tokenizers as open models have them, trained on a few sentences: byte-level BPE and SentencePiece's kinds."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.adopted import GROUNDUP, adopt_tokenizer

SENTENCES = [
    "What do you think about the beach? I like it very much, the sea is warm there.",
    "The river flows through the old town and then through the green valley to the sea.",
    "Do you like music? Yes, I like to listen to music when I am at home.",
] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"

# ChatML with a default system message, as SmolLM2 has it.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# No system role, strict turns, and the end of the text as the end of a turn.
INSTRUCT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
FAMILIES = ("llama", "qwen3", "smollm2", "mistral", "gemma", "gemma3", "unigram", "gpt2")


def installed_template(name: str) -> str:
    return (Path(trl.__file__).parent / f"chat_templates/{name}.jinja").read_text(encoding="utf-8")


def open_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """As published: not yet adopted."""
    match family:
        case "llama":
            tokenizer = byte_bpe(
                ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>"],
                ["<|end_header_id|>", "<|eot_id|>", "<|reserved_special_token_1|>"],
            )
            return named(tokenizer, installed_template("llama3"), "<|begin_of_text|>", "<|end_of_text|>", None)
        case "qwen3":
            tokenizer = byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>"])
            tokenizer.normalizer = normalizers.NFC()
            marks = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
            tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
            return named(tokenizer, installed_template("qwen3"), None, "<|im_end|>", "<|endoftext|>")
        case "smollm2":
            tokenizer = byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"])
            return named(tokenizer, CHATML, "<|im_start|>", "<|im_end|>", "<|im_end|>")
        case "mistral":
            tokenizer = sentencepiece_bpe(["<unk>", "<s>", "</s>"], normalizers.Prepend(SPACE))
            return named(tokenizer, INSTRUCT, "<s>", "</s>", None)
        case "gemma" | "gemma3":
            tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<start_of_turn>", "<end_of_turn>"]
            tokenizer = sentencepiece_bpe(tokens, None)
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ("\n\n", "<table>")])
            return named(tokenizer, installed_template(family), "<bos>", "<eos>", "<pad>")
        case "unigram":
            return named(unigram(["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]), CHATML, "<s>", "</s>", None)
        case "gpt2":
            return named(byte_bpe(["<|endoftext|>"]), None, "<|endoftext|>", "<|endoftext|>", None)
    raise ValueError(family)


@lru_cache
def adopted(family: str) -> PreTrainedTokenizerFast:
    with TemporaryDirectory() as folder:
        path = saved(open_tokenizer(family), Path(folder))
        return adopt_tokenizer(path, GROUNDUP if family == "gpt2" else None).tokenizer


def saved(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


def named(
    tokenizer: Tokenizer, template: str | None, bos: str | None, eos: str | None, pad: str | None
) -> PreTrainedTokenizerFast:
    unk = "<unk>" if tokenizer.token_to_id("<unk>") is not None else None
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, unk_token=unk
    )
    fast.chat_template = template
    return fast


def byte_bpe(special: Sequence[str], more: Sequence[str] = ()) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*special, *more)])
    return tokenizer


def sentencepiece_bpe(special: Sequence[str], before: normalizers.Normalizer | None) -> Tokenizer:
    """Special tokens, then bytes, then pieces; spaces become a sign, and characters that are no piece bytes."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", SPACE)
    trained.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    trained.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    merges = _merges(trained)
    pieces = [token for token, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {token: i for i, token in enumerate([*special, *BYTES, *pieces])}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = replace if before is None else normalizers.Sequence([before, replace])
    tokenizer.decoder = _decoder(strips=before is not None)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def unigram(special: Sequence[str]) -> Tokenizer:
    """Its model finds special tokens by their names, and its normalizer makes them of full-width letters."""
    letters = sorted({SPACE, *"".join(SENTENCES).replace(" ", ""), *"<>|/_[]\n"})
    words = sorted({SPACE + word for sentence in SENTENCES for word in sentence.split()})
    pieces = [(token, 0.0) for token in special]
    pieces += [(token, -9.0) for token in BYTES] + [(token, -5.0) for token in letters]
    pieces += [(word, -4.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first")
    tokenizer.decoder = _decoder(strips=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _decoder(strips: bool) -> decoders.Decoder:
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if strips else parts)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
