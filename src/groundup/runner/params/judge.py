"""Params of a judge fitted on conversations of people: align.monitor_judge and evaluate.gold_judge."""

from typing import Annotated

from pydantic import Field

from groundup.runner.params.section import Positive, PositiveFloat, Section, Seed


class JudgeParams(Section):
    """TF-IDF, latent semantic analysis and logistic regression."""

    seed: Seed  # wrong replies, folds and resamples
    max_turns: Positive  # of a conversation: replies up to there are learned from
    min_document_frequency: Positive  # turns a word must occur in
    num_dimensions: Positive  # of the latent semantic analysis
    copied_words: Positive  # so many words in a row that stand in the conversation already do not count
    inverse_regularization: PositiveFloat  # C of the logistic regression
    num_folds: Annotated[int, Field(ge=2)]  # of the cross-validation that gives the agreement
    num_resamples: Annotated[int, Field(ge=2)]  # of the conversations, with a judge each: how far it may be off
    bootstrap_samples: Positive  # for the interval of the agreement
