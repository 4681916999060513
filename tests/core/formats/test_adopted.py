"""Tokenizers of open models: the end of turn, padding and document ends found in them, and templates refused."""

import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.adopted import GROUNDUP, added_token_ids, adopt_tokenizer, check_chat_format, read_tokenizer
from groundup.core.formats.chat_format import (
    CHAT_TEMPLATE,
    document_ends,
    encode_text,
    load_tokenizer,
    mask_behind,
    render,
    render_prompts,
    render_trained,
    reply_start,
)
from groundup.core.formats.control_tokens import never_sampled
from tests.open_tokenizers import CHATML, FAMILIES, byte_bpe, installed_template, named, open_tokenizer, saved

CHAT = [
    {"role": "system", "content": "music"},
    {"role": "user", "content": "Do you like it?\n"},
    {"role": "assistant", "content": "Yes, I do."},
    {"role": "user", "content": "The sea?"},
    {"role": "assistant", "content": ""},
]
EXPECTED = {  # end of turn, padding, before a document, behind it, number of tokens added
    "llama": ("<|eot_id|>", "<|reserved_special_token_0|>", "<|begin_of_text|>", "<|end_of_text|>", 0),
    "qwen3": ("<|im_end|>", "<|vision_pad|>", "<|endoftext|>", "<|endoftext|>", 0),
    "smollm2": ("<|im_end|>", "<repo_name>", "<|endoftext|>", "<|endoftext|>", 0),
    "mistral": ("</s>", "<unk>", "<s>", "</s>", 0),
    "gemma": ("<end_of_turn>", "<pad>", "<bos>", "<eos>", 0),
    "gemma3": ("<end_of_turn>", "<pad>", "<bos>", "<eos>", 0),
    "unigram": ("<|im_end|>", "<|pad|>", "<s>", "</s>", 1),
    "gpt2": ("<|end|>", "<|pad|>", "<|endoftext|>", "<|endoftext|>", 5),
}
TEXTS = {
    "llama": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nmusic<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nDo you like it?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nYes, I do.<|eot_id|>",
    "qwen3": "<|im_start|>system\nmusic<|im_end|>\n<|im_start|>user\nDo you like it?<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\nYes, I do.<|im_end|>",
    "mistral": "<s> [INST] music\n\nDo you like it? [/INST] Yes, I do.</s>",
    "gemma": "<bos><start_of_turn>user\nmusic\n\nDo you like it?<end_of_turn>\n<start_of_turn>model\n"
    "Yes, I do.<end_of_turn>",
    "gpt2": "<|endoftext|><|system|>music<|end|><|user|>Do you like it?<|end|><|assistant|>Yes, I do.<|end|>",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        saved(open_tokenizer(family), root / family)
    return root


def adopted(folder: Path, family: str) -> PreTrainedTokenizerFast:
    return adopt_tokenizer(folder / family, GROUNDUP if family == "gpt2" else None).tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_ends_padding_and_what_is_trained(folder: Path, tmp_path: Path, family: str) -> None:
    found = adopt_tokenizer(folder / family, GROUNDUP if family == "gpt2" else None)
    tokenizer = load_tokenizer(str(saved(found.tokenizer, tmp_path)))  # as every stage after the first reads it
    ends = tokenizer.convert_ids_to_tokens(list(document_ends(tokenizer)))
    assert (tokenizer.eos_token, tokenizer.pad_token, *ends, found.num_added) == EXPECTED[family]
    assert tokenizer.bos_token == open_tokenizer(family).bos_token
    if family in TEXTS:
        assert tokenizer.decode(render(tokenizer, CHAT[:3], reply_next=False)) == TEXTS[family]
    ids, mask, _ = render_trained(tokenizer, CHAT)
    assert ids == render(found.tokenizer, CHAT, reply_next=False)
    trained = tokenizer.decode([token for token, is_trained in zip(ids, mask, strict=True) if is_trained])
    assert trained.lstrip().replace("</s> </s>", "</s></s>") == "Yes, I do." + tokenizer.eos_token * 2
    for i in (2, 4):
        prompt = render(tokenizer, CHAT[:i], reply_next=True)
        assert ids[: len(prompt)] == prompt
        assert prompt[len(prompt) - len(reply_start(tokenizer)) :] == reply_start(tokenizer)
    assert tokenizer.decode(ids, skip_special_tokens=True).count(tokenizer.eos_token) == 0


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"qwen3", "gpt2"}))
def test_the_template_and_the_vocabulary_stay_as_they_are(folder: Path, tmp_path: Path, family: str) -> None:
    before = open_tokenizer(family)
    after = load_tokenizer(str(saved(adopted(folder, family), tmp_path)))
    assert after.chat_template == before.chat_template
    assert {token: i for token, i in after.get_vocab().items() if i < len(before)} == before.get_vocab()
    text = "  Do you like the sea?\n\nYes, \u6f22\u5b57!"
    assert encode_text(after, text) == before(text, add_special_tokens=False)["input_ids"]


