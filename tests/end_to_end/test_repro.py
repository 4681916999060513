"""The real `dvc repro` on the smoke preset, in copies of the working tree."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from groundup.app.compare.experiments import read_experiments
from groundup.runner.clock import present_runs
from groundup.runner.figures import INTERVAL, read_record, reproducible
from groundup.runner.files import file_digests
from groundup.runner.lineage import StoredRuns, present_lineage
from groundup.runner.params import load_params
from groundup.runner.pipeline import StageSpec, lies_in, read_pipeline
from tests.conftest import copy_working_tree
from tests.contract.metrics_page import metric_names, unnamed, unreported
from tests.determinism.test_surroundings import ELSEWHERE, has_locale
from tests.security.pickles import pickles_below
from tests.smoke_run import STAGES, SmokeRun, audit, dvc, environment

WIDTH = 160  # of a screen, in characters
MAY_BE_MISSING = {"val_relevance_accuracy", "val_sampled_accuracy"}  # where a split has no such pairs


@pytest.fixture(scope="module")
def first(smoke_run: SmokeRun) -> Path:
    """A copy in which the pipeline has run once, with its file accesses logged in audit.tsv."""
    smoke_run.restore(smoke_run.after)
    return smoke_run.root


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, first: Path) -> Path:
    """Another copy with its own DVC cache, in surroundings that differ in everything that can differ."""
    root = copy_working_tree(tmp_path_factory.mktemp("second") / "another folder" / "copy")
    umask = os.umask(0o077)
    try:
        dvc(root, "repro", **ELSEWHERE, LC_ALL="tr_TR.UTF-8" if has_locale("tr_TR.UTF-8") else "C")
    finally:
        os.umask(umask)
    return root


def figures(root: Path, stage: str) -> dict:
    """All figures of the stage, without times and memory."""
    report = read_pipeline(root)[stage].report
    return json.loads((root / f"{report}/metrics.json").read_text(encoding="utf-8"))


def outs_in_lock(root: Path) -> dict[str, dict[str, object]]:
    lock = YAML(typ="safe").load((root / "dvc.lock").read_text(encoding="utf-8"))
    return {
        out["path"]: {key: value for key, value in out.items() if key != "path"}  # md5, size, number, executable bit
        for stage in lock["stages"].values()
        for out in stage["outs"]
    }


def test_every_stage_reports_its_run(first: Path) -> None:
    runs = present_runs(first)
    assert list(runs) == list(STAGES)
    for run in runs.values():
        assert {"stage_seconds", "peak_memory_mb"} <= run.keys()
        assert run["mlflow_run_id"]
    evaluated = figures(first, "evaluate")
    assert evaluated["base"].keys() == evaluated["sft"].keys() == evaluated["aligned"].keys()


def test_every_metric_is_on_the_page_and_every_name_on_the_page_is_measured(first: Path) -> None:
    for stage in STAGES:
        curve = first / f"metrics/{stage}.csv"
        columns = curve.read_text(encoding="utf-8").splitlines()[0].split(",") if curve.exists() else []
        clock = {key: value for key, value in present_runs(first)[stage].items() if "." not in key}
        names = metric_names(figures(first, stage) | clock, columns) | {"fingerprint"}
        assert (stage, unnamed(stage, names)) == (stage, set())
        assert (stage, unreported(stage, names)) == (stage, set())


EMPTY_PACKAGES = ("stages/__init__.py", "src/groundup/__init__.py", "src/groundup/core/__init__.py")  # no stage's code
RUNNER_READS = (
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "pyproject.toml",
    ".git",
    ".work",
    "mlflow",
    "src/groundup/runner",
    *EMPTY_PACKAGES,
)
RUNNER_WRITES = (".work", "mlflow")


def accesses(log: Path) -> set[tuple[str, str, str]]:
    """(stage, mode, path relative to the copy) of accesses by stages and the processes that they started."""
    lines = log.read_text(encoding="utf-8").splitlines()
    split = (line.split("\t") for line in lines)
    return {
        (stage, mode, path)
        for _time, _pid, _role, stage, _event, mode, path in split
        if stage and "__pycache__" not in path
    }


def is_declared(spec: StageSpec, mode: str, name: str) -> bool:
    """Whether the stage or the runner may do this; parent folders of allowed paths may be listed and made."""
    own = (*spec.outs, *spec.metrics, *spec.plots)
    beside = [f"{Path(out).parent.as_posix()}/.{Path(out).name}" for out in own]  # where the runner writes first
    writes = (*own, *RUNNER_WRITES)
    reads = (*spec.deps, *RUNNER_READS, *writes)
    if any(lies_in(name, path) for path in writes) or name.startswith(tuple(beside)):
        return True
    if mode == "make":
        return any(lies_in(path, name) for path in writes)
    if mode == "write":
        return False
    upstream_record = name.startswith("metrics/") and name.endswith(".json")
    around = any(lies_in(path, name) for path in reads)  # so it is a folder, opened to list it or to fsync it
    return around or upstream_record or any(lies_in(name, path) for path in reads)


def test_a_stage_touches_only_what_it_declares(smoke_run: SmokeRun) -> None:
    pipeline = read_pipeline(smoke_run.after)
    seen = accesses(smoke_run.log)
    assert {entry for entry in seen if not is_declared(pipeline[entry[0]], *entry[1:])} == set()
    for stage, spec in pipeline.items():
        touched = {mode: {name for s, m, name in seen if (s, m) == (stage, mode)} for mode in ("read", "write")}
        for mode, declared in (
            ("read", spec.code),
            ("read", tuple(path for path in spec.inputs if path != "data")),  # an empty folder here
            ("write", spec.outs),
            ("write", spec.metrics),
            ("write", spec.plots),
        ):
            found = any(lies_in(name, path) for name in touched[mode] for path in declared)
            assert found or not declared, f"{stage} was not seen to {mode} any of {declared}"


@pytest.mark.parametrize(
    ("mode", "name", "declared"),
    [
        ("read", "artifacts/in/a.jsonl", True),
        ("read", "artifacts/other/a.jsonl", False),
        ("read", "artifacts", True),
        ("read", "metrics/two.json", True),
        ("read", "metrics/two.csv", False),
        ("list", "src/groundup/prepare", True),
        ("list", "artifacts/other", False),
        ("write", "artifacts/out/model", True),
        ("write", "artifacts/.out.publishing", True),
        ("write", "artifacts/in/a.jsonl", False),
        ("write", "artifacts", False),
        ("write", "params.yaml", False),
        ("make", "artifacts", True),
        ("make", "lightning_logs", False),
        ("write", "metrics/.one.json.writing", True),
    ],
)
def test_what_counts_as_declared(mode: str, name: str, declared: bool) -> None:
    spec = StageSpec(
        name="one",
        deps=("artifacts/in", "src/groundup/prepare/a.py"),
        params=(),
        outs=("artifacts/out",),
        metrics=("metrics/one.json",),
        plots=(),
    )
    assert is_declared(spec, mode, name) == declared


def test_the_audit_notes_every_way_of_touching_files(tmp_path: Path) -> None:
    code = """
