"""Params of evaluate."""

from typing import Annotated, Literal

from pydantic import Field

from groundup.frame.params.judge import JudgeParams
from groundup.frame.params.section import Count, Positive, PositiveFloat, Section, Seed


class BestOfNParams(Section):
    """A pool of the SFT model's replies: what the best of n is worth for every n up to its size."""

    num_prompts: Positive  # of the test prompts; fewer if there are fewer
    num_replies: Positive  # a prompt; the KL of the largest n is log n - (n - 1) / n
    batch_size: Positive  # replies sampled at once


class NgramParams(Section):
    """The baseline that only counts."""

    order: Annotated[int, Field(ge=2)]
    max_tokens: Positive  # of the pretraining text, and as many of the replies of SFT's chats


class EvaluateParams(Section):
    seed: Seed
    judge: Literal["builtin"]  # builtin: groundup.judge, fitted on the judge split
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
    num_samples: Count  # prompts shown side by side in the report
    bootstrap_samples: Positive