def test_a_base_without_template_gets_the_tokens_of_ours(folder: Path) -> None:
    base = read_tokenizer(folder / "gpt2")
    tokenizer = adopted(folder, "gpt2")
    assert tokenizer.chat_template == CHAT_TEMPLATE
    new = added_token_ids(tokenizer, folder / "gpt2")
    assert new == list(range(len(base), len(base) + 5))
    assert tokenizer.convert_ids_to_tokens(new) == ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>"]
    assert added_token_ids(adopted(folder, "llama"), folder / "llama") == []


def test_ours_is_adopted_as_it_is(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    found = adopt_tokenizer(saved(tiny_tokenizer, tmp_path), None)
    assert found.num_added == 0
    assert render_trained(found.tokenizer, CHAT) == render_trained(tiny_tokenizer, CHAT)
    assert found.tokenizer.special_tokens_map == tiny_tokenizer.special_tokens_map


def test_the_mask_by_prefixes_is_that_of_the_generation_marks(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    for length in range(1, 6):
        chat = CHAT[:length]
        ids, mask, is_prefix_preserving = render_trained(tiny_tokenizer, chat)
        assert mask_behind(ids, render_prompts(tiny_tokenizer, chat), tiny_tokenizer.eos_token_id) == mask
        assert is_prefix_preserving


def test_what_is_never_sampled(folder: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The other special tokens, marks that the template writes, and ids that only pad the vocabulary."""
    tokenizer = adopted(folder, "qwen3")
    never = never_sampled(tokenizer, len(tokenizer) + 3)
    assert never[-3:] == [len(tokenizer), len(tokenizer) + 1, len(tokenizer) + 2]
    names = tokenizer.convert_ids_to_tokens(never[:-3])
    assert {"<|endoftext|>", "<|im_start|>", "<|vision_pad|>", "<think>", "</think>"} <= set(names)
    assert "<|im_end|>" not in names
    ours = [i for i in tiny_tokenizer.all_special_ids if i != tiny_tokenizer.eos_token_id]
    assert never_sampled(tiny_tokenizer, len(tiny_tokenizer)) == ours


def test_an_end_of_turn_that_was_added_as_an_ordinary_token(tmp_path: Path) -> None:
    backend = byte_bpe(["<|endoftext|>", "<|pad|>"])
    backend.add_tokens(["<|im_start|>", "<|im_end|>"])
    path = saved(named(backend, CHATML, None, "<|endoftext|>", "<|endoftext|>"), tmp_path)
    tokenizer = load_tokenizer(str(saved(adopt_tokenizer(path, None).tokenizer, tmp_path / "published")))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
    ids, _, _ = render_trained(tokenizer, CHAT[:3])
    assert tokenizer.decode(ids[-2:], skip_special_tokens=True).endswith(".")


def test_truncation_and_padding_saved_with_a_tokenizer_are_not_used(tmp_path: Path) -> None:
    tokenizer = open_tokenizer("llama")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64, pad_token="<|eot_id|>")
    path = saved(tokenizer, tmp_path)
    found = load_tokenizer(str(saved(adopt_tokenizer(path, None).tokenizer, tmp_path / "published")))
    assert found.decode(encode_text(found, "Do you like music? Yes, I do.")) == "Do you like music? Yes, I do."


TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
NEXT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
REFUSED = {
    "no template": (None, "it has no chat template and none was chosen"),
    "no stop token": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}",
        "writes no special token behind a reply, so the model would never stop",
    ),
    "a stop token of the last reply only": (
        "{% for m in messages %}<|im_start|>{{ m['content'] }}{% if loop.last %}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}",
        "ends replies with <|im_end|> or <|im_start|>, not always with the same",
    ),
    "another prompt than the chat": (
        "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}",
        "the prompt of a reply is not the start of the chat with that reply (contents 'thunderstorm')",
    ),
    "marks in earlier turns": (
        "{% for m in messages %}{% if loop.last or m['role'] != 'assistant' %}" + TURN + "{% else %}"
        "{{ '<|im_start|>assistant\nEarlier: ' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}" + NEXT,
        "a turn is rendered otherwise once the chat continues",
    ),
    "replies in capitals": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ '<|im_start|>assistant\n' + m['content'] | upper + '<|im_end|>\n' }}{% else %}" + TURN + "{% endif %}"
        "{% endfor %}" + NEXT,
        "does not write the contents of replies",
    ),
    "a thought in front of replies": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ '<|im_start|>assistant\nhm, ' + m['content'] + '<|im_end|>\n' }}{% else %}" + TURN + "{% endif %}"
        "{% endfor %}" + NEXT,
        "the template writes 'hm, thunderstorm' where the reply is 'thunderstorm'",
    ),
    "markers joined from a content": (
        "{% for m in messages %}" + TURN.replace("m['content']", "m['content'] | replace('< ', '<')") + "{% endfor %}"
        "" + NEXT,
        "change the markers that stand in the chat",
    ),
    "an error": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('only questions') }}{% endif %}"
        "{% endfor %}",
        "the chat template raises an error: only questions",
    ),
    "an error of the language": ("{% for m in messages %}", "the chat template raises an error: Unexpected end"),
    "no string": ("{{ messages[0]['content']['text'] + 1 }}", "the chat template raises an error"),
    "the day's date": (
        "{{ strftime_now('%d %b %Y') }}{% for m in messages %}" + TURN + "{% endfor %}" + NEXT,
        "the chat template writes the date of the day, so prompts differ from day to day",
    ),
    "parts of contents": (installed_template("idefics3"), "does not write the contents of replies"),
}


@pytest.mark.parametrize(("template", "problem"), REFUSED.values(), ids=REFUSED)
def test_templates_that_are_refused(tmp_path: Path, template: str | None, problem: str) -> None:
    backend = byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    path = saved(named(backend, template, None, "<|endoftext|>", None), tmp_path)
    problems = check_chat_format(path)
    assert any(problem in found for found in problems), problems
    with pytest.raises(ValueError, match=r"cannot be used: .*set model.chat_template to groundup"):
        adopt_tokenizer(path, None)
    assert check_chat_format(path, CHATML) == check_chat_format(path, GROUNDUP) == []


@pytest.mark.parametrize(
    "name",
    [
        *("cohere", "cohere2", "gemma4_v5", "lfm2_v2", "llama3_1", "llama3_2", "nemotron_3_nano", "phi3", "phi3_5"),
        *("qwen2_5", "qwen3_instruct_2507", "qwen3_6", "qwen3_8"),
    ],
)
def test_templates_that_trl_installs(tmp_path: Path, name: str) -> None:
    template = installed_template(name)
    marks = sorted({*re.findall(r"<\|?/?[a-zA-Z_]+\|?>", template), "<|reserved|>"})
    path = saved(named(byte_bpe(["<s>", "</s>", *marks]), template, "<s>", "</s>", None), tmp_path)
    tokenizer = adopt_tokenizer(path, None).tokenizer
    ids, mask, _ = render_trained(tokenizer, CHAT[:3])
    trained = [token for token, is_trained in zip(ids, mask, strict=True) if is_trained]
    assert tokenizer.decode(trained) == f"Yes, I do.{tokenizer.eos_token}"
    assert ids[-1] == tokenizer.eos_token_id


def test_tokenizers_that_cannot_be_read(tmp_path: Path) -> None:
    assert "has no tokenizer.json" in check_chat_format(tmp_path)[0]
    (tmp_path / "tokenizer.json").write_text("{")
    assert "cannot be read" in check_chat_format(tmp_path)[0]


def test_of_named_templates_the_default_is_taken(tmp_path: Path) -> None:
    tokenizer = open_tokenizer("smollm2")
    tokenizer.chat_template = {"default": CHATML, "tool_use": "{{ raise_exception('no') }}"}
    assert adopt_tokenizer(saved(tokenizer, tmp_path), None).tokenizer.chat_template == CHATML
