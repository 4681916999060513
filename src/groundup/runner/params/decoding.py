"""Params of decoding: evaluate.decoding, where chat takes its defaults from too."""

from typing import Annotated

from pydantic import Field

from groundup.runner.params.section import NonNegativeFloat, Positive, Section, Seed


class DecodingNumbers(Section):
    """The numbers of all methods, each of which reads its own; the limits keep a request from filling memory."""

    seed: Seed
    max_new_tokens: Positive
    temperature: NonNegativeFloat  # of sample, best_of_n and tree; 0 takes the likeliest token
    top_k: Annotated[int, Field(ge=0)]  # only so many of the likeliest tokens; 0 for all
    top_p: Annotated[float, Field(gt=0, le=1)]  # only the likeliest that hold this probability together; 1 for all
    min_p: Annotated[float, Field(ge=0, lt=1)]  # only those at least so likely, the likeliest being 1; 0 for all
    repetition_penalty: Annotated[float, Field(ge=1, le=10)]  # of tokens that stand in the reply already; 1 for none
    num_beams: Annotated[int, Field(ge=1, le=64)]
    n: Annotated[int, Field(ge=1, le=256)]  # replies of best_of_n, proposals of tree at each depth, at most
    keep: Annotated[int, Field(ge=1, le=256)]  # partial replies that tree goes on from
    depth: Annotated[int, Field(ge=1, le=64)]  # levels of tree: all but the last add one thought to a reply
    budget_tokens: Annotated[int, Field(ge=1, le=65536)]  # for one reply by beam, best_of_n or tree, all in all
    pessimism: NonNegativeFloat  # standard deviations taken off the reward model's score by best_of_n and tree


class DecodingParams(DecodingNumbers):
    num_prompts: Positive  # of the test prompts, one reply each of every method


def budget_problems(numbers: DecodingNumbers) -> dict[str, str]:
    """By method, why its budget is too small for it."""
    needed = {
        "beam": ("num_beams x max_new_tokens", numbers.num_beams * numbers.max_new_tokens),
        "best_of_n": ("one reply of max_new_tokens", numbers.max_new_tokens),
        "tree": ("one reply of max_new_tokens", numbers.max_new_tokens),
    }
    return {
        method: f"budget_tokens {numbers.budget_tokens} is below {what} ({tokens}), which {method} may need: raise it"
        for method, (what, tokens) in needed.items()
        if tokens > numbers.budget_tokens
    }
