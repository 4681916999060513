"""Which files of a model are taken, and which make it refused."""

import re
from pathlib import Path

from groundup.runner.base import RECORD

# The files of a plain Hugging Face directory; nothing else is taken, so neither pickles nor code.
TAKEN = re.compile(r"(model(-\d+-of-\d+)?\.safetensors|[\w.-]+\.(json|txt|jinja)|tokenizer\.model)", re.IGNORECASE)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5")


def is_taken(name: str) -> bool:
    """Not the record of an earlier fetch, which is written anew."""
    return TAKEN.fullmatch(name) is not None and name != RECORD


def unsafe_files(folder: Path) -> list[str]:
    """Links, pickles and empty files of a folder, each with what to do."""
    problems = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            problems.append(f"{name} is a link: put the file itself there (`cp -rL` copies a folder without links)")
        elif file.suffix.lower() in PICKLES:
            problems.append(f"{name} can run code when it is read: save weights as safetensors, then remove it")
        elif file.is_file() and file.stat().st_size == 0 and is_taken(file.name):
            problems.append(f"{name} is empty: copy or download the file again")
    return problems
