"""The file equals the model: read back tensor by tensor, and run by transformers' own GGUF reader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.export import gguf as module
from groundup.app.export.gguf import export_gguf, permuted, unpermuted
from groundup.core.formats.chat_format import render
from groundup.core.model.llama import save_model
from groundup.core.model.variants import GroundupLlamaConfig, GroundupLlamaForCausalLM
from tests.llamas import tiny_shape

TEXT = "Hello there! I don't like 42  things,\n do you? \u00e9\u4f60"


def split_words(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def make_model(folder: Path, tokenizer: PreTrainedTokenizerFast, **options: Any) -> LlamaForCausalLM:
    torch.manual_seed(1)
    shape = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "initializer_range": 0.2}
    model = LlamaForCausalLM(LlamaConfig(**tiny_shape(tokenizer, **shape | options))).eval()
    save_model(model, tokenizer, folder, "# card\n")
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False, "head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ],
    ids=["tied", "untied"],
)
def test_another_reader_computes_the_same(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, options: dict[str, Any]
) -> None:
    model = make_model(tmp_path / "model", tiny_tokenizer, **options)
    export_gguf(tmp_path / "model", tmp_path / "out/model.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", use_safetensors=True)
    ids = torch.tensor([tiny_tokenizer(TEXT)["input_ids"]])
    torch.testing.assert_close(read(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    assert tokenizer(TEXT)["input_ids"] == ids[0].tolist()
    chat = [{"role": "user", "content": TEXT}]
    assert render(tokenizer, chat, reply_next=True) == render(tiny_tokenizer, chat, reply_next=True)
    names = [tensor.name for tensor in gguf.GGUFReader(tmp_path / "out/model.gguf").tensors]
    assert ("output.weight" in names) is not options["tie_word_embeddings"]


@pytest.mark.parametrize(
    ("splits", "name"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "gpt-2"),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
        ([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)], "smollm"),
        ([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)], None),
        ([split_words(r"\p{N}{1,3}"), pre_tokenizers.ByteLevel(False, use_regex=False)], "llama-bpe"),
        ([split_words(r"\p{N}"), pre_tokenizers.ByteLevel(False, use_regex=False)], "qwen2"),
        ([split_words(r"\p{N}{1,2}"), pre_tokenizers.ByteLevel(False, use_regex=False)], None),
        (pre_tokenizers.Metaspace(), None),
    ],
)
def test_the_name_of_how_text_is_split(splits: Any, name: str | None) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits) if isinstance(splits, list) else splits
    assert module.pre_tokenizer(json.loads(tokenizer.to_str())) == name


def test_rows_without_a_token_have_a_name() -> None:
    """A model with more embeddings than tokens."""
    tokenizer = {"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"id": 2, "content": "</s>", "special": True}]}
    tokens, types = module.vocabulary(tokenizer, 5)
    assert tokens == ["a", "b", "</s>", "[PAD3]", "[PAD4]"]
    assert types == [gguf.TokenType.NORMAL] * 2 + [gguf.TokenType.CONTROL] + [gguf.TokenType.UNUSED] * 2


def test_query_rows_are_where_llama_cpp_looks() -> None:
    """Heads of 4: halves (0 1 | 2 3) become neighbours (0 2 | 1 3)."""
    config = LlamaConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    rows = np.arange(8.0)[:, None]
    name = "model.layers.0.self_attn.q_proj.weight"
    assert permuted(name, rows, config)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert unpermuted(name, permuted(name, rows, config), config)[:, 0].tolist() == list(range(8))
    assert permuted(name.replace("q_proj", "v_proj"), rows, config)[:, 0].tolist() == list(range(8))


def test_what_the_file_says(model: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    export_gguf(model, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")

    def read(key: str) -> Any:
        return reader.fields[key].contents()

    assert (read("general.architecture"), read("tokenizer.ggml.model")) == ("llama", "gpt2")
    assert read("tokenizer.ggml.pre") == "gpt-2"
    tokens = read("tokenizer.ggml.tokens")
    assert tokens == tiny_tokenizer.convert_ids_to_tokens(list(range(300)))
    normal, control = int(gguf.TokenType.NORMAL), int(gguf.TokenType.CONTROL)
    assert read("tokenizer.ggml.token_type") == [normal] * 294 + [control] * 6
    assert len(read("tokenizer.ggml.merges")) == 300 - 256 - 6
    assert tokens[read("tokenizer.ggml.bos_token_id")] == "<|bos|>"
    assert tokens[read("tokenizer.ggml.eos_token_id")] == "<|end|>"
    assert read("tokenizer.ggml.add_bos_token") is False  # the template writes it
    assert "generation" not in read("tokenizer.chat_template").replace("add_generation_prompt", "")
    assert [read(f"llama.{key}") for key in ("context_length", "block_count", "rope.dimension_count")] == [128, 2, 32]


def test_half_precision_stays_what_it_is(model: Path, tmp_path: Path, tiny_model: LlamaForCausalLM) -> None:
    tiny_model.to(torch.bfloat16).save_pretrained(model)
    export_gguf(model, tmp_path / "model.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == "BF16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"  # the only type that llama.cpp accepts for vectors


@pytest.mark.parametrize(
    ("name", "spoil", "found"),
    [
        ("permuted", lambda name, values, config: values, "blk.0.attn_q.weight"),
        ("merges", lambda tokenizer: ["a b"], "tokenizer.ggml.merges"),
        ("pre_tokenizer", lambda tokenizer: "llama-bpe", "tokenizer.ggml.pre"),
    ],
)
def test_a_file_that_is_not_the_model_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spoil: Any, found: str
) -> None:
    """A wrong value in the file is found when it is read back."""
    write = module.write_gguf

    def write_wrongly(*arguments: Any) -> None:
        with monkeypatch.context() as context:
            context.setattr(module, name, spoil)
            write(*arguments)

    monkeypatch.setattr(module, "write_gguf", write_wrongly)
    with pytest.raises(RuntimeError, match=found):
        export_gguf(model, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*"))


def config_with(**values: Any) -> Callable[[Path], None]:
    return lambda model: edit(model / "config.json", lambda config: config.update(values))


def tokenizer_with(**values: Any) -> Callable[[Path], None]:
    return lambda model: edit(model / "tokenizer.json", lambda tokenizer: tokenizer.update(values))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def adds(*names: str) -> dict[str, Any]:
    """A post-processor that puts a text, A, among special tokens."""
    ids = {"<|bos|>": 294, "<|end|>": 295}
    parts = [
        {"Sequence": {"id": name, "type_id": 0}} if name == "A" else {"SpecialToken": {"id": name, "type_id": 0}}
        for name in names
    ]
    return {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names if name != "A"},
    }


def in_sequence(step: dict[str, Any]) -> dict[str, Any]:
    """As Llama 3 has it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return {"type": "Sequence", "processors": [byte_level, step]}


LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("post_processor", "wanted"),
    [(None, False), (adds("A"), False), (adds("<|bos|>", "A"), True), (in_sequence(adds("<|bos|>", "A")), True)],
    ids=["nothing", "the text alone", "bos", "bos, in a sequence"],
)
def test_a_bos_before_every_text_is_llama_cpps_too(
    model: Path, tmp_path: Path, post_processor: dict[str, Any] | None, wanted: bool
) -> None:
    tokenizer_with(post_processor=post_processor)(model)
    export_gguf(model, tmp_path / "out/model.gguf")
    assert gguf.GGUFReader(tmp_path / "out/model.gguf").fields["tokenizer.ggml.add_bos_token"].contents() is wanted
    found = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    assert found(TEXT)["input_ids"][:1] == ([found.bos_token_id] if wanted else found("Hello")["input_ids"][:1])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (config_with(rope_parameters=LINEAR), "its rotary embedding is linear, only default is supported"),
        (config_with(hidden_act="gelu"), "its activation is gelu, llama.cpp's Llama has silu"),
        (tokenizer_with(normalizer={"type": "NFC"}), "its tokenizer changes text by NFC"),
        (
            tokenizer_with(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
            "its tokenizer changes text by Sequence, which GGUF cannot hold",
        ),
        (tokenizer_with(post_processor=adds("A", "<|end|>")), "its tokenizer adds special tokens to a text"),
        (tokenizer_with(post_processor=in_sequence(adds("<|end|>", "A"))), "its tokenizer adds special tokens to a"),
        (tokenizer_with(post_processor=adds("<|bos|>", "<|bos|>", "A")), "its tokenizer adds special tokens to a"),
        (tokenizer_with(pre_tokenizer=BYTES), "none of the ways with a name in GGUF: gpt-2, smollm"),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    model: Path, tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(model)
    with pytest.raises(ValueError, match=r"aligned cannot become GGUF: .*`groundup export --to hf`") as refused:
        export_gguf(model, tmp_path / "model.gguf")
    assert problem in str(refused.value)
    assert not (tmp_path / "model.gguf").exists()


def test_other_positions_and_attention_are_refused(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    plain = make_model(tmp_path / "plain", tiny_tokenizer)
    shape = {key: value for key, value in plain.config.to_diff_dict().items() if key != "model_type"}
    for changes, problem in (
        ({"position": "sinusoidal"}, "it adds sinusoidal positions to the embeddings, which llama.cpp's"),
        ({"attention": "linear"}, "its attention is linear, which llama.cpp's"),
    ):
        model = GroundupLlamaForCausalLM(GroundupLlamaConfig(**shape | changes))
        save_model(model, tiny_tokenizer, tmp_path / "model", "# card\n")
        with pytest.raises(ValueError, match=f"cannot become GGUF: .*{problem}"):
            export_gguf(tmp_path / "model", tmp_path / "model.gguf")


def test_biases_are_refused_all_at_once(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    make_model(tmp_path / "model", tiny_tokenizer, attention_bias=True, mlp_bias=True)
    with pytest.raises(ValueError, match=r"it has attention_bias, .*; it has mlp_bias"):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
