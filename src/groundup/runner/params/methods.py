"""Params that only one method of alignment reads; those of all methods are in align."""

from typing import Annotated, Literal

from pydantic import Field

from groundup.runner.params.section import (
    AtLeastOne,
    Count,
    Fraction,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
)

Group = Annotated[int, Field(ge=2)]


class PpoParams(Section):
    learning_rate: PositiveFloat
    clip_range: PositiveFloat
    value_trunk: Literal["separate", "shared"]
    value_learning_rate: PositiveFloat
    value_clip_range: PositiveFloat
    discount: Fraction
    gae_lambda: Fraction
    entropy_coefficient: NonNegativeFloat
    entropy_floor: Fraction
    entropy_floor_rate: NonNegativeFloat
    kl_coefficient: PositiveFloat
    kl_target: PositiveFloat
    kl_horizon: PositiveFloat
    length_control_gain: NonNegativeFloat
    length_control_rate: NonNegativeFloat
    rollback_after: Positive
    rollback_kl_factor: AtLeastOne
    max_rollbacks: Count


class GroupParams(Section):
    """RLOO and GRPO."""

    learning_rate: PositiveFloat
    num_generations: Group
    beta: NonNegativeFloat
    clip_range: PositiveFloat
    length_control_gain: NonNegativeFloat
    length_control_rate: NonNegativeFloat


class DpoParams(Section):
    learning_rate: PositiveFloat
    num_generations: Group
    beta: PositiveFloat
