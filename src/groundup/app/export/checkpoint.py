"""A checkpoint of pretrain, from its work dir, as a model to export."""

from pathlib import Path

from groundup.pretrain.checkpoint import save_checkpoint_as_model
from groundup.runner.base import LOCK, checked_base, read_lock
from groundup.runner.checkpoints import fault_of
from groundup.runner.files import digest_path, read_object
from groundup.runner.params.training import ModelParams, PretrainParams
from groundup.runner.workdir import PARTS

STAGE, TOKENIZER = "pretrain", "artifacts/tokenizer"


def write_model_of_checkpoint(root: Path, checkpoint: Path, out: Path) -> None:
    """Write the model of a folder .work/pretrain/FINGERPRINT/scratch/checkpoints/checkpoint-N to `out`."""
    folder = checkpoint.resolve()
    parts = folder.parent.parent.parent / PARTS
    if not parts.is_file():
        raise ValueError(
            f"{checkpoint} is not a checkpoint of a stage: name a folder "
            f".work/{STAGE}/FINGERPRINT/scratch/checkpoints/checkpoint-N"
        )
    made_of = read_object(parts)
    if made_of["stage"] != STAGE:
        raise ValueError(f"{checkpoint} is of {made_of['stage']}: only those of {STAGE} can be exported")
    if fault := fault_of(folder):
        raise ValueError(f"{checkpoint} cannot be used: {fault}")
    for dep in (TOKENIZER, LOCK):
        if digest_path(root / dep) != made_of["digests"][dep]:
            raise ValueError(f"{dep} is not the one that {checkpoint} was trained with: bring that one back first")
    params = made_of["params"]
    base = checked_base(root, params["model"]["base"])
    save_checkpoint_as_model(
        folder,
        root / TOKENIZER,
        out,
        ModelParams.model_validate(params["model"]),
        PretrainParams.model_validate(params[STAGE]),
        base,
        read_lock(root),
    )
