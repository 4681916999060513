"""Everything the frame takes from the environment: each variable is named here and nowhere else."""

import os
from pathlib import Path

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
}
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
TRACKING_URI = "MLFLOW_TRACKING_URI"
DEVICE = "GROUNDUP_DEVICE"
DVC_STAGE, DVC_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # every stage but prepare


def set_environment(offline: bool) -> None:
    """Telemetry off, libraries quiet; what the user has set stays."""
    for name, value in (TELEMETRY_OFF | QUIET | (OFFLINE if offline else {})).items():
        os.environ.setdefault(name, value)


def main_root(root: Path) -> Path:
    """The user's checkout, also from inside the copy that `dvc exp run --temp` makes below it and then deletes."""
    parts = root.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root


def tracking_store(root: Path) -> tuple[str, str | None]:
    """(tracking URI, artifact location or None where the server decides)."""
    if uri := os.environ.get(TRACKING_URI):
        return uri, None
    folder = main_root(root) / "mlflow"
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def resolve_device() -> str:
    """GROUNDUP_DEVICE: auto (the default), cpu, cuda or mps."""
    wanted = os.environ.get(DEVICE, "auto")
    if wanted not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"{DEVICE}={wanted}: use auto, cpu, cuda or mps")
    if wanted == "cpu":
        return wanted
    import torch  # 2 s, so only where a device is looked for

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted != "auto" and not present[wanted]:
        raise ValueError(f"{DEVICE}={wanted}, but torch finds no such device here: use cpu or auto")
    return wanted if wanted != "auto" else next(name for name, found in present.items() if found)
