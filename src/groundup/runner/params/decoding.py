"""Params of decoding: evaluate.decoding, which also gives chat its defaults."""

from typing import Annotated

from pydantic import Field

from groundup.runner.params.section import NonNegativeFloat, Positive, Section, Seed


class DecodingNumbers(Section):
    """Numbers of all methods, each of which reads its own; the limits keep a request from filling memory."""

    seed: Seed
    max_new_tokens: Positive
    temperature: NonNegativeFloat
    top_k: Annotated[int, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    min_p: Annotated[float, Field(ge=0, lt=1)]
    repetition_penalty: Annotated[float, Field(ge=1, le=10)]
    num_beams: Annotated[int, Field(ge=1, le=64)]
    n: Annotated[int, Field(ge=1, le=256)]
    keep: Annotated[int, Field(ge=1, le=256)]
    depth: Annotated[int, Field(ge=1, le=64)]
    budget_tokens: Annotated[int, Field(ge=1, le=65536)]
    pessimism: NonNegativeFloat


class DecodingParams(DecodingNumbers):
    num_prompts: Positive


def budget_problems(numbers: DecodingNumbers) -> dict[str, str]:
    """For each method whose token budget is too small, the reason."""
    needed = {
        "beam": ("num_beams x max_new_tokens", numbers.num_beams * numbers.max_new_tokens),
        "best_of_n": ("one reply of max_new_tokens", numbers.max_new_tokens),
        "tree": ("one reply of max_new_tokens", numbers.max_new_tokens),
    }
    return {
        method: f"budget_tokens {numbers.budget_tokens} is below {what} ({tokens}), which {method} may need: raise it "
        "or lower max_new_tokens"
        for method, (what, tokens) in needed.items()
        if tokens > numbers.budget_tokens
    }
