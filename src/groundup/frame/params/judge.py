"""Params of a judge fitted on rated conversations: align.monitor_judge and evaluate.gold_judge."""

from typing import Annotated

from pydantic import Field

from groundup.frame.params.section import Positive, PositiveFloat, Section, Seed


class JudgeParams(Section):
    """TF-IDF and ridge regression."""

    seed: Seed  # folds and resamples
    min_document_frequency: Positive  # conversations a word or phrase must occur in
    max_ngram: Positive  # words in the longest phrase
    ridge_alpha: PositiveFloat  # in units of the features' mean variance
    num_turns: Annotated[
        list[Positive], Field(min_length=1)
    ]  # of the beginnings on which what is left of length is measured
    num_folds: Annotated[int, Field(ge=2)]  # of the cross-validation that gives the agreement
    bootstrap_samples: Positive
