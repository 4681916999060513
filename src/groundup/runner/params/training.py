"""Params of model, tokenizer, pretrain, sft, reward and runtime. params.yaml says what each key means."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from groundup.runner.params.gates import GateParams
from groundup.runner.params.section import (
    MODEL_NAME,
    Count,
    FiniteFloat,
    Fraction,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    Section,
    Seed,
)


class RuntimeParams(Section):
    """Settings of the machine that change results."""

    num_threads: Positive
    precision: Literal["fp32", "bf16"]


class ScratchTokenizerParams(Section):
    """A vocabulary learned from the text."""

    vocab_size: Positive
    min_frequency: Positive
    curve_vocab_sizes: list[Positive]


class TokenizerParams(Section):
    scratch: ScratchTokenizerParams
    shard_tokens: Positive


class ScratchModelParams(Section):
    """A Llama with random weights."""

    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    num_kv_heads: Positive
    intermediate_size: Positive
    position: Literal["rope", "sinusoidal"]
    attention: Literal["softmax", "linear"]
    rope_theta: PositiveFloat
    tie_embeddings: bool
    initializer_range: PositiveFloat


class ModelParams(Section):
    base: str | None
    chat_template: Literal["own", "groundup"]
    context_length: Positive
    scratch: ScratchModelParams

    @field_validator("base")
    @classmethod
    def _is_a_name(cls, base: str | None) -> str | None:
        if base is not None and not MODEL_NAME.fullmatch(base):
            raise ValueError(
                f"got {base!r}, which is not a name in models/: null trains from random weights, `groundup fetch` "
                "brings a model and names it"
            )
        return base


ALL_LINEAR = "all-linear"  # PEFT's word for every linear layer but the head


class LoraParams(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Positive
    alpha: PositiveFloat
    dropout: Fraction
    target_modules: Literal["all-linear"] | list[str]

    @field_validator("target_modules", mode="before")
    @classmethod
    def _is_all_or_names(cls, modules: object) -> object:
        """Before the types, since a union answers with one error for each of its types."""
        if modules != ALL_LINEAR and not (
            isinstance(modules, list) and modules and all(isinstance(name, str) for name in modules)
        ):
            raise ValueError(
                f"got {modules!r:.60}, neither {ALL_LINEAR} nor a list of at least 1 item, such as [q_proj, v_proj]"
            )
        return modules


class PretrainParams(Section):
    seed: Seed
    optimizer: Literal["adamw", "muon"]
    num_steps: Count
    batch_size: Positive
    accumulate: Positive
    learning_rate: PositiveFloat
    muon_learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    beta1: OpenFraction
    beta2: OpenFraction
    muon_momentum: OpenFraction
    warmup_steps: Count
    decay_fraction: Fraction
    max_gradient_norm: PositiveFloat
    log_every: Positive
    validate_every: Positive
    num_validation_documents: Positive
    max_final_documents: Positive | None
    checkpoint_every: Positive
    num_samples: Positive
    sample_tokens: Positive
    sample_temperature: PositiveFloat
    lora: LoraParams | None


class SftParams(Section):
    seed: Seed
    max_chats: Positive | None
    num_validation_chats: Positive
    num_epochs: PositiveFloat
    batch_size: Positive
    accumulate: Positive
    max_length: Positive
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_fraction: Fraction
    max_gradient_norm: PositiveFloat
    log_every: Positive
    validate_every: Positive
    checkpoint_every: Positive
    num_samples: Positive
    sample_tokens: Positive
    sample_temperature: PositiveFloat
    lora: LoraParams | None


def _increasing(edges: list[float]) -> list[float]:
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError("edges must increase: a bucket reaches from one edge to the next")
    return edges


Edges = Annotated[list[FiniteFloat], Field(min_length=1), AfterValidator(_increasing)]


class RewardReportParams(Section):
    margin_edges: Edges
    length_difference_edges: Edges
    calibration_bins: Positive
    bag_of_words_strengths: Annotated[list[PositiveFloat], Field(min_length=1)]


class VariationalParams(Section):
    """Used with reward.head: variational."""

    latent_size: Positive
    kl_coefficient: NonNegativeFloat
    num_samples: Positive
    num_density_chats: Positive
    num_ood_chats: Positive


class SampledParams(Section):
    """Pairs of a person's reply and a reply of the SFT model."""

    max_pairs: Positive
    max_heldout_pairs: Positive
    weight: NonNegativeFloat
    max_new_tokens: Positive
    temperature: PositiveFloat
    batch_size: Positive


class RewardParams(Section):
    seed: Seed
    head: Literal["linear", "variational"]
    max_pairs: Positive | None
    max_heldout_pairs: Positive | None
    max_relevance_pairs: Positive | None
    max_repeat_pairs: Count
    num_wrong_replies: Positive
    relevance_weight: NonNegativeFloat
    relevance_alone_fraction: Fraction
    sampled: SampledParams
    num_epochs: PositiveFloat
    batch_size: Positive
    accumulate: Positive
    max_length: Positive
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_fraction: Fraction
    dropout: Fraction
    max_gradient_norm: PositiveFloat
    center_coefficient: NonNegativeFloat
    log_every: Positive
    validate_every: Positive
    checkpoint_every: Positive
    bootstrap_samples: Positive
    lora: LoraParams | None
    report: RewardReportParams
    gates: list[GateParams]
    variational: VariationalParams
