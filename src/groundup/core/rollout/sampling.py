"""Replies that ranks sample together; an engine knows nothing of their shares."""

from collections.abc import Sequence

from groundup.core.model.generation import Replies, Sampler
from groundup.core.rollout.engine import RolloutEngine, Source
from groundup.core.training.ranks import gathered, own_share


def sample_by_share(
    engine: RolloutEngine, source: Source, sampler: Sampler, prompts: Sequence[Sequence[int]], seed: int
) -> Replies:
    """Of which each rank draws the replies to its share of the prompts."""
    engine.push(source)
    own = engine.generate(prompts, seed, sampler, own_share(range(len(prompts))))
    return Replies(gathered(own.tokens), gathered(own.logprobs), gathered(own.ended))
