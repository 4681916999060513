"""Params of evaluate."""

from typing import Annotated, Literal

from pydantic import Field

from groundup.runner.params.decoding import DecodingParams
from groundup.runner.params.judge import JudgeParams
from groundup.runner.params.section import Count, FiniteFloat, NonNegativeFloat, Positive, PositiveFloat, Section, Seed


class BestOfNParams(Section):
    """A pool of the SFT model's replies: what the best of n is worth for every n up to its size."""

    num_prompts: Positive  # of the test prompts; fewer if there are fewer
    num_replies: Positive  # a prompt; the KL of the largest n is log n - (n - 1) / n
    batch_size: Positive  # replies sampled at once


class OpenAIJudgeParams(Section):
    """A model behind an OpenAI-compatible URL; its key comes from OPENAI_API_KEY alone."""

    base_url: Annotated[str, Field(pattern="^https?://[^/]")] | None  # null: OPENAI_BASE_URL, or else OpenAI itself
    model: str
    num_prompts: Positive  # of the test prompts, and of align's validation prompts; fewer if there are fewer
    max_tokens: Positive  # of an answer
    timeout_seconds: PositiveFloat  # of a request
    max_retries: Count
    concurrency: Positive  # requests at a time
    dollars_per_million_prompt_tokens: NonNegativeFloat
    dollars_per_million_completion_tokens: NonNegativeFloat
    max_cost_dollars: PositiveFloat  # no request is sent that could go beyond it


class ProbesParams(Section):
    """Value probes, in groundup/evaluate/probes."""

    num_replies: Positive  # sampled to each of their messages
    num_references: Positive  # random secrets that each canary is ranked among


class GateParams(Section):
    """What must hold of one metric for a model to be promoted."""

    name: str
    metric: str  # a key of artifacts/report/metrics.json; inside a group: aligned.kl_to_sft
    bound: Literal["at_least", "at_most"]
    limit: FiniteFloat


class NgramParams(Section):
    """The baseline that only counts."""

    order: Annotated[int, Field(ge=2)]
    max_tokens: Positive  # of the pretraining text, and as many of the replies of SFT's chats


class EvaluateParams(Section):
    seed: Seed
    judge: Literal["builtin", "openai"]  # builtin: groundup.core.judging.judge alone; openai: that and the model below
    openai: OpenAIJudgeParams
    gold_judge: JudgeParams
    batch_size: Positive
    num_documents: Positive  # test documents for bits per byte, drawn evenly from all; fewer if there are fewer
    tasks: list[str]  # names of lm-eval's own tasks, besides ours; their data needs a network
    num_untrained_items: Positive  # of each task and of the documents, for the model with random weights
    ngram: NgramParams
    contamination_ngram: Positive  # words in a row that an item shares with training data
    max_new_tokens: Positive
    temperature: PositiveFloat
    num_prompts: Positive  # test prompts, one reply each
    best_of_n: BestOfNParams
    decoding: DecodingParams  # the table of decoding methods
    probes: ProbesParams
    gates: list[GateParams]
    watts: PositiveFloat  # that the machine takes while it trains, for an estimate of the energy
    num_samples: Count  # prompts shown side by side in the report
    bootstrap_samples: Positive
