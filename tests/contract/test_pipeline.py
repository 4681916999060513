"""dvc.yaml tells the truth: deps are the import closure, params are what is read, outs are what is written."""

import ast
import re

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from groundup.frame.params import Params
from groundup.frame.params.section import Section
from groundup.frame.pipeline import producer, read_pipeline
from tests.contract.closure import ROOT, import_closure

PIPELINE = read_pipeline(ROOT)
STAGES = list(PIPELINE)
TEMPLATES = {
    "evaluate": {path.relative_to(ROOT).as_posix() for path in (ROOT / "src/groundup/evaluate").rglob("*.j2")}
}


def calls_of(stage: str, name: str) -> set[str]:
    """Arguments of stage.NAME("...") in a stage script; f-strings over module constants are spelled out."""
    source = (ROOT / f"stages/{stage}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found = set(re.findall(rf'stage\.{name}[(\[]"([^"]+)"', source))
    for before, after, constant in re.findall(
        rf'stage\.{name}\(f"([^"{{]*){{name}}([^"]*)"\) for name in (\w+)', source
    ):
        found |= {f"{before}{value}{after}" for value in constants[constant]}
    return found


def test_the_seven_stages_in_order() -> None:
    assert STAGES == ["prepare", "tokenizer", "pretrain", "sft", "reward", "align", "evaluate"]


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_are_the_import_closure(stage: str) -> None:
    closure = import_closure(ROOT / f"stages/{stage}.py") | TEMPLATES.get(stage, set())
    declared = set(PIPELINE[stage].code)
    assert declared == closure, f"add {sorted(closure - declared)}, remove {sorted(declared - closure)} in dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_the_ones_read(stage: str) -> None:
    assert calls_of(stage, "params") == set(PIPELINE[stage].params)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_inputs_and_outs_are_the_ones_used(stage: str) -> None:
    assert calls_of(stage, "dep") == set(PIPELINE[stage].inputs)
    assert calls_of(stage, "out") == set(PIPELINE[stage].outs)


def test_every_input_has_a_producer_before_its_reader() -> None:
    for stage, spec in PIPELINE.items():
        for path in spec.inputs:
            made_by = producer(PIPELINE, path)
            assert path == "data" or (made_by and STAGES.index(made_by) < STAGES.index(stage)), (stage, path)


def test_the_judge_split_is_read_by_no_training_stage() -> None:
    readers = {stage for stage, spec in PIPELINE.items() if any("judge" in path for path in spec.inputs)}
    assert readers <= {"evaluate"}


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


def test_every_param_is_used() -> None:
    sources = [path for path in (ROOT / "src/groundup").rglob("*.py") if "frame/params" not in path.as_posix()]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    code += (ROOT / "stages/tokenizer.py").read_text(encoding="utf-8")
    discriminators = {"method", "head", "judge", "kind"}  # one value so far, or a type's own tag
    unused = {
        f"{section.__name__}.{name}"
        for section in sections(Params)
        for name in section.model_fields
        if section is not Params and name not in discriminators and not re.search(rf"\.{name}\b", code)
    }
    assert unused == set()