import os, shutil, pathlib
os.mkdir("made"); pathlib.Path("made/deep").mkdir(); open("made/deep/new", "w").close(); open("made/deep/new").close()
os.replace("made/deep/new", "made/moved"); os.listdir("made"); list(os.scandir("made")); os.remove("made/moved")
shutil.copytree("made", "copied"); shutil.rmtree("copied"); shutil.rmtree(pathlib.Path("made"))
"""
    log = tmp_path / "audit.tsv"
    extra = audit(log) | {"DVC_STAGE": "dvc.yaml:one"}
    work = tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=work, env=environment(**extra), check=True, timeout=60)
    made = {"made", "made/deep", "copied", "copied/deep"}
    changed = {"made/deep/new", "made/moved", "made", "copied"}
    assert accesses(log) - {("one", "read", "made"), ("one", "read", "copied")} == (  # rmtree opens what it deletes
        {("one", "make", name) for name in made}
        | {("one", "write", name) for name in changed}
        | {("one", "read", "made/deep/new"), ("one", "list", "made"), ("one", "list", "made/deep")}
    )


def test_a_second_repro_runs_nothing(first: Path) -> None:
    start = time.monotonic()
    output = dvc(first, "repro")
    assert output.count("didn't change, skipping") == len(STAGES)
    assert time.monotonic() - start < 30  # 2 s is the aim; this only detects real work


def tracked(root: Path) -> dict[str, bytes]:
    """What a run writes and git keeps."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in [root / "dvc.lock", *(root / "metrics").iterdir()]
    }


