"""Own data of every kind by itself: prepare says what the stages will lack, and they do all that they can without."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.align.align import align
from groundup.core.formats.needs import NEEDS, require_data
from groundup.core.formats.shards import write_shards
from groundup.core.model.llama import save_model
from groundup.evaluate.evaluate import evaluate
from groundup.evaluate.measures.measure import Data
from groundup.evaluate.shown import PAGE
from groundup.prepare.outputs.outputs import OUTPUTS
from groundup.prepare.prepare import prepare
from groundup.reward.reward import train_reward
from groundup.runner.checkpoints import Processes
from groundup.runner.params import Params
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.steps import FinishedSteps
from groundup.sft.sft import train_sft
from tests.llamas import tiny_llama
from tests.prepare.made_up import files_source, sentence
from tests.presets import preset
from tests.resume import Curve

SMOKE = preset("smoke")
PACKAGES = {source.name: source.model_dump() for source in SMOKE.prepare.sources}
OWN = ("text", "chats", "preferences", "prompts")
# Sources, and the stages that cannot do their work on what prepare makes of them.
MATRIX = {
    "text": ["sft", "reward", "align", "evaluate"],
    "text prompts": ["sft", "reward"],
    "text preferences": ["sft", "align", "evaluate"],
    "chats": [],
    "text chats": [],
    "chats preferences": [],
    "text chats prompts": [],
    "chitchat": [],
    "wikipedia": ["reward", "align", "evaluate"],
    "wikipedia preferences prompts": [],  # without a conversation
}


def rows(yields: str, count: int) -> list[dict[str, Any]]:
    rng = random.Random(yields)
    words = partial(sentence, rng)
    make: dict[str, Callable[[], dict[str, Any]]] = {
        "text": lambda: {"text": words(120)},
        "chats": lambda: {"messages": [{"role": ("user", "assistant")[i % 2], "content": words(8)} for i in range(6)]},
        "preferences": lambda: {"prompt": words(8), "chosen": words(6), "rejected": words(9)},
        "prompts": lambda: {"prompt": words(8)},
    }
    return [make[yields]() for _ in range(count)]


@dataclass(frozen=True)
class Prepared:
    folder: Path
    warnings: list[str]

    @property
    def data(self) -> dict[str, Path]:
        return {name: self.folder / "data" / name for name in OUTPUTS}


@pytest.fixture
def prepared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[[str], Prepared]:
    def run(names: str) -> Prepared:
        sources = []
        for name in names.split():
            if name in OWN:
                (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows(name, 89))), encoding="utf-8")
            sources.append(files_source(name, [f"{name}.jsonl"], name) if name in OWN else PACKAGES[name])
        values = SMOKE.prepare.model_dump()
        values["clean"] |= {"min_language_probability": 0.0}  # the words are made up
        prepare(
            PrepareParams.model_validate(values | {"sources": sources}),
            data_dir=tmp_path,
            outs={name: tmp_path / "data" / name for name in OUTPUTS},
            report=tmp_path / "reports",
            work=tmp_path / "prepare",
            num_processes=1,
        )
        return Prepared(tmp_path, [record.getMessage() for record in caplog.records if record.levelname == "WARNING"])

    return run


@pytest.mark.parametrize(("sources", "lacking"), MATRIX.items(), ids=[name.replace(" ", "_") for name in MATRIX])
def test_prepare_ends_with_what_the_stages_will_say(
    prepared: Callable[[str], Prepared], sources: str, lacking: list[str]
) -> None:
    done = prepared(sources)
    last = done.warnings[len(done.warnings) - len(lacking) :]
    assert [line.split()[1] for line in last] == lacking
    assert not any(" has no " in line for line in done.warnings[: len(done.warnings) - len(lacking)])
    for stage in NEEDS:
        if stage not in lacking:
            require_data(stage, done.data)
    for stage, line in zip(lacking, last, strict=True):
        assert "prepare.sources in params.yaml" in line
        with pytest.raises(ValueError, match=f"^{stage} has no ") as raised:
            require_data(stage, done.data)
        if stage == lacking[0]:  # there DVC stops
            assert line == f"prepare: {raised.value}"
    if lacking:
        stages = list(NEEDS)
        assert last[0].endswith(f"`dvc repro {stages[stages.index(lacking[0]) - 1]}`")


def small(params: Params) -> Params:
    """The fewest steps; reward as in params.yaml, where relevance pairs weigh nothing."""
    values = params.model_dump()
    values["sft"] |= {"max_chats": 8, "num_samples": 1}
    values["reward"] |= {"max_pairs": 8, "relevance_weight": 0.0}
    values["align"] |= {"num_iterations": 2, "checkpoint_every": 2}
    values["align"]["rollout"] |= {"batch_size": 8}
    values["evaluate"] |= {"num_prompts": 6, "num_documents": 4, "bootstrap_samples": 50}
    return Params.model_validate(values)


@pytest.mark.parametrize(
    ("sources", "tasks", "left_out"),
    [
        ("chats preferences", ["next_reply"], "definition, topic, which entity"),
        ("wikipedia preferences prompts", ["definition", "topic", "which_entity"], "next reply"),
    ],
)
def test_all_stages_do_what_they_can(
    prepared: Callable[[str], Prepared],
    tiny_tokenizer: PreTrainedTokenizerFast,
    sources: str,
    tasks: list[str],
    left_out: str,
) -> None:
    done, params = prepared(sources), small(SMOKE)
    folder, data = done.folder, done.data
    save_model(tiny_llama(tiny_tokenizer), tiny_tokenizer, folder / "base", "card")
    write_shards(tiny_tokenizer, data["text"] / "train.jsonl", folder / "shards", 10**6, FinishedSteps(folder / "s"))
    shared: dict[str, Any] = {"runtime": params.runtime.model_copy(update={"num_threads": 1}), "device": "cpu"}

    def trained(name: str) -> dict[str, Any]:
        curve = Curve()
        return {
            "out": folder / name,
            "report": folder / "reports" / name,
            "checkpoints": curve.checkpoints(folder / "work" / name),
            "log": curve,
            **shared,
        }

    train_sft(base=folder / "base", chats=data["chats"], params=params.sft, **trained("sft"))
    reward = train_reward(
        sft=folder / "sft",
        preferences=data["preferences"],
        prompts=data["prompts"],
        params=params.reward,
        **trained("reward"),
    )
    assert reward["num_pairs_train"] > 0
    align(
        sft=folder / "sft",
        reward=folder / "reward",
        prompts=data["prompts"],
        monitor=data["monitor"],
        params=params.align,
        **trained("aligned"),
    )
    names = ("text", "chats", "preferences", "prompts", "evaluation", "judge")
    metrics = evaluate(
        base=folder / "base",
        sft=folder / "sft",
        reward=folder / "reward",
        aligned=folder / "aligned",
        data=Data(shards=folder / "shards", **{name: data[name] for name in names}),
        points=folder / "reports/aligned/evaluation_points.jsonl",
        out=folder / "evaluate",
        params=params.evaluate,
        work=folder / "work/evaluate",
        kept=folder / "kept",
        model_judge=None,
        open_base=None,
        processes=Processes(),
        log=Curve(),
        **shared,
    )
    measured = [name.removesuffix("_accuracy") for name in metrics["aligned"] if name.endswith("_accuracy")]
    assert measured == tasks
    shown = json.loads((folder / "evaluate" / PAGE).read_text(encoding="utf-8"))["sentences"]
    assert any(sentence.startswith("Left out") and sentence.endswith(f": {left_out}.") for sentence in shown)
    assert any("There is no gold judge" in sentence for sentence in shown)
