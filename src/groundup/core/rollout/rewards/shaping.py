"""From scores to the rewards that training maximises: pessimism and penalties, without the KL penalty."""

import torch
from torch import Tensor

from groundup.core.rollout.answers import Answers
from groundup.runner.params.align import AlignParams


def shaped_rewards(answers: Answers, reference_length: float, params: AlignParams) -> Tensor:
    """[B]: the score less what is doubtful, too long, said twice or cut.

    `reference_length` is the mean reply length of the SFT model: the tokens of a reply above it cost
    `length_penalty` each.
    """
    ended = torch.tensor(answers.ended)
    return (
        pessimistic_scores(answers, params.pessimism)
        - params.length_penalty * (answers.lengths - reference_length).clamp(min=0)
        - params.repetition_penalty * answers.repetition
        - params.missing_eos_penalty * (~ended).float()
    )


def pessimistic_scores(answers: Answers, pessimism: float) -> Tensor:
    """[B]: a lower bound on the score. Where the reward model knows little, a policy finds its errors first."""
    return answers.scores - pessimism * answers.scores_std
