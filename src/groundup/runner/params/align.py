"""Params of align. params.yaml says what each key means."""

from typing import Literal

from pydantic import field_validator

from groundup.runner.params.judge import JudgeParams
from groundup.runner.params.methods import DpoParams, GroupParams, PpoParams
from groundup.runner.params.rewards import RewardTerms
from groundup.runner.params.section import Count, Fraction, Positive, PositiveFloat, Section, Seed
from groundup.runner.params.training import LoraParams

Method = Literal["ppo", "rloo", "grpo", "dpo"]  # each with a section of its own below


class RolloutParams(Section):
    max_prompt_tokens: Positive
    max_new_tokens: Positive
    temperature: PositiveFloat
    batch_size: Positive
    num_elsewhere: Count


class BudgetParams(Section):
    kl: PositiveFloat
    length: PositiveFloat
    diversity: Fraction
    style: Fraction


class AlarmParams(Section):
    z: PositiveFloat
    length_drift: PositiveFloat
    repetition_rise: Fraction
    style: Fraction
    kl_stop: PositiveFloat


class ValidationParams(Section):
    every: Positive
    num_prompts: Positive
    sample_every: Positive
    num_samples: Positive


class TestSetParams(Section):
    num_prompts: Positive
    bootstrap_samples: Positive


class AlignParams(Section):
    seed: Seed
    method: Method
    lora: LoraParams | None
    num_iterations: Positive
    num_epochs: Positive
    minibatch_size: Positive
    forward_batch_size: Positive
    warmup_iterations: Count
    max_gradient_norm: PositiveFloat
    checkpoint_every: Positive
    rollout: RolloutParams
    rewards: RewardTerms
    budgets: BudgetParams
    alarms: AlarmParams
    monitor_judge: JudgeParams
    validation: ValidationParams
    test: TestSetParams
    ppo: PpoParams
    rloo: GroupParams
    grpo: GroupParams
    dpo: DpoParams

    @field_validator("lora")
    @classmethod
    def _no_dropout(cls, lora: LoraParams | None) -> LoraParams | None:
        if lora is not None and lora.dropout != 0:
            raise ValueError(
                "dropout must be 0 here: the probabilities of a token are compared before and after a step"
            )
        return lora


def align_checks(p: AlignParams) -> list[tuple[bool, str]]:
    """(whether a rule of align holds, the message if not); only the section of the chosen method is checked."""
    batch_size = p.rollout.batch_size
    checks = [
        (
            batch_size % p.minibatch_size == 0,
            f"align.minibatch_size {p.minibatch_size} must divide align.rollout.batch_size {batch_size}",
        ),
        (
            p.warmup_iterations <= p.num_iterations,
            f"align.warmup_iterations {p.warmup_iterations} must not be above align.num_iterations "
            f"{p.num_iterations}: the learning rate would never be reached",
        ),
        (
            p.budgets.kl <= p.alarms.kl_stop,
            f"align.budgets.kl {p.budgets.kl} must not be above align.alarms.kl_stop {p.alarms.kl_stop}",
        ),
        (
            p.budgets.style <= p.alarms.style,
            f"align.budgets.style {p.budgets.style} must not be above align.alarms.style {p.alarms.style}",
        ),
    ]
    if p.method == "ppo":
        return [
            *checks,
            (
                p.ppo.kl_target <= p.budgets.kl,
                f"align.ppo.kl_target {p.ppo.kl_target} must not be above align.budgets.kl {p.budgets.kl}",
            ),
            (
                p.ppo.kl_horizon >= batch_size,
                f"align.ppo.kl_horizon {p.ppo.kl_horizon} must not be below align.rollout.batch_size {batch_size}: "
                "the KL coefficient changes once per batch",
            ),
        ]
    group = getattr(getattr(p, p.method), "num_generations", 1)
    return [
        *checks,
        (
            batch_size % group == 0,
            f"align.{p.method}.num_generations {group} must divide align.rollout.batch_size {batch_size}",
        ),
        (
            p.lora is None or "lm_head" not in p.lora.target_modules,
            f"align.lora.target_modules: {p.method} cannot train an adapter of lm_head; leave it out",
        ),
    ]
