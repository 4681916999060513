"""An open model from its folder: loaded as a whole or refused, and as the start of the pipeline."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.adopted import added_token_ids
from groundup.core.model.added_tokens import add_tokens
from groundup.core.model.check import CAUSAL, read_config
from groundup.core.model.folder import weight_problems
from groundup.core.model.verify import verify_passes


def load_folder(path: Path) -> tuple[PreTrainedModel, list[str]]:
    """A causal language model in fp32, verified, and what is wrong with it, each with what to do.

    Without that, transformers would fill in random numbers for weights that are missing and leave out others. The
    folder's config and files were checked before.
    """
    model: PreTrainedModel
    model, report = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    problems = []
    for kind, what in (
        ("missing_keys", "that config.json describes are missing"),
        ("mismatched_keys", "have another shape than config.json describes"),
        ("unexpected_keys", "are not part of the model that config.json describes"),
    ):
        if names := sorted(str(key if isinstance(key, str) else key[0]) for key in report[kind]):
            problems.append(f"{len(names)} weights {what}, such as {names[0]}: take config and weights of one model")
    not_finite = [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]
    if not_finite and not problems:
        problems.append(f"{len(not_finite)} weights are not finite, such as {not_finite[0]}: take another copy")
    if not problems:
        try:
            verify_passes(model)
        except ValueError as error:
            problems.append(str(error))
    return model, problems


def load_open_model(path: Path, tokenizer: PreTrainedTokenizerFast, context_length: int) -> PreTrainedModel:
    """As load_folder; ValueError names what is wrong.

    tokenizer: the model's own, or that with more tokens, for which embeddings are made. New rows are drawn around the
    mean of the others, from torch's global generator.
    """
    config, problems = read_config(path, CAUSAL)
    problems += weight_problems(path)
    if not (path / "tokenizer.json").is_file():
        problems.append("it has no tokenizer.json")
    if config and not problems and context_length > config.max_position_embeddings:
        raise ValueError(
            f"model.context_length is {context_length}, above the {config.max_position_embeddings} positions of the "
            f"model in {path}: lower it"
        )
    if not problems:
        model, problems = load_folder(path)
    if problems:
        raise ValueError(
            f"the model in {path} cannot be used: {'; '.join(problems)}. Fetch it again or choose another"
        )
    add_tokens(model, len(tokenizer), added_token_ids(tokenizer, path))
    return model
