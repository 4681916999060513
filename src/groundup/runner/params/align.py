"""Params of align."""

from typing import Literal

from pydantic import field_validator

from groundup.runner.params.judge import JudgeParams
from groundup.runner.params.methods import DpoParams, GroupParams
from groundup.runner.params.section import (
    AtLeastOne,
    Count,
    Fraction,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Seed,
)
from groundup.runner.params.training import LoraParams


class AlarmParams(Section):
    """When a validation raises an alarm, compared with the SFT model on the same prompts, and what follows."""

    z: PositiveFloat  # standard errors that the score must have risen and the monitor's fallen
    length_drift: PositiveFloat  # share by which the mean reply length may differ
    repetition_rise: Fraction  # by which the mean share of repeated trigrams may be higher
    rollback_after: Positive  # validations in a row with the alarm of over-optimisation
    rollback_kl_factor: AtLeastOne  # of the KL coefficient, at each rollback
    max_rollbacks: Count  # one more is the end of training


class AlignParams(Section):
    """Training against the reward model with a KL penalty to the frozen SFT model."""

    seed: Seed
    method: Literal["ppo", "rloo", "grpo", "dpo"]
    rloo: GroupParams
    grpo: GroupParams
    dpo: DpoParams
    lora: LoraParams | None
    value_trunk: Literal["separate", "shared"]  # a model of its own, or a head on what the reward model knows
    max_prompt_tokens: Positive  # longer prompts are dropped, with a count
    max_new_tokens: Positive
    temperature: PositiveFloat
    num_iterations: Positive
    rollout_batch_size: Positive  # replies sampled per iteration
    num_epochs: Positive  # passes over one rollout
    minibatch_size: Positive  # replies in one optimizer step
    forward_batch_size: Positive  # replies in one forward pass: speed and memory, not mathematics
    learning_rate: PositiveFloat  # policy
    value_learning_rate: PositiveFloat
    warmup_iterations: Count  # the policy's learning rate rises; the value model's does not
    max_gradient_norm: PositiveFloat
    clip_range: PositiveFloat
    value_clip_range: PositiveFloat  # in units of reward
    discount: Fraction
    gae_lambda: Fraction
    entropy_coefficient: NonNegativeFloat
    entropy_floor: Fraction  # share of the first iteration's entropy: below it the coefficient rises
    entropy_floor_rate: NonNegativeFloat  # by which it does with an iteration whose entropy is 0
    kl_coefficient: NonNegativeFloat  # start value of the adaptive controller
    kl_target: PositiveFloat  # nats per reply
    kl_horizon: PositiveFloat  # replies after which the coefficient may have changed by a factor of about e^0.2
    kl_budget: PositiveFloat  # nats per reply: checkpoints above it are not kept
    kl_stop: PositiveFloat  # nats per reply: training stops
    # By how much the reward of a reply of twice SFT's mean length rises for each share by which the mean is below it.
    length_control_gain: NonNegativeFloat  # while it is
    length_control_rate: NonNegativeFloat  # with every iteration in which it is
    length_budget: PositiveFloat  # share of SFT's mean length by which that of a kept checkpoint may differ
    diversity_budget: Fraction  # share of SFT's distinct-2 by which that of a kept checkpoint may be lower
    pessimism: NonNegativeFloat  # standard deviations of the reward model's score that are taken off it
    length_penalty: NonNegativeFloat  # subtracted for each token of a reply above SFT's mean length
    repetition_penalty: NonNegativeFloat  # times the share of a reply's trigrams that stood in it before
    missing_eos_penalty: NonNegativeFloat  # subtracted from the reward of a reply that did not end
    monitor_judge: JudgeParams
    alarms: AlarmParams
    validate_every: Positive  # iterations
    num_validation_prompts: Positive
    num_test_prompts: Positive  # for the held-out figures, at the end
    checkpoint_every: Positive  # iterations
    sample_every: Positive  # iterations between tables of samples
    num_samples: Positive
    bootstrap_samples: Positive

    @field_validator("lora")
    @classmethod
    def _no_dropout(cls, lora: LoraParams | None) -> LoraParams | None:
        if lora is not None and lora.dropout != 0:
            raise ValueError(
                "dropout must be 0 here: the probabilities of a token are compared before and after a step"
            )
        return lora
