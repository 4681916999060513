"""Params of evaluate. params.yaml says what each key means."""

from typing import Annotated, Literal

from pydantic import Field

from groundup.runner.params.decoding import DecodingParams
from groundup.runner.params.gates import GateParams
from groundup.runner.params.judge import JudgeParams
from groundup.runner.params.section import Count, NonNegativeFloat, Positive, PositiveFloat, Section, Seed


class BestOfNParams(Section):
    num_prompts: Positive
    num_replies: Positive
    batch_size: Positive


class OpenAIJudgeParams(Section):
    base_url: Annotated[str, Field(pattern="^https?://[^/]")] | None
    model: str
    num_prompts: Positive
    max_tokens: Positive
    timeout_seconds: PositiveFloat
    max_retries: Count
    concurrency: Positive
    dollars_per_million_prompt_tokens: NonNegativeFloat
    dollars_per_million_completion_tokens: NonNegativeFloat
    max_cost_dollars: PositiveFloat


class ModelJudgeParams(Section):
    path: str | None
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    max_length: Positive
    batch_size: Positive
    num_others: Annotated[int, Field(ge=2)]
    num_pairs: Positive
    num_control_prompts: Positive


class ProbesParams(Section):
    num_replies: Positive
    num_references: Positive


class NgramParams(Section):
    order: Annotated[int, Field(ge=2)]
    max_tokens: Positive


class EvaluateParams(Section):
    seed: Seed
    judge: Literal["builtin", "openai", "model"]
    openai: OpenAIJudgeParams
    model_judge: ModelJudgeParams
    gold_judge: JudgeParams
    batch_size: Positive
    num_documents: Positive
    tasks: list[str]
    num_untrained_items: Positive
    ngram: NgramParams
    contamination_ngram: Positive
    max_new_tokens: Positive
    temperature: PositiveFloat
    num_prompts: Positive
    best_of_n: BestOfNParams
    decoding: DecodingParams
    probes: ProbesParams
    gates: list[GateParams]
    watts: PositiveFloat
    num_samples: Count
    bootstrap_samples: Positive
