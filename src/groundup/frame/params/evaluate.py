"""Params of evaluate."""

from typing import Literal

from groundup.frame.params.decoding import DecodingParams
from groundup.frame.params.judge import JudgeParams
from groundup.frame.params.section import Count, Positive, PositiveFloat, Section, Seed


class BestOfNParams(Section):
    """A pool of the SFT model's replies: what the best of n is worth for every n up to its size."""

    num_prompts: Positive  # of the test prompts; fewer if there are fewer
    num_replies: Positive  # a prompt; the KL of the largest n is log n - (n - 1) / n
    batch_size: Positive  # replies sampled at once


class EvaluateParams(Section):
    seed: Seed
    judge: Literal["builtin"]  # builtin: groundup.judge, fitted on the judge split
    gold_judge: JudgeParams
    batch_size: Positive
    num_documents: Positive  # test documents for bits per byte, drawn evenly from all; fewer if there are fewer
    max_new_tokens: Positive
    temperature: PositiveFloat
    num_prompts: Positive  # test prompts, one reply each
    best_of_n: BestOfNParams
    decoding: DecodingParams  # the table of decoding methods
    num_samples: Count  # prompts shown side by side in the report
    bootstrap_samples: Positive
