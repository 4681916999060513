"""Tiny random models of other families go from a folder in bf16 through every stage that trains or measures."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from groundup.align.align import align
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.origin import origin_of
from groundup.core.formats.shards import write_shards
from groundup.core.model.check import CAUSAL, REWARD, check_model
from groundup.core.model.llama import load_causal_lm
from groundup.pretrain.pretrain import pretrain
from groundup.reward.reward import train_reward
from groundup.runner.base import Base
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.files import remove
from groundup.runner.interruption import Interruption
from groundup.runner.params.training import LoraParams, RuntimeParams
from groundup.runner.steps import FinishedSteps
from groundup.sft.sft import train_sft
from tests.align.conftest import MONITOR_ROWS, align_params
from tests.conftest import SENTENCES
from tests.evaluate.judging import PARAMS as EVALUATE
from tests.evaluate.stage import run_evaluate
from tests.families import family_model
from tests.presets import preset
from tests.resume import Curve

PARAMS = preset("smoke")
RUNTIME = RuntimeParams(num_threads=1, precision="fp32")
LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")
SFT = {
    "num_epochs": 6.0,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "max_length": 64,
    "lora": LORA,
    "num_samples": 1,
    "sample_tokens": 4,
}
REWARD_CHANGES = {
    "num_epochs": 6.0,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "max_length": 64,
    "lora": LORA,
    "validate_every": 100,
}
STEPS = {"log_every": 1, "checkpoint_every": 100}
METHODS = ("ppo", "rloo", "grpo", "dpo")
OTHER_END = 5  # a second end token, which the config alone names
LOCKED = Base(name="tiny", source="a/tiny", revision="1", licence="MIT", licence_accepted=False, files={})
FAMILIES = pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma3", "gpt2"])


def chat(question: str, reply: str | None = None) -> list[dict[str, str]]:
    said = [{"role": "user", "content": question}]
    return said if reply is None else [*said, {"role": "assistant", "content": reply}]


def write_data(tokenizer: PreTrainedTokenizerFast, root: Path) -> None:
    tokenizer.save_pretrained(root / "tokenizer")
    steps = FinishedSteps(root / "steps")
    for split in ("train", "val", "test"):
        write_jsonl(root / f"text/{split}.jsonl", ({"id": t, "text": t, "source": "a"} for t in SENTENCES * 4))
        write_jsonl(
            root / f"chats/{split}.jsonl",
            ({"id": f"{i}", "source": "a", "messages": chat(f"hello {i}", "yes I like music")} for i in range(8)),
        )
        write_jsonl(
            root / f"prompts/{split}.jsonl",
            (
                {"id": f"{i}", "conversation_id": f"c{i}", "source": "a", "messages": chat(text), "reply": "the sea"}
                for i, text in enumerate([*SENTENCES, "Hello", "Well?"])
            ),
        )
        write_jsonl(
            root / f"preferences/{split}.jsonl",
            (
                {
                    "id": f"{i}",
                    "source": "a",
                    "kind": "rating",
                    "chosen": chat(f"question {i}", "yes I like music"),
                    "rejected": chat(f"question {i}", "no the old town"),
                    "margin": 0.2,
                    "chosen_id": f"c{i}",
                    "rejected_id": f"r{i}",
                    "chosen_rating": 8.0,
                    "rejected_rating": 6.0,
                    "wrong_from": "elsewhere",
                }
                for i in range(16)
            ),
        )
    write_shards(tokenizer, root / "text/train.jsonl", root / "shards", 10**6, steps)
    write_jsonl(root / "monitor/conversations.jsonl", MONITOR_ROWS)
    write_jsonl(root / "judge/conversations.jsonl", MONITOR_ROWS)
    write_jsonl(
        root / "evaluation/topic.jsonl",
        [
            {"query": chat(t), "choices": ["the sea", "music"], "gold": i % 2, "group_id": t}
            for i, t in enumerate("ab")
        ],
    )


def write_base(family: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """As published elsewhere: in bf16, more rows than tokens, a list of end tokens, no card."""
    ends = [tokenizer.eos_token_id, OTHER_END]
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": ends}
    model = family_model(family, len(tokenizer) + 4, initializer_range=0.1, **ids)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def common(root: Path, name: str, log: Curve) -> dict[str, Any]:
    return {
        "out": root / name,
        "report": root / "reports" / name,
        "runtime": RUNTIME,
        "device": "cpu",
        "checkpoints": log.checkpoints(root / "work" / name),
        "log": log,
    }


def run_pretrain(root: Path, num_steps: int, log: Curve | None = None, **changes: Any) -> tuple[dict[str, Any], Curve]:
    log = log or Curve()
    metrics = pretrain(
        tokenizer=root / "tokenizer",
        shards=root / "shards",
        text=root / "text",
        base=root / "models/tiny",
        locked=LOCKED,
        model_params=PARAMS.model.model_copy(update={"context_length": 32}),
        params=PARAMS.pretrain.model_copy(
            update={
                "num_steps": num_steps,
                "batch_size": 2,
                "validate_every": 1,
                "sample_tokens": 4,
                **STEPS,
                **changes,
            }
        ),
        **common(root, "base", log),
    )
    return metrics, log


def run_align(root: Path, method: str) -> dict[str, Any]:
    changes = {"num_iterations": 1, "validation": {"num_prompts": 2}, "test": {"num_prompts": 2}}
    return align(
        sft=root / "sft",
        reward=root / "reward",
        prompts=root / "prompts",
        monitor=root / "monitor",
        params=align_params(method=method, lora=LORA.model_dump(), **changes),
        **common(root, f"aligned-{method}", Curve())
        | {"checkpoints": Checkpoints(root / "work" / method, Interruption())},
    )


def test_every_stage_in_bf16_keeps_fp32_weights(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Llama takes the packed passes; autocast rounds products, never what is stored."""
    monkeypatch.setitem(globals(), "RUNTIME", RuntimeParams(num_threads=1, precision="bf16"))
    run_every_stage("llama-tied", tiny_tokenizer, tmp_path)
    for file in tmp_path.glob("*/**/*.safetensors"):
        if file.parent.name != "tiny":
            assert {weight.dtype for weight in load_file(file).values()} == {torch.float32}, file


