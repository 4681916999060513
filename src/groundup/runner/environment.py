"""Everything the runner takes from the environment: each variable is named here and nowhere else."""

import os
import re
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
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # a process whose peer ends says so with a C++ stack, and the stage in a sentence
}
TRACKING_URI = "MLFLOW_TRACKING_URI"
TRACKING_USERNAME, TRACKING_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
TRACKING_TOKEN = "MLFLOW_TRACKING_TOKEN"
# Authentication and TLS options that only MLflow itself can apply.
TRACKING_BY_PLUGIN = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
)
# MLflow's own retries sleep for minutes and repeat a create_run that the server may have carried out.
DELIVERY = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "HF_HUB_OFFLINE": "1",  # otherwise MLflow looks up the licence of a registered model on the hub
}
API_KEY = "GROUNDUP_API_KEY"  # of `groundup serve`
SECRETS = (
    "OPENAI_API_KEY",
    TRACKING_PASSWORD,
    TRACKING_TOKEN,
    API_KEY,
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "DATABRICKS_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
JUDGE_URL, JUDGE_KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"
LAUNCH_PREFIX = "GROUNDUP_"  # of the variables that come before launch.yaml: GROUNDUP_DEVICE and so on
DEVICES = ("cpu", "cuda", "mps")
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"  # CUDA reads it when it starts
# Of the processes of a stage's body: the work dir that they fill, how long one waits for the others, in seconds, how
# they share the model, and what samples replies.
WORK_DIR, TIMEOUT, STRATEGY = "GROUNDUP_WORK_DIR", "GROUNDUP_TIMEOUT", "GROUNDUP_STRATEGY"
ROLLOUTS = "GROUNDUP_ROLLOUTS"  # URLs of servers
NODES_STORE = "GROUNDUP_NODES_STORE"  # where the nodes of `groundup nodes` meet
RANK, LOCAL_RANK, LOCAL_WORLD_SIZE = "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"  # by torchrun
TORCHRUN_LOGS = "LOGLEVEL"
NO_COMPILATION = "TORCH_COMPILE_DISABLE"  # torch reads it before it first compiles
DETERMINISM = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8"
}  # cuBLAS needs it, and stages ask torch for the rest where it is set
OMP_THREADS = "OMP_NUM_THREADS"
HUB_OFFLINE = "HF_HUB_OFFLINE"
OF_RANKS = (
    WORK_DIR,
    TIMEOUT,
    STRATEGY,
    ROLLOUTS,
    TORCHRUN_LOGS,
    NO_COMPILATION,
    *DETERMINISM,
    OMP_THREADS,
    HUB_OFFLINE,
)
DVC_STAGE, DVC_EXPERIMENT, DVC_BASELINE = "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"
BACKEND_STORE_URI = "MLFLOW_BACKEND_STORE_URI"  # of `mlflow server`
NO_CHECKOUT = "no groundup checkout here: change into the folder that holds dvc.yaml"
SHOW_DOWNLOADS = {"HF_HUB_DISABLE_PROGRESS_BARS": "0"}  # of `groundup fetch`
OFFLINE = {HUB_OFFLINE: "1"}  # every stage but prepare


def set_environment(offline: bool) -> None:
    """Turn telemetry off and library output down; variables that the user has set stay."""
    set_defaults(TELEMETRY_OFF | QUIET | (OFFLINE if offline else {}))


def set_defaults(values: dict[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)


def find_checkout() -> Path | None:
    """The checkout that holds the current folder; None outside one."""
    folders = (Path.cwd(), *Path.cwd().parents)
    return next((f for f in folders if (f / "dvc.yaml").is_file() and (f / "stages").is_dir()), None)


def main_root(root: Path) -> Path:
    """The user's checkout, also from inside the copy that `dvc exp run --temp` makes below it and then deletes."""
    parts = root.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root


def tracking_store(root: Path) -> tuple[str, str | None]:
    """(tracking URI, artifact location or None where the server decides)."""
    folder = main_root(root) / "mlflow"
    uri = os.environ.get(TRACKING_URI)
    if not uri:
        return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
    if relative := re.fullmatch(r"sqlite:///([^/:].*)", uri):  # one store, whatever the current folder is
        return f"sqlite:///{main_root(root) / relative[1]}", None
    return uri, None


def judge_access() -> tuple[str | None, str | None]:
    """(URL, key) of the judge of evaluate.openai, where they are set."""
    return os.environ.get(JUDGE_URL) or None, os.environ.get(JUDGE_KEY) or None
