"""Params of a judge fitted on conversations of people: align.monitor_judge and evaluate.gold_judge."""

from typing import Annotated

from pydantic import Field

from groundup.runner.params.section import OpenFraction, Positive, PositiveFloat, Section, Seed


class JudgeParams(Section):
    """TF-IDF, latent semantic analysis and ridge regression."""

    seed: Seed
    max_turns: Positive
    min_document_frequency: Positive
    num_dimensions: Positive
    copied_words: Positive
    common_words: OpenFraction
    inverse_regularization: PositiveFloat
    num_folds: Annotated[int, Field(ge=2)]
    num_resamples: Annotated[int, Field(ge=2)]
    bootstrap_samples: Positive