@pytest.mark.services  # all stages a second time
def test_two_clones_give_the_same_bytes(first: Path, second: Path) -> None:
    """A clock, a run id or an amount of memory in a file that git keeps would show."""
    assert outs_in_lock(first) == outs_in_lock(second)
    assert tracked(first) == tracked(second)


@pytest.mark.services
def test_what_two_experiments_need_is_trained_once(smoke_run: SmokeRun) -> None:
    """Both have the same new pretrain, in one run of MLflow: the other one waits, or comes when DVC has it."""
    root = smoke_run.root
    smoke_run.restore(smoke_run.after)
    client = MlflowClient(f"sqlite:///{root}/mlflow/mlflow.db")
    (experiment,) = [it for it in client.search_experiments() if it.name == "groundup"]
    before = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    names = ("first", "second")
    for seed, name in enumerate(names):
        dvc(root, "exp", "run", "--queue", "--name", name, "-S", "pretrain.seed=5", "-S", f"sft.seed={seed}", "sft")
    dvc(root, "exp", "run", "--run-all", "--jobs", "2")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_id not in before]
    assert {run.info.status for run in runs} == {"FINISHED"}
    stages = sorted(run.data.tags.get("stage", "parent") for run in runs)
    assert stages == ["parent", "parent", "pretrain", "sft", "sft"]
    (pretrain,) = (run for run in runs if run.data.tags.get("stage") == "pretrain")
    steps = [point.step for point in client.get_metric_history(pretrain.info.run_id, "loss")]
    assert steps == sorted(set(steps))
    parents = {run.info.run_id for run in runs if "stage" not in run.data.tags}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if run.data.tags.get("stage") == "sft"} == parents
    compared = read_experiments(root, names)
    assert [it.name for it in compared.finished] == list(names)
    assert compared.changed == ["sft.seed"]
    assert "sft/val_loss" in compared.figures
    assert all(name.startswith("sft/") for name in compared.figures)
    smoke_run.restore(smoke_run.after)


def test_headline_figures_are_few_and_the_shown_ones_are_among_them(first: Path) -> None:
    for stage, spec in read_pipeline(first).items():
        headlines = read_record(first, stage).figures
        assert set(spec.shown) <= headlines.keys(), stage
        assert spec.shown, stage
        counted = [name for name in headlines if not name.endswith(INTERVAL)]
        assert 1 <= len(counted) <= 8, (stage, counted)
        declared = importlib.import_module(f"stages.{stage}").HEADLINES
        assert counted == [name for name in declared if name in headlines]
        assert set(declared) - headlines.keys() <= MAY_BE_MISSING, stage
        assert reproducible(headlines) == headlines


def test_the_tables_of_dvc_fit_on_a_screen(first: Path) -> None:
    output = dvc(first, "metrics", "diff", "--all")
    figures = [name for stage in STAGES for name in read_record(first, stage).figures]
    assert output.count("metrics/") == len(figures)
    assert max(len(line) for line in output.splitlines()) <= WIDTH
    assert "fingerprint" not in output


def test_nothing_published_is_a_pickle(first: Path) -> None:
    assert pickles_below(first / "artifacts") == []
    assert pickles_below(first / "metrics") == []
    assert pickles_below(first / "mlflow") == []
    assert {path.parent.name for path in (first / "artifacts").rglob("model.safetensors")} >= {"base", "sft", "reward"}


def test_no_path_of_this_machine_is_published(first: Path) -> None:
    for path in [*(first / "artifacts").rglob("*"), *(first / "metrics").rglob("*")]:
        if path.is_file():
            assert str(first).encode() not in path.read_bytes(), path


