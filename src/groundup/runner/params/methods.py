"""Params of the methods of alignment that TRL trains; what they share with PPO stays in align."""

from typing import Annotated

from pydantic import Field

from groundup.runner.params.section import NonNegativeFloat, PositiveFloat, Section

Group = Annotated[int, Field(ge=2)]


class GroupParams(Section):
    """RLOO and GRPO: what differs from PPO, which has the other keys."""

    learning_rate: PositiveFloat
    num_generations: Group  # replies to each prompt; rollout_batch_size is that of all
    beta: NonNegativeFloat  # weight of the KL to the SFT model


class DpoParams(Section):
    learning_rate: PositiveFloat
    num_generations: Group  # replies to each prompt, the best and the worst of which make a pair
    beta: PositiveFloat  # weight of the KL to the SFT model
