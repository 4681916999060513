"""An open model as the start of the pipeline: loaded as a whole, with the published tokenizer's tokens."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.adopted import added_token_ids
from groundup.core.model.added_tokens import add_tokens
from groundup.core.model.check import CAUSAL, read_config
from groundup.core.model.verify import verify_passes


def load_open_model(path: Path, tokenizer: PreTrainedTokenizerFast, context_length: int) -> PreTrainedModel:
    """In fp32, verified; ValueError names what is wrong.

    tokenizer: the model's own, or that with more tokens, for which embeddings are made. New rows are drawn around the
    mean of the others, from torch's global generator.
    """
    _check(path, context_length)
    model: PreTrainedModel
    model, loaded = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below
    )
    lacking = sorted(loaded["missing_keys"]) + sorted(str(key[0]) for key in loaded["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"the model in {path} cannot be used: {len(lacking)} weights that config.json describes are missing or "
            f"have another shape, such as {lacking[0]}. Fetch it again"
        )
    if broken := [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]:
        raise ValueError(
            f"the model in {path} cannot be used: {len(broken)} weights are not finite, such as {broken[0]}. Fetch it "
            "again"
        )
    verify_passes(model)
    add_tokens(model, len(tokenizer), added_token_ids(tokenizer, path))
    return model


def _check(path: Path, context_length: int) -> None:
    config, problems = read_config(path, CAUSAL)
    problems += [f"it has no {name}" for name in ("tokenizer.json",) if not (path / name).is_file()]
    if not list(path.glob("*.safetensors")):
        problems.append("it has no weights (*.safetensors)")
    if problems or config is None:
        raise ValueError(
            f"the model in {path} cannot be used: {'; '.join(problems)}. Fetch it again or choose another"
        )
    positions = config.max_position_embeddings
    if context_length > positions:
        raise ValueError(
            f"model.context_length is {context_length}, above the {positions} positions of the model in {path}: lower "
            "it"
        )
