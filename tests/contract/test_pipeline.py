"""dvc.yaml is correct: deps are the imports, params are what is read, outs are what is written."""

import ast
import re
from collections.abc import Iterable
from typing import get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from groundup.prepare.outputs.outputs import OUTPUTS
from groundup.runner.base import LOCK
from groundup.runner.files import IGNORED
from groundup.runner.params import Params
from groundup.runner.params.align import AlignParams, Method
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.prepare import Source
from groundup.runner.params.rewards import PenaltyTerm, ScoreTerm
from groundup.runner.params.section import Section
from groundup.runner.pipeline import producer, read_pipeline
from tests.contract.imports import ROOT, folder_of, reached_files

PIPELINE = read_pipeline(ROOT)
STAGES = list(PIPELINE)
# Objects that code receives without their section's name: their name -> the sections they may be.
SOURCES = get_args(get_args(Source)[0])
STANDS_FOR = {
    "Source": SOURCES,
    "Reader": SOURCES,  # has one
    "SourceSection": SOURCES,
    "RowsSource": SOURCES,
    "RewardTerm": (ScoreTerm, PenaltyTerm),
    "Measure": (EvaluateParams,),  # has them in its context
    "Context": (AlignParams, *{AlignParams.model_fields[method].annotation for method in get_args(Method)}),
}


def script(stage: str) -> str:
    return (ROOT / f"stages/{stage}.py").read_text(encoding="utf-8")