def test_the_lineage_leads_from_the_report_back_to_the_data(first: Path) -> None:
    client = MlflowClient(f"sqlite:///{first}/mlflow/mlflow.db")
    runs = {stage: run["mlflow_run_id"] for stage, run in present_runs(first).items()}
    run = client.get_run(runs["evaluate"])
    seen = set()
    queue = [run]
    while queue:
        run = queue.pop()
        seen.add(run.data.tags["stage"])
        queue += [client.get_run(value) for key, value in run.data.tags.items() if key.startswith("upstream.")]
    assert seen == set(STAGES)
    aligned = client.get_run(runs["align"])
    sft = client.get_run(runs["sft"])
    assert sft.data.tags["model.artifacts/sft"] in {model.model_id for model in aligned.inputs.model_inputs}
    assert [model.model_id for model in aligned.outputs.model_outputs] == [
        aligned.data.tags["model.artifacts/aligned"]
    ]
    prepare = client.get_run(runs["prepare"])
    assert [entry.dataset.name for entry in prepare.inputs.dataset_inputs] == ["data"]
    assert {"report.md", "report.json"} <= {file.path for file in client.list_artifacts(prepare.info.run_id)}
    curve = client.get_metric_history(runs["pretrain"], "loss")
    steps = [point.step for point in curve]
    assert steps == sorted(set(steps))
    assert len(steps) >= 3


def test_a_changed_value_runs_only_what_depends_on_it(first: Path) -> None:
    """Runs last in this file's order: it changes `first`."""
    before = {stage: run["mlflow_run_id"] for stage, run in present_runs(first).items()}
    text = (first / "params.yaml").read_text(encoding="utf-8")
    changed_text = re.sub(r"(?m)^(    kl_coefficient:) 0\.1\b", r"\1 0.06", text)
    (first / "params.yaml").write_text(changed_text, encoding="utf-8")
    assert load_params(first / "params.yaml").align.ppo.kl_coefficient == 0.06
    dvc(first, "repro")
    runs = {stage: run["mlflow_run_id"] for stage, run in present_runs(first).items()}
    changed = [stage for stage in STAGES if runs[stage] != before[stage]]
    assert changed == ["align", "evaluate"]
    nodes = present_lineage(first, StoredRuns(f"sqlite:///{first}/mlflow/mlflow.db"))
    assert nodes["align"].parents["sft"].run_id == before["sft"]
    client = MlflowClient(f"sqlite:///{first}/mlflow/mlflow.db")
    parents = {client.get_run(runs[stage]).data.tags["mlflow.parentRunId"] for stage in ("align", "evaluate")}
    (repro,) = [client.get_run(parent) for parent in parents]
    assert repro.info.status == "FINISHED"
    stages = {key: value for key, value in repro.data.tags.items() if key.startswith("stage.")}
    assert stages == {f"stage.{stage}": "FINISHED" if stage in changed else "reused" for stage in STAGES}
    shown = {f"{stage}/{name}" for stage, spec in read_pipeline(first).items() for name in spec.shown}
    assert repro.data.metrics.keys() == shown
    assert all(not node.stale_parents(nodes) for node in nodes.values())


def test_an_experiment_in_a_temporary_copy_runs_its_own_code(first: Path) -> None:
    marker = "from groundup.runner.stage import run_stage"
    script = first / "stages/tokenizer.py"
    script.write_text(
        script.read_text().replace(marker, marker + "\n\nimport groundup\n\nprint('ORIGIN', groundup.__file__)")
    )
    output = dvc(first, "exp", "run", "--temp", "-S", "tokenizer.scratch.min_frequency=3", "tokenizer")
    origin = next(line for line in output.splitlines() if "ORIGIN" in line)
    assert ".dvc/tmp/exps/" in origin


def test_a_body_in_another_process_makes_the_same_bytes(first: Path) -> None:
    script = (
        "import functools, stages\nfrom groundup.runner.stage import run_stage\n"
        "from tests.elsewhere import in_another_process\n"
        "run_stage('sft', functools.partial(in_another_process, module='stages.sft'))"
    )
    before = file_digests(first / "artifacts"), (first / "metrics/sft.csv").read_bytes()
    shutil.rmtree(first / "artifacts/sft")
    subprocess.run([sys.executable, "-c", script], cwd=first, env=environment(), check=True)
    assert (file_digests(first / "artifacts"), (first / "metrics/sft.csv").read_bytes()) == before
