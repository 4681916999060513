"""Params of evaluate."""

from typing import Literal

from groundup.frame.params.section import Count, Positive, PositiveFloat, Section, Seed


class EvaluateParams(Section):
    seed: Seed
    judge: Literal["builtin"]  # builtin: the reward model
    batch_size: Positive
    num_documents: Positive  # test documents for bits per byte, drawn evenly from all; fewer if there are fewer
    max_new_tokens: Positive
    temperature: PositiveFloat
    num_prompts: Positive  # test prompts, one reply each
    num_samples: Count  # prompts shown side by side in the report
    bootstrap_samples: Positive
