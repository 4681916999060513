"""What MLflow receives about a run: tags, params, inputs, outputs, parent. mlflow/README.md explains each."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from groundup.runner.base import LOCK, read_lock
from groundup.runner.environment import DVC_BASELINE, DVC_EXPERIMENT, DVC_STAGE
from groundup.runner.figures import UNKNOWN, Figures, numbers, read_record
from groundup.runner.files import dvc_md5, read_object
from groundup.runner.fingerprint import Fingerprint
from groundup.runner.interruption import find_dvc
from groundup.runner.nested import flatten
from groundup.runner.pipeline import StageSpec, ancestry, producer, upstream
from groundup.runner.workdir import EXPORT

LIBRARIES = ("torch", "transformers", "trl", "lightning", "tokenizers", "numpy")  # whose versions are tags
MODEL_TYPES = {  # by the end of transformers' class names
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForSequenceClassification": "reward-model",
}


def start_event(root: Path, pipeline: dict[str, StageSpec], fingerprint: Fingerprint) -> dict[str, Any]:
    """Fields of the spool's start event."""
    spec = pipeline[fingerprint.stage]
    prints = {name: _fingerprint(root, name) for name in upstream(pipeline, spec.name)}
    tags = _tags(root, spec, fingerprint, prints) | _base_tags(root, spec)
    models = [path for path in spec.inputs if model_type(root / path)]
    return {
        "run_name": f"{spec.name}-{fingerprint.value[:8]}",
        "tags": tags,
        "params": {key: str(value)[:6000] for key, value in flatten(fingerprint.params).items()},
        "upstream": prints,
        "parent": _parent(root, pipeline, spec, tags["git.commit"]),
        "models": [[path, name] for path in models if (name := producer(pipeline, path))],
        "datasets": [
            {"path": path, "digest": fingerprint.digests[path], "context": spec.name}
            for path in spec.inputs
            if path not in models and path != LOCK and not path.startswith(("metrics/", "artifacts/reports"))
        ],
    }


def _fingerprint(root: Path, stage: str) -> str:
    """Fingerprint of the stage's current outputs, by which the deliverer finds the run."""
    record = read_record(root, stage)
    return record.fingerprint if record else UNKNOWN


def _parent(root: Path, pipeline: dict[str, StageSpec], spec: StageSpec, commit: str) -> dict[str, Any] | None:
    """Key and name of the parent run, and the current shown figures of the upstream stages."""
    part_of = _part_of(commit)
    if part_of is None:
        return None
    records = {name: read_record(root, name) for name in ancestry(pipeline, spec.name) if name != spec.name}
    present = {name: shown(pipeline[name], record.figures) for name, record in records.items() if record}
    return {**part_of, "present": present}


def _part_of(commit: str) -> dict[str, str] | None:
    """Key and name of the `dvc exp run`, else of the `dvc repro` above this process; None if started by hand."""
    if name := os.environ.get(DVC_EXPERIMENT):
        return {"key": _key(f"{name} of {os.environ.get(DVC_BASELINE, UNKNOWN)}"), "name": name}
    dvc = find_dvc()
    return {"key": _key(f"{dvc.pid} at {dvc.create_time()}"), "name": f"repro-{commit[:8]}"} if dvc else None


def _key(text: str) -> str:
    """A hash, because a name may hold quotes, which MLflow's filters cannot express."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shown(spec: StageSpec, figures: Figures) -> dict[str, float]:
    """The figures for tables of all stages, prefixed with the stage's name."""
    return {f"{spec.name}/{name}": value for name, value in numbers(figures).items() if name in spec.shown}


def _tags(root: Path, spec: StageSpec, fingerprint: Fingerprint, prints: dict[str, str]) -> dict[str, str]:
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "stage": spec.name,
        "fingerprint": fingerprint.value,
        "git.commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": f"stages/{spec.name}.py",
        "mlflow.source.type": "LOCAL",
        "git.dirty": str(bool(_git(root, "status", "--porcelain", "--untracked-files=no"))).lower(),
        "dvc.stage": os.environ.get(DVC_STAGE, "none"),
        "dvc.experiment": os.environ.get(DVC_EXPERIMENT, "none"),
        "device": fingerprint.device,
        **{f"input.{path}": fingerprint.digests[path] for path in spec.inputs},
        **{f"upstream_fingerprint.{name}": value for name, value in prints.items()},
        **{f"version.{library}": fingerprint.versions[library] for library in LIBRARIES},
    }


def _base_tags(root: Path, spec: StageSpec) -> dict[str, str]:
    """Name, source, revision and licence of the open model that the stage starts from, if there is one."""
    base = read_lock(root) if LOCK in spec.inputs else None
    if base is None:
        return {}
    return {
        "base": base.name,
        "base.source": base.source,
        "base.revision": base.revision,
        "base.licence": base.licence,
    }


def _git(root: Path, *arguments: str) -> str:
    """Output of git; 'unknown' outside a repository or without git."""
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def model_type(path: Path) -> str | None:
    """causal-lm, reward-model or tokenizer for a from_pretrained directory; None for anything else."""
    if (path / "config.json").exists():
        architectures = read_object(path / "config.json").get("architectures") or ["unknown"]
        return next((kind for end, kind in MODEL_TYPES.items() if architectures[0].endswith(end)), "model")
    return "tokenizer" if (path / "tokenizer_config.json").exists() else None


def describe_outs(export: Path, outs: tuple[str, ...]) -> list[dict[str, Any]]:
    """One entry for each out that is a model or a tokenizer."""
    return [entry for out in outs if (entry := describe_model(export / out, out))]


def describe_model(folder: Path, path: str) -> dict[str, Any] | None:
    """What MLflow receives about the model or tokenizer in `folder`, known as `path`; None for anything else."""
    kind = model_type(folder)
    if kind is None:
        return None
    config = read_object(folder / "config.json") if kind != "tokenizer" else {}
    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")
    return {
        "path": path,
        "md5": dvc_md5(folder),
        "model_type": kind,
        "params": {key: str(config[key]) for key in shape if key in config},
    }


def report_files(work: Path, outs: tuple[str, ...]) -> list[tuple[str, str]]:
    """(file of a report relative to `work`, its folder among the run's artifacts)"""
    files = []
    for out in outs:
        if out.startswith("artifacts/reports/"):
            report = work / EXPORT / out
            for file in sorted(file for file in report.rglob("*") if file.is_file()):
                folder = file.parent.relative_to(report).as_posix().removeprefix(".")
                files.append((file.relative_to(work).as_posix(), folder))
    return files
