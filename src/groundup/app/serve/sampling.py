"""What a request says of sampling, as the settings that tokens are chosen by."""

from groundup.core.decoding import Decoding


def sampling(temperature: float, top_k: int, top_p: float, min_p: float, repetition_penalty: float) -> Decoding:
    """Equal for replies that are sampled alike, so that one call chooses for all; of search it says nothing."""
    return Decoding(
        method="sample",
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=0,
        max_new_tokens=1,
        num_beams=1,
        n=1,
        keep=1,
        depth=1,
        budget_tokens=1,
        pessimism=0.0,
    )
