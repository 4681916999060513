"""What each stage needs of the prepared data: prepare warns of what they lack, and the stage itself does not start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from groundup.core.formats.jsonl import read_jsonl

Data = Mapping[str, Path]  # prepare's outputs by name, of which a stage reads some
DATA_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Need:
    """Rows of `kind` in each of `splits`; `sources` says what a source must yield to give them."""

    kind: str
    splits: tuple[str, ...]
    sources: str
    is_met: Callable[[Data, str], bool]


def rows_of(output: str) -> Callable[[Data, str], bool]:
    return lambda data, split: any(True for _ in read_jsonl(data[output] / f"{split}.jsonl"))


def has_pairs(data: Data, split: str) -> bool:
    """Those of prepare, or replies that people gave, which reward pairs with its own samples."""
    prompts = read_jsonl(data["prompts"] / f"{split}.jsonl", ("reply",))
    return rows_of("preferences")(data, split) or any(row["reply"] for row in prompts)


DOCUMENTS, PROMPTS = rows_of("text"), rows_of("prompts")
NEEDS: dict[str, list[Need]] = {  # by stage, in their order
    "prepare": [],
    "tokenizer": [Need("text", ("train", "val"), "text", DOCUMENTS)],
    "pretrain": [Need("text", ("val",), "text", DOCUMENTS)],
    "sft": [Need("chats", ("train", "val"), "chats", rows_of("chats"))],
    "reward": [Need("pairs of replies", DATA_SPLITS, "chats or preferences", has_pairs)],
    "align": [Need("prompts", DATA_SPLITS, "chats or prompts", PROMPTS)],
    "evaluate": [
        Need("text", ("test",), "text", DOCUMENTS),
        Need("prompts", ("test",), "chats or prompts", PROMPTS),
    ],
}


def require_data(stage: str, data: Data) -> None:
    """ValueError, in the words in which prepare warned of it, where the stage cannot do its work."""
    if problems := lacks(stage, data):
        raise ValueError(with_target(problems, stage))


def warnings(data: Data) -> list[str]:
    """A sentence for each stage that lacks something."""
    found = {stage: problems for stage in NEEDS if (problems := lacks(stage, data))}
    return [with_target(problems, next(iter(found))) for problems in found.values()]


def lacks(stage: str, data: Data) -> list[str]:
    problems = []
    for need in NEEDS[stage]:
        missing = [split for split in need.splits if not need.is_met(data, split)]
        if missing:
            shares = " and ".join(f"prepare.splits.{split}" for split in missing)
            remedy = f"add a source that yields {need.sources} to prepare.sources"
            if "train" not in missing:
                remedy = f"raise {shares} or {remedy}"
            problems.append(f"{stage} has no {need.kind} for {', '.join(missing)}: {remedy}")
    return problems


def with_target(problems: list[str], stage: str) -> str:
    """`stage`: the first that lacks something."""
    stages = list(NEEDS)
    before = stages[stages.index(stage) - 1]
    return f"{'; '.join(problems)} in params.yaml, or stop before that with `dvc repro {before}`"