@FAMILIES
def test_every_stage(family: str, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    run_every_stage(family, tiny_tokenizer, tmp_path)


def run_every_stage(family: str, tiny_tokenizer: PreTrainedTokenizerFast, root: Path) -> None:
    write_data(tiny_tokenizer, root)
    write_base(family, tiny_tokenizer, root / "models/tiny")

    _, trained = run_pretrain(root, num_steps=1)
    remove(root / "base")
    metrics, log = run_pretrain(root, num_steps=0)
    published, given = load_file(root / "base/model.safetensors"), load_file(root / "models/tiny/model.safetensors")
    assert all(torch.equal(published[name], weight.float()) for name, weight in given.items())
    assert log.rows.keys() == {0}  # one point of each curve that dvc.yaml plots
    assert log.rows[0].keys() == {"loss", "val_bits_per_byte"}
    assert log.rows[0]["val_bits_per_byte"] == metrics["val_bits_per_byte"]
    if family != "gpt2":  # whose dropout is on while it trains
        assert log.rows[0]["loss"] == pytest.approx(trained.rows[1]["loss"], rel=1e-5)
    assert (metrics["num_tokens"], metrics["flops"]) == (0, 0)
    check_model(root / "base", CAUSAL)
    generation = json.loads((root / "base/generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == tiny_tokenizer.eos_token_id
    special = set(tiny_tokenizer.all_special_ids) - {tiny_tokenizer.eos_token_id}
    assert set(generation["suppress_tokens"]) == special | {OTHER_END} | {len(tiny_tokenizer) + i for i in range(4)}

    metrics = train_sft(
        base=root / "base", chats=root / "chats", params=PARAMS.sft.model_copy(update=SFT | STEPS),
        **common(root, "sft", Curve()),
    )  # fmt: skip
    assert metrics["val_loss"] < metrics["val_loss_before"]
    check_model(root / "sft", CAUSAL)
    later = json.loads((root / "sft/generation_config.json").read_text(encoding="utf-8"))
    assert set(later["suppress_tokens"]) == set(generation["suppress_tokens"])

    metrics = train_reward(
        sft=root / "sft", preferences=root / "preferences", prompts=root / "prompts",
        params=PARAMS.reward.model_copy(update=REWARD_CHANGES | STEPS),
        **common(root, "reward", Curve()),
    )  # fmt: skip
    assert metrics["heldout_accuracy"] > 0.5
    check_model(root / "reward", REWARD)

    for method in METHODS:
        metrics = run_align(root, method)
        assert metrics["num_test_prompts"] == 2
        check_model(root / f"aligned-{method}", CAUSAL)
    for name in ("base", "sft", "reward", "aligned-ppo"):
        assert origin_of(root / name) == {"name": "tiny", "source": "a/tiny", "revision": "1", "licence": "MIT"}

    metrics = run_evaluate(
        root,
        EVALUATE,
        Curve(),
        points=root / "reports/aligned-ppo/evaluation_points.jsonl",
        out="evaluated",
        aligned="aligned-ppo",
        open_base=LOCKED,
    )
    assert metrics["sft"]["kl_to_sft"] == 0.0
    assert 0 < metrics["base"]["bits_per_byte"] < 20
    assert metrics["decoding_beam_log_prob"] >= metrics["decoding_greedy_log_prob"]


def test_the_base_is_trained_further_and_gets_rows_for_new_tokens(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A capped head takes the plain loss; the four spare rows and one new one hold the five added tokens."""
    write_base("gemma3", tiny_tokenizer, tmp_path / "models/tiny")
    larger = copy.deepcopy(tiny_tokenizer)
    larger.add_tokens([f"<new{i}>" for i in range(5)])
    write_data(larger, tmp_path)
    metrics, log = run_pretrain(tmp_path, num_steps=6)
    values = [row["val_bits_per_byte"] for _, row in sorted(log.rows.items()) if "val_bits_per_byte" in row]
    assert values[-1] < values[0]
    assert metrics["num_tokens"] == 6 * 2 * 32
    model = load_causal_lm(tmp_path / "base", torch.device("cpu"))
    assert (model.config.vocab_size, len(larger)) == (len(tiny_tokenizer) + 5, len(tiny_tokenizer) + 5)
    assert model.config.added_token_ids == [len(tiny_tokenizer) + i for i in range(5)]
