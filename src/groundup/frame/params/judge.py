"""Params of a judge fitted on rated conversations: align.monitor_judge and evaluate.gold_judge."""

from groundup.frame.params.section import Positive, PositiveFloat, Section, Seed


class JudgeParams(Section):
    """TF-IDF and ridge regression."""

    seed: Seed  # folds and resamples
    min_document_frequency: Positive  # conversations a word or phrase must occur in
    max_ngram: Positive  # words in the longest phrase
    ridge_alpha: PositiveFloat
    num_folds: Positive  # of the cross-validation that gives the agreement
    bootstrap_samples: Positive
