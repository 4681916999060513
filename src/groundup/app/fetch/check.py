"""All that would make a stage train something else than meant, of a model that was fetched."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from groundup.app.fetch.files import unsafe_files
from groundup.core.formats.adopted import GROUNDUP, check_chat_format
from groundup.core.model.folder import ReadFolder, read_folder
from groundup.core.model.verify import verify_passes
from groundup.runner.base import Base, differing_files


def check_folder(folder: Path, base: Base | None) -> ReadFolder:
    """What is in a model folder; ValueError names everything that is wrong with it.

    base: what `groundup fetch` noted of it; None before that.
    """
    read = read_folder(folder)
    problems = unsafe_files(folder) + read.problems
    if read.tokenizer:
        problems += chat_problems(folder)
    if not problems:
        problems = loading_problems(folder)
    if base:
        remedy = f"remove {folder} and run `{base.fetched_by}`"
        problems += [f"{what} since it was fetched: {remedy}" for what in differing_files(folder, base)]
    if problems or read.config is None or read.tokenizer is None:
        raise ValueError(f"the model in {folder} cannot be used:\n" + "\n".join(f"  {line}" for line in problems))
    return read


def chat_problems(folder: Path) -> list[str]:
    """None if groundup's template can take the place of one that does not fit; the tokenizer stage asks for it."""
    problems = check_chat_format(folder)
    return problems if problems and check_chat_format(folder, GROUNDUP) else []


def loading_problems(folder: Path) -> list[str]:
    """Of the weights against the config, which transformers would fill in with random numbers or leave out."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    problems = []
    for kind, what in (
        ("missing_keys", "that config.json describes are missing"),
        ("mismatched_keys", "have another shape than config.json describes"),
        ("unexpected_keys", "are not part of the model that config.json describes"),
    ):
        if names := sorted(str(key if isinstance(key, str) else key[0]) for key in report[kind]):
            problems.append(f"{len(names)} weights {what}, such as {names[0]}: take config and weights of one model")
    not_finite = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if not_finite and not problems:
        problems.append(f"{len(not_finite)} weights are not finite, such as {not_finite[0]}: take another copy")
    if not problems:
        try:
            verify_passes(model.float().eval())
        except ValueError as error:
            problems.append(str(error))
    return problems