def calls_of(stage: str, name: str) -> set[str]:
    """Arguments of stage.NAME("...") in a script; f-strings over module constants or OUTPUTS are expanded."""
    source = script(stage)
    tree = ast.parse(source)
    constants: dict[str, Iterable[str]] = {"OUTPUTS": OUTPUTS} | {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found = set(re.findall(rf'stage\.{name}[(\[]"([^"]+)"', source))
    for before, after, constant in re.findall(
        rf'stage\.{name}\(f"([^"{{]*){{name}}([^"]*)"\) for name in (\w+)', source
    ):
        found |= {f"{before}{value}{after}" for value in constants[constant]}
    if "stage.base()" in source:
        found |= {"dep": {LOCK}, "params": {"model.base"}}.get(name, set())
    if "stage.locked_base()" in source:
        found |= {"dep": {LOCK}}.get(name, set())
    return found


def test_the_seven_stages_in_order() -> None:
    assert STAGES == ["prepare", "tokenizer", "pretrain", "sft", "reward", "align", "evaluate"]


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_are_the_script_and_the_folders_that_imports_reach(stage: str) -> None:
    path = ROOT / f"stages/{stage}.py"
    folders = {folder_of(file) for file in reached_files(path)} - {"runner", "__init__.py"}
    reached = {f"stages/{stage}.py", *(f"src/groundup/{folder}" for folder in folders)}
    declared = set(PIPELINE[stage].code)
    assert declared == reached, f"add {sorted(reached - declared)}, remove {sorted(declared - reached)} in dvc.yaml"


def test_code_deps_are_few() -> None:
    assert sum(len(spec.code) for spec in PIPELINE.values()) <= 45


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_the_ones_read(stage: str) -> None:
    read = calls_of(stage, "params")
    sections = {key for key in read if not any(key.startswith(f"{other}.") for other in read)}
    assert sections == set(PIPELINE[stage].params)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_inputs_and_outs_are_the_ones_used(stage: str) -> None:
    assert calls_of(stage, "dep") == set(PIPELINE[stage].inputs)
    assert calls_of(stage, "out") == set(PIPELINE[stage].outs)


def test_every_input_has_a_producer_before_its_reader() -> None:
    for stage, spec in PIPELINE.items():
        for path in spec.inputs:
            made_by = producer(PIPELINE, path)
            assert path in ("data", LOCK) or (made_by and STAGES.index(made_by) < STAGES.index(stage)), (stage, path)


def test_the_judge_split_is_read_by_no_training_stage() -> None:
    readers = {stage for stage, spec in PIPELINE.items() if any("judge" in path for path in spec.inputs)}
    assert readers == {"evaluate"}
    assert producer(PIPELINE, "artifacts/data/judge") == "prepare"
    for stage in set(STAGES) - {"prepare", "evaluate"}:
        for path in (ROOT / f"src/groundup/{stage}").rglob("*.py"):
            assert "data/judge" not in path.read_text(encoding="utf-8"), path


def test_commands_hold_nothing_but_the_stage() -> None:
    """The command string is part of DVC's hash: devices and launchers come from the environment."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {name: stage["cmd"] for name, stage in stages.items()} == {
        name: f"python -m stages.{name}" for name in STAGES
    }


def test_metrics_and_curves_go_to_git() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        for entry in [*stage["metrics"], *stage.get("plots", [])]:
            ((path, options),) = entry.items()
            assert path.startswith(f"metrics/{name}.")
            assert options["cache"] is False


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for field in model.model_fields.values():
        found += [c for c in _classes(field.annotation) if c not in found]
    return found


def _classes(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return sections(annotation)
    return [c for argument in getattr(annotation, "__args__", ()) for c in _classes(argument)]


def test_no_param_has_a_default() -> None:
    for section in sections(Params):
        assert issubclass(section, Section)
        for name, field in section.model_fields.items():
            assert field.is_required(), f"{section.__name__}.{name} has a default: a parameter that DVC cannot see"


RECEIVERS = {
    "params",
    "model_params",
    "p",
    "runtime",
    "source",
    "method",
    "gate",
    "term",
}  # the code's name for a section at hand


def params_read(code: str, known: list[type[BaseModel]]) -> set[str]:
    """`Section.name` for every params.name in the code.

    A section that goes by its own name (params.clean.max_characters, lora.rank) is known by it; behind one of
    RECEIVERS may stand any section that the file names, which its annotations do.
    """
    tree = ast.parse(code)
    identifiers = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    implied = {section for name, behind in STANDS_FOR.items() if name in identifiers for section in behind}
    at_hand = [s for s in known if s.__name__ in identifiers or s in implied]
    by_name: dict[str, list[type[BaseModel]]] = {}
    for section in known:
        for name, field in section.model_fields.items():
            by_name.setdefault(name, []).extend(_classes(field.annotation))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            receiver = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            owners = [*by_name.get(receiver, []), *(at_hand if receiver in RECEIVERS else [])]
            found |= {f"{owner.__name__}.{node.attr}" for owner in owners if node.attr in owner.model_fields}
    return found


def test_every_param_is_used() -> None:
    known = [section for section in sections(Params) if section is not Params]
    files = [path for path in (ROOT / "src/groundup").rglob("*.py") if "runner" not in path.relative_to(ROOT).parts]
    read = set().union(*(params_read(path.read_text(encoding="utf-8"), known) for path in files))
    read |= {"TokenizerParams.shard_tokens"} & {
        f"TokenizerParams.{name}" for name in re.findall(r"params\.(\w+)", script("tokenizer"))
    }
    unused = {f"{section.__name__}.{name}" for section in known for name in section.model_fields} - read
    # The runner reads it: StageContext.base(); the tokenizer stage reads the other.
    assert unused == {"ModelParams.base", "ModelParams.chat_template"}


class MadeUpInner(Section):
    depth: int
    width: int


class MadeUpParams(Section):
    rate: float
    inner: MadeUpInner
    seed: int


def test_an_unused_param_is_found() -> None:
    known = [MadeUpParams, MadeUpInner]
    code = """
def f(params: MadeUpParams, image, other: Section):
    return params.rate, params.inner.depth, image.width, other.seed
"""
    used = {"MadeUpParams.rate", "MadeUpParams.inner", "MadeUpInner.depth"}
    assert params_read(code, known) == used  # image.width and other.seed are not the params
    assert params_read(code.replace(": MadeUpParams", ""), known) == {"MadeUpInner.depth"}
    assert params_read("class A:\n    p: MadeUpParams\n    def f(self): return self.params.seed", known) == {
        "MadeUpParams.seed"
    }


def test_dvc_and_the_fingerprint_ignore_the_same_files() -> None:
    lines = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith(("#", "/", "!/"))]
    assert patterns == list(IGNORED)
