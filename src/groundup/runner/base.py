"""The open model that training starts from: base.lock in git pins it, models/NAME holds it.

`groundup fetch` writes models/NAME with the record groundup.json; `groundup configure` writes base.lock from it.
"""

from pathlib import Path

from pydantic import ValidationError

from groundup.runner.environment import main_root
from groundup.runner.files import files_below, hash_file, read_object, write_json
from groundup.runner.params.section import Section

LOCK, RECORD, MODELS = "base.lock", "groundup.json", "models"


class BaseError(ValueError):
    """The base model is not what params.yaml and base.lock say; the message says what to do."""


class Base(Section):
    """One model. `source`: what `groundup fetch` takes, of a path its end alone; revision: a commit or a digest."""

    name: str
    source: str
    revision: str
    licence: str  # an SPDX name where the source gives one
    licence_accepted: bool  # by --accept-licence; false for a permissive one, which needs none
    files: dict[str, str]  # sha256 by name, all files but the record

    @property
    def fetched_by(self) -> str:
        """The command that brings it."""
        named = "" if self.source == self.name else f" --as {self.name}"
        accepted = " --accept-licence" if self.licence_accepted else ""
        return f"groundup fetch {self.source}{named}{accepted}"


def models_folder(root: Path) -> Path:
    """Of the user's checkout: git and DVC ignore it, so a copy for an experiment lacks it."""
    return main_root(root) / MODELS


def read_lock(root: Path) -> Base | None:
    """None: from scratch."""
    path = root / LOCK
    remedy = f"`groundup configure --base NAME` writes it again, `git checkout HEAD -- {LOCK}` restores the committed"
    if not path.is_file():
        raise BaseError(f"{path} is missing: {remedy}")
    values = read_object(path, remedy)
    if values == {"base": None}:
        return None
    return _parse(values.get("base"), path, remedy)


def write_lock(root: Path, base: Base | None) -> None:
    write_json(root / LOCK, {"base": base.model_dump() if base else None})


def read_record(root: Path, name: str) -> Base:
    """What `groundup fetch` noted of models/NAME."""
    path = models_folder(root) / name / RECORD
    if not path.is_file():
        raise BaseError(f"there is no model {name}: `groundup fetch` brings one to {path.parent}")
    values = read_object(path, f"remove {path.parent}, then `groundup fetch` brings it again")
    base = _parse(values.get("base"), path, "remove its folder, then `groundup fetch` brings it again")
    if base.name != name:
        raise BaseError(f"{path} is of {base.name}: rename the folder {name} back, or fetch it again as {name}")
    return base


def _parse(value: object, path: Path, remedy: str) -> Base:
    try:
        return Base.model_validate(value)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, detail["loc"])) or "base" for detail in error.errors())
        raise BaseError(f"{path} does not describe a model (wrong or missing: {wrong}); {remedy}") from None


def differing_files(folder: Path, base: Base) -> list[str]:
    """Files that are missing, changed or not of the model. Reads every byte: two seconds or less per GB."""
    present = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    present.pop(RECORD, None)
    return [
        *(f"{name} is missing" for name in sorted(base.files.keys() - present.keys())),
        *(f"{name} is not one of its files" for name in sorted(present.keys() - base.files.keys())),
        *(
            f"{name} has changed"
            for name in sorted(base.files.keys() & present.keys())
            if hash_file(present[name]) != base.files[name]
        ),
    ]


def found_base(root: Path, name: str | None) -> Base | None:
    """What base.lock is to hold for this model.base; BaseError unless models/NAME is as it was fetched."""
    if name is None:
        return None
    base = read_record(root, name)
    if problems := differing_files(models_folder(root) / name, base):
        raise BaseError(
            f"models/{name} is not as it was fetched: {', '.join(problems)}. Remove it and run `{base.fetched_by}`"
        )
    return base


def checked_base(root: Path, name: str | None) -> Path | None:
    """The folder of model.base, with exactly the files of base.lock; None for training from scratch.

    name: model.base of params.yaml. BaseError if it, base.lock and the folder are not of one model.
    """
    base = read_lock(root)
    locked = base.name if base else None
    if name != locked:
        raise BaseError(
            f"model.base is {name or 'null'} and {LOCK} holds {locked or 'null'}: `groundup configure "
            f"{'--base ' + name if name else '--from-scratch'}` writes both"
        )
    if base is None:
        return None
    folder = models_folder(root) / base.name
    if not folder.is_dir():
        raise BaseError(f"there is no model in {folder}, which model.base names: `{base.fetched_by}` brings it")
    if problems := differing_files(folder, base):
        raise BaseError(
            f"{folder} is not the model that {LOCK} pins: {', '.join(problems)}. Remove the folder and run "
            f"`{base.fetched_by}`; or `groundup configure --base {base.name}` pins the model that was fetched"
        )
    return folder
