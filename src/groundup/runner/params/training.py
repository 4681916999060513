"""Params of model, tokenizer, pretrain, sft, reward and runtime."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from groundup.runner.params.section import (
    Count,
    Fraction,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    Section,
    Seed,
)


class RuntimeParams(Section):
    """What changes numbers but belongs to the machine: threads and precision."""

    num_threads: Positive
    precision: Literal["fp32", "bf16"]


class TokenizerParams(Section):
    vocab_size: Positive  # special tokens included
    min_frequency: Positive  # a merge must occur this often
    curve_vocab_sizes: list[Positive]  # points of the vocab-size curve in the report
    shard_tokens: Positive  # a shard is closed once it holds this many


class ModelParams(Section):
    """Shape of the Llama base model."""

    context_length: Positive
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    num_kv_heads: Positive
    intermediate_size: Positive
    position: Literal["rope", "sinusoidal"]
    attention: Literal["softmax", "linear"]
    rope_theta: PositiveFloat  # with position: rope
    tie_embeddings: bool
    initializer_range: PositiveFloat


class PretrainParams(Section):
    seed: Seed
    optimizer: Literal["adamw", "muon"]
    num_steps: Positive
    batch_size: Positive  # rows of context_length tokens in one forward pass
    accumulate: Positive  # forward passes per optimizer step
    learning_rate: PositiveFloat  # AdamW: embeddings and norms, and all weights with optimizer: adamw
    muon_learning_rate: PositiveFloat  # 2-D hidden weights with optimizer: muon
    weight_decay: NonNegativeFloat  # 2-D weights only
    beta1: OpenFraction
    beta2: OpenFraction
    muon_momentum: OpenFraction
    warmup_steps: Count
    decay_fraction: Fraction  # last share of the steps, learning rate to zero
    max_gradient_norm: PositiveFloat
    log_every: Positive  # steps
    validate_every: Positive  # steps
    num_validation_documents: Positive  # during training; the final figure uses all
    checkpoint_every: Positive  # steps
    num_samples: Positive
    sample_tokens: Positive
    sample_temperature: PositiveFloat


class LoraParams(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Positive
    alpha: PositiveFloat
    dropout: Fraction
    target_modules: Annotated[list[str], Field(min_length=1)]


class SftParams(Section):
    seed: Seed
    max_chats: Positive | None  # train on this many, drawn by the seed; null takes all
    num_validation_chats: Positive
    num_epochs: PositiveFloat
    batch_size: Positive
    accumulate: Positive
    max_length: Positive  # tokens of one chat; longer chats are split at turn borders
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
        raise ValueError("edges must increase: from each to below the next is one bucket")
    return edges


Edges = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1), AfterValidator(_increasing)]


class RewardReportParams(Section):
    """What the reward model's report breaks down and compares with."""

    margin_edges: Edges  # between the buckets of pairs by margin
    length_difference_edges: Edges  # the same by tokens of chosen minus tokens of rejected
    calibration_bins: Positive
    # Inverse L2 penalties of the bag-of-words baseline; the one with the best val accuracy is taken.
    bag_of_words_strengths: Annotated[list[PositiveFloat], Field(min_length=1)]


class VariationalParams(Section):
    """With reward.head: variational (InfoRM, Miao et al. 2024)."""

    latent_size: Positive  # numbers in z
    kl_coefficient: NonNegativeFloat  # beta: nats of loss for a nat of KL(q(z | chat) || N(0, I))
    num_samples: Positive  # of the reward of each side, drawn at every step
    num_density_chats: Positive  # training chats from which the distance that raises the uncertainty is measured
    num_ood_chats: Positive  # test chats, and as many of each kind out of distribution, in ood_auroc_*


class SampledParams(Section):
    """Pairs of what a person replied and what the SFT model does."""

    max_pairs: Positive  # to train on
    max_heldout_pairs: Positive  # of val and of test
    weight: NonNegativeFloat  # of the loss of such a pair, a rated one's being 1; 0 leaves them out
    max_new_tokens: Positive
    temperature: PositiveFloat
    batch_size: Positive  # prompts


class RewardParams(Section):
    seed: Seed
    head: Literal["linear", "variational"]
    max_pairs: Positive | None  # train on this many that are rated or given, drawn by the seed; null takes all
    max_relevance_pairs: Positive | None  # and on this many of true against foreign replies
    relevance_weight: NonNegativeFloat  # of the loss of such a pair, the others' being 1; 0 leaves them out
    sampled: SampledParams
    num_epochs: PositiveFloat
    batch_size: Positive
    max_length: Positive
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_fraction: Fraction
    dropout: Fraction  # attention dropout while the reward model trains
    max_gradient_norm: PositiveFloat
    center_coefficient: NonNegativeFloat  # pulls the mean reward of a pair to zero
    log_every: Positive
    validate_every: Positive
    checkpoint_every: Positive
    bootstrap_samples: Positive
    report: RewardReportParams
    variational: VariationalParams
