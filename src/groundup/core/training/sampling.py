"""Replies that ranks sample together; core.model knows nothing of ranks."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from groundup.core.model.generation import Replies, Sampler
from groundup.core.training.ranks import gathered, own_share


def sample_by_share(sampler: Sampler, model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int) -> Replies:
    """What `sampler.sample` draws, of which each rank draws the replies to its share of the prompts."""
    own = sampler.sample(model, prompts, seed, own_share(range(len(prompts))))
    return Replies(gathered(own.tokens), gathered(own.logprobs), gathered(own.ended))
