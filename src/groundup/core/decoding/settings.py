"""Settings of decoding: the method and its numbers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from groundup.runner.params.decoding import DecodingNumbers, budget_problems

Method = Literal["greedy", "sample", "beam", "best_of_n", "tree"]
METHODS: tuple[Method, ...] = get_args(Method)
STREAMED: tuple[Method, ...] = ("greedy", "sample")  # one reply, token by token
REWARDED: tuple[Method, ...] = ("best_of_n", "tree")  # these ask the reward model
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")
READS: dict[Method, tuple[str, ...]] = {  # besides max_new_tokens and repetition_penalty, which all methods read
    "greedy": (),
    "sample": SAMPLING,
    "beam": ("num_beams", "budget_tokens"),
    "best_of_n": ("n", "budget_tokens", "pessimism", *SAMPLING),
    "tree": ("n", "keep", "depth", "budget_tokens", "pessimism", *SAMPLING),
}


class Decoding(DecodingNumbers):
    method: Method
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]  # as clients of the server may give, not only as params do

    @model_validator(mode="after")
    def _check_budget(self) -> "Decoding":
        if problem := budget_problems(self).get(self.method):
            raise ValueError(problem)
        return self


def make_decoding(method: str, numbers: DecodingNumbers, changes: Mapping[str, Any]) -> Decoding:
    """The method with these numbers and the changes, which may be text; ValueError lists every problem."""
    if method not in METHODS:
        raise ValueError(f"unknown decoding method {method!r}: choose {', '.join(METHODS)}")
    known = list(DecodingNumbers.model_fields)
    if unknown := [name for name in changes if name not in known]:
        raise ValueError(f"unknown decoding setting {', '.join(unknown)}: choose from {', '.join(known)}")
    values = {name: getattr(numbers, name) for name in known} | dict(changes)
    try:
        return Decoding.model_validate({"method": method, **values}, strict=False)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(detail["loc"], detail) for detail in error.errors())) from None


def parse_decoding(text: str, numbers: DecodingNumbers) -> Decoding:
    """Parse what a user types: `sample temperature=0.8 top_p=0.9`."""
    method, *rest = text.split() or [""]
    pairs = [word.partition("=") for word in rest]
    if odd := [word for word, (_, sign, value) in zip(rest, pairs, strict=True) if not (sign and value)]:
        raise ValueError(f"{' '.join(odd)!r} is not a setting: write name=value, such as temperature=0.8")
    return make_decoding(method, numbers, {name: value for name, _, value in pairs})


def _explain(place: tuple[int | str, ...], detail: Mapping[str, Any]) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    message = str(detail["msg"])
    return f"{'.'.join(map(str, place))} is {detail['input']}: {message[0].lower()}{message[1:]}"
