"""Whether a judge's model and the policy come from one model: it is no independent judge of what was made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.runner.base import Base
from groundup.runner.files import hash_file

WEIGHTS = "*.safetensors"


INDEPENDENT, SHARED, UNKNOWN = "independent", "not independent", "not shown to be independent"


@dataclass(frozen=True)
class Independence:
    kind: str  # one of the three above
    reason: str  # a clause

    def __str__(self) -> str:
        return f"It is {self.kind} of the models it judges: {self.reason}."


def independence(
    judge: ModelFolder, models: Mapping[str, Path], tokenizer: PreTrainedTokenizerFast, base: Base | None
) -> Independence:
    """By sha256 of the weights and, since training changes those, by the vocabularies.

    models: folders by name, which share `tokenizer`. base: the open model that they were made from.
    """
    its = {hash_file(file) for file in judge.path.glob(WEIGHTS)}
    if base and its & {digest for name, digest in base.files.items() if Path(name).match(WEIGHTS)}:
        return Independence(SHARED, f"its weights are those of {base.name}, which they were made from (base.lock)")
    for name, path in models.items():
        if its & {hash_file(file) for file in path.glob(WEIGHTS)}:
            return Independence(SHARED, f"its weights are those of the {name} model")
    made_from = f"{base.name} (base.lock)" if base else "random weights"
    ours, theirs = (set(each.get_vocab().items()) for each in (tokenizer, judge.tokenizer))
    if ours <= theirs or theirs <= ours:  # one may have added tokens
        return Independence(
            UNKNOWN,
            f"they were made from {made_from}, with other weights than its own, but it has the same vocabulary, so "
            "both may come from one model",
        )
    return Independence(
        INDEPENDENT, f"they were made from {made_from}, and neither weights nor vocabulary are its own"
    )
