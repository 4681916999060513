"""Params of the terms of a reward; core/rollout/rewards computes each kind."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from groundup.runner.params.section import NonNegativeFloat, Section


class ScoreTerm(Section):
    kind: Literal["reward_model"]
    weight: NonNegativeFloat
    pessimism: NonNegativeFloat


class PenaltyTerm(Section):
    kind: Literal["length", "repetition", "missing_end_of_turn"]
    weight: NonNegativeFloat


RewardTerm = Annotated[ScoreTerm | PenaltyTerm, Field(discriminator="kind")]


def _each_kind_once(terms: list[ScoreTerm | PenaltyTerm]) -> list[ScoreTerm | PenaltyTerm]:
    kinds = [term.kind for term in terms]
    if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"{', '.join(repeated)} appears more than once; keep one term of each kind")
    return terms


RewardTerms = Annotated[list[RewardTerm], Field(min_length=1), AfterValidator(_each_kind_once)]
