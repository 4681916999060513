"""Beam search by transformers, for the most likely whole reply."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.settings import Decoding


class CountTokens(LogitsProcessor):
    """Leaves the scores unchanged and counts the chosen tokens, which are charged to the budget."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.count += len(input_ids)
        return scores


@torch.no_grad()
def beam_search(assistant: Assistant, prompt: Sequence[int], decoding: Decoding) -> tuple[list[int], int]:
    """The tokens of the most likely reply found, and the number of tokens tried.

    Canonical beam search without a length penalty, since the log-probability of the whole reply is maximized.
    """
    ids = torch.tensor([list(prompt)], device=assistant.model.device)
    counter = CountTokens()
    processors = LogitsProcessorList([counter])
    if decoding.repetition_penalty > 1:
        processors.append(
            RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty, prompt_ignore_length=len(prompt))
        )
    output = assistant.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        logits_processor=processors,
        do_sample=False,
        num_beams=decoding.num_beams,
        length_penalty=0.0,
        early_stopping="never",
        renormalize_logits=True,  # suppressed tokens get no probability, as in the other methods
        max_new_tokens=decoding.max_new_tokens,
        eos_token_id=assistant.tokenizer.eos_token_id,
        pad_token_id=assistant.tokenizer.pad_token_id,
        use_cache=True,
    )
    return output[0, len(prompt) :].tolist(), counter.count
