"""Folders that would train something else than meant: each is refused, with the file and what to do."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.app.fetch.check import check_folder
from groundup.app.fetch.fetch import check, fetch, find_source
from groundup.app.fetch.found import describe, sentences
from groundup.runner.base import BaseError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NORM = "model.norm.weight"
Change = Callable[[Path], Any]


def edit(name: str, **values: Any) -> Change:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")

    return apply


def without(name: str, key: str) -> Change:
    def apply(folder: Path) -> None:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        del values[key]
        (folder / name).write_text(json.dumps(values), encoding="utf-8")

    return apply


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def write(name: str, content: str | bytes) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def cut(name: str, keep: int) -> Change:
    """keep: bytes of the file, from its end if negative."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def sharded(change: Change = lambda folder: None) -> Change:
    """Two shards and their index."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = sorted(tensors)
        places = {}
        for number, part in enumerate((names[:5], names[5:]), start=1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(part, file)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
        change(folder)

    return apply


def link(name: str, target: str) -> Change:
    return lambda folder: os.symlink(target, folder / name)


def linked(name: str) -> Change:
    """The file itself is elsewhere, as in the cache of the hub."""

    def apply(folder: Path) -> None:
        os.rename(folder / name, folder.parent / name)
        os.symlink(f"../{name}", folder / name)

    return apply


def tokens(count: int) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        for number in range(count):
            added = {"id": 300 + number, "content": f"<more{number}>", "special": True}
            values["added_tokens"].append(
                added | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            )
        path.write_text(json.dumps(values), encoding="utf-8")

    return apply


def rename(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.scale"] = tensors.pop(NORM)


def nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NORM][3] = float("nan")


AGAIN = "copy or download the file again"
RAISES = "{{ raise_exception('no') }}"
MALFORMED: dict[str, tuple[Change, str]] = {
    # weights
    "no weights": (remove(WEIGHTS), r"no weights \(model.safetensors.*: save it as safetensors"),
    "empty weights": (write(WEIGHTS, b""), f"model.safetensors is empty: {AGAIN}"),
    "weights cut at their end": (cut(WEIGHTS, -100), f"model.safetensors is damaged or incomplete .*: {AGAIN}"),
    "weights cut in their header": (cut(WEIGHTS, 20), f"model.safetensors is damaged or incomplete .*: {AGAIN}"),
    "weights that are text": (write(WEIGHTS, "version https://git-lfs"), f"model.safetensors is damaged .*: {AGAIN}"),
    "header of wrong length": (write(WEIGHTS, b"\xff" * 64), f"model.safetensors is damaged or .*: {AGAIN}"),
    "a weight is missing": (
        weights(lambda tensors: tensors.pop(NORM)),
        r"1 weights that config.json describes are missing, such as model\.norm\.weight: take config and weights",
    ),
    "a weight is of another name": (
        weights(rename),
        r"1 weights are not part of the model .*model\.norm\.scale: take",
    ),
    "a weight is of another shape": (
        weights(lambda tensors: tensors.update({NORM: torch.ones(63)})),
        r"1 weights have another shape than config.json describes, such as model\.norm\.weight: take config",
    ),
    "a config of another width": (
        edit("config.json", intermediate_size=100),
        "6 weights have another shape than config.json describes, such as .*: take config and weights of one model",
    ),
    "a config of more layers": (edit("config.json", num_hidden_layers=3), "9 weights that .* missing.*: take config"),
    "a config of fewer layers": (
        edit("config.json", num_hidden_layers=1),
        "9 weights are not part of .*: take config",
    ),
    "a weight that is not finite": (weights(nan), r"1 weights are not finite, such as model\.norm\.weight: take"),
    "weights in 8 bits": (
        weights(lambda tensors: tensors.update({NORM: torch.ones(64, dtype=torch.int8)})),
        "has weights of type I8: quantised weights are not supported; take the model in fp32",
    ),
    "weights in float 8": (
        weights(lambda tensors: tensors.update({NORM: torch.ones(64).to(torch.float8_e4m3fn)})),
        "has weights of type F8_E4M3: quantised weights are not supported; take the model in fp32",
    ),
    # shards
    "a missing shard": (
        sharded(remove("model-00002-of-00002.safetensors")),
        "index.json names model-00002-of-00002.safetensors, which it does not have: add what is missing",
    ),
    "an empty shard": (
        sharded(write("model-00002-of-00002.safetensors", b"")),
        f"model-00002-of-00002.safetensors is empty: {AGAIN}",
    ),
    "a torn shard": (
        sharded(cut("model-00001-of-00002.safetensors", -8)),
        f"model-00001-of-00002.safetensors is damaged or incomplete .*: {AGAIN}",
    ),
    "shards without an index": (sharded(remove(INDEX)), f"model-00001.* and no {INDEX}: add it"),
    "a shard that the index does not name": (
        sharded(lambda folder: save_file({"more": torch.ones(1)}, folder / "model-00003-of-00003.safetensors")),
        f"{INDEX} does not name model-00003-of-00003.safetensors: remove what is not of this model",
    ),
    "shards that changed places": (
        sharded(
            lambda folder: os.replace(
                folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
            )
        ),
        f"{INDEX} names model-00001-of-00002.safetensors, which it does not have",
    ),
    "a weight in another shard than the index says": (
        sharded(lambda folder: save_file({"more": torch.ones(1)}, folder / "model-00001-of-00002.safetensors")),
        f"model-00001-of-00002.safetensors lacks 5 weights that {INDEX} names, such as .*: {AGAIN}",
    ),
    "shards and a whole file": (
        sharded(lambda folder: save_file({"more": torch.ones(1)}, folder / WEIGHTS)),
        f"it has model.safetensors and {INDEX}, so which weights are meant is unclear: remove one",
    ),
    "an index that leaves the folder": (
        sharded(edit(INDEX, weight_map={NORM: "../model.safetensors"})),
        f"{INDEX} names '../model.safetensors', which is no file of weights beside it: {AGAIN}",
    ),
    "an index that is no JSON": (sharded(write(INDEX, "{")), f"{INDEX} cannot be read .*: {AGAIN}"),
    "an index without weights": (sharded(edit(INDEX, weight_map={})), f"{INDEX} has no weight_map .*: {AGAIN}"),
    # config
    "no config": (remove("config.json"), "it has no config.json: add that of the model"),
    "an empty config": (write("config.json", ""), f"config.json is empty: {AGAIN}"),
    "a torn config": (cut("config.json", 40), f"config.json cannot be read .*: {AGAIN}"),
    "a config that is a list": (write("config.json", "[]"), f"config.json holds no object but \\[\\]: {AGAIN}"),
    "an unknown architecture": (
        edit("config.json", model_type="mine", architectures=["MineForCausalLM"]),
        "config.json cannot be read.*: take a model whose architecture transformers knows",
    ),
    "a reward model": (
        edit("config.json", architectures=["LlamaForSequenceClassification"]),
        "config.json is of LlamaForSequenceClassification, not of LlamaForCausalLM: take a causal language model",
    ),
    "no architecture": (
        without("config.json", "architectures"),
        "config.json is of no model, not of LlamaForCausalLM: take a causal language model",
    ),
    "an encoder and decoder": (
        edit("config.json", model_type="t5", architectures=["T5ForConditionalGeneration"]),
        "T5ForConditionalGeneration and the type t5, which is more than a decoder of text: take the text-only model",
    ),
    "an encoder": (
        edit("config.json", model_type="bert", architectures=["BertLMHeadModel"]),
        "config.json has is_decoder: false, so its tokens see later ones: take a decoder",
    ),
    "a model of pictures": (
        write(
            "config.json", json.dumps({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]})
        ),
        "Gemma3ForConditionalGeneration and the type gemma3, which is more than a decoder of text: take the text-only",
    ),
    "a recurrent model": (
        write("config.json", json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"]})),
        "config.json has no max_position_embeddings, so how much the model can read is unknown: add it",
    ),
    "heads that do not divide the width": (
        edit("config.json", num_attention_heads=7, head_dim=None),
        "config.json cannot be read.*: take a model",
    ),
    "a width that is text": (edit("config.json", hidden_size="wide"), "config.json cannot be read.*: take a model"),
    "code of its own": (
        edit("config.json", auto_map={"AutoModelForCausalLM": "code.Model"}),
        r"config.json asks for code of its own \(auto_map\), and code in the folder is never run: remove auto_map",
    ),
    "quantised weights": (
        edit("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"config.json has a quantization_config \('gptq'\): quantised weights are not supported; take the model in",
    ),
    # tokenizer
    "no tokenizer": (remove("tokenizer.json"), "it has no tokenizer.json: add that of the model, or load"),
    "no settings of the tokenizer": (remove("tokenizer_config.json"), "it has no tokenizer_config.json: add that of"),
    "a torn tokenizer": (cut("tokenizer.json", 1000), f"tokenizer.json cannot be read .*: {AGAIN}"),
    "a tokenizer of no kind": (write("tokenizer.json", "{}"), f"its tokenizer cannot be read .*: {AGAIN}"),
    "a tokenizer with code": (
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Own", None]}),
        "tokenizer_config.json asks for code of its own .*: remove auto_map",
    ),
    "a tokenizer larger than the vocabulary": (
        tokens(5),
        "its tokenizer has 305 tokens and its config 300: they are of different models; take all files from one",
    ),
    # files
    "pickled weights": (write("pytorch_model.bin", b"\x80\x02"), "pytorch_model.bin can run code .*: save weights as"),
    "a pickled optimizer": (write("optimizer.pt", b"\x80\x02"), "optimizer.pt can run code when it is read: save"),
    "a link out of the folder": (link("notes.txt", "/etc/passwd"), "notes.txt is a link: put the file itself there"),
    "weights behind a link": (linked(WEIGHTS), "model.safetensors is a link: put the file itself there .*`cp -rL`"),
    "a link to nothing": (link("merges.txt", "nothing"), "merges.txt is a link: put the file itself there"),
    "a linked folder": (link("more", ".."), "more is a link: put the file itself there"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_folder_is_refused(model: Path, name: str) -> None:
    change, message = MALFORMED[name]
    change(model)
    with pytest.raises(ValueError, match=r"the model in .* cannot be used:\n") as refused:
        check_folder(model, None)
    assert re.search(message, str(refused.value)), str(refused.value)


@pytest.mark.parametrize(
    ("template", "what"),
    [(RAISES, "raises an error: no"), ("{% for", "raises an error: unexpected 'end of template'")],
)
def test_groundups_template_replaces_one_that_does_not_fit(model: Path, template: str, what: str) -> None:
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    found = describe(model, check_folder(model, None))
    assert found["chat_template"].startswith(f"the chat template {what}: set model.chat_template to groundup")


def test_without_a_template_groundups_is_there(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    found = describe(model, check_folder(model, None))
    assert "set model.chat_template to groundup" in found["chat_template"]


def test_gguf_is_promised_where_the_export_writes_it(model: Path) -> None:
    assert dict(sentences(describe(model, check_folder(model, None)), "mit"))["export"] == "hf, adapter, gguf"
    edit("tokenizer.json", normalizer={"type": "NFC"})(model)
    said = "hf, adapter; not gguf: its tokenizer changes text by NFC, which GGUF cannot hold"
    assert dict(sentences(describe(model, check_folder(model, None)), "mit"))["export"] == said


def test_there_are_many() -> None:
    assert len(MALFORMED) >= 40


def test_a_whole_folder_is_taken_also_in_shards(model: Path) -> None:
    read = check_folder(model, None)
    assert read.config is not None
    assert read.config.vocab_size == 300
    sharded()(model)
    assert check_folder(model, None).problems == []


def test_all_problems_at_once(model: Path) -> None:
    for change in (cut(WEIGHTS, -9), remove("tokenizer.json"), write("a.bin", b"x"), edit("config.json", auto_map={})):
        change(model)
    with pytest.raises(ValueError, match="cannot be used") as refused:
        check_folder(model, None)
    first, *lines = str(refused.value).splitlines()
    assert first == f"the model in {model} cannot be used:"
    named = ("a.bin can run", "model.safetensors is damaged", "config.json asks for code", "it has no tokenizer.json")
    assert all(line.startswith(f"  {name}") for line, name in zip(lines, named, strict=True))


def test_what_changed_since_it_was_fetched(root: Path, model: Path) -> None:
    fetch(root, find_source(None, model), "mine", accept=True)
    folder = root / "models/mine"
    assert check(root, "mine").base.licence == "none stated"
    edit("generation_config.json", temperature=0.5)(folder)
    remove("chat_template.jinja")(folder)
    write("more.json", "{}")(folder)
    command = f"groundup fetch --from PATH/{model.name} --as mine --accept-licence"
    remedy = f"since it was fetched: remove {folder} and run `{command}`"
    with pytest.raises(ValueError, match="cannot be used") as refused:
        check(root, "mine")
    assert str(refused.value).splitlines()[1:] == [
        f"  chat_template.jinja is missing {remedy}",
        f"  more.json is not one of its files {remedy}",
        f"  generation_config.json has changed {remedy}",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no model mine: `groundup fetch` brings one to"),
        ("{", r"is not valid JSON .*; remove .*models/mine, then `groundup fetch` brings it again"),
        ('{"base": {"name": "mine"}}', "does not describe a model .wrong or missing: source, revision, licence"),
        ("{}", r"does not describe a model \(wrong or missing: base\); remove its folder"),
    ],
)
def test_a_damaged_record(root: Path, content: str | None, message: str) -> None:
    folder = root / "models/mine"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "groundup.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as refused:
        check(root, "mine")
    assert isinstance(refused.value, BaseError) is (content != "{")
