"""All that would make a stage train something else than meant, of a model that was fetched."""

from pathlib import Path

from groundup.app.fetch.files import unsafe_files
from groundup.core.formats.adopted import GROUNDUP, check_chat_format
from groundup.core.model.folder import ReadFolder, read_folder
from groundup.core.model.open_model import load_folder
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
        _, problems = load_folder(folder)
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
