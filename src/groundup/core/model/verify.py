"""Proof at load that our passes give a model's own logits and scores, since architectures compute them differently."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from groundup.core.model.cache import prefill
from groundup.core.model.forward import PackedAttention, RowAttention, hidden_states
from groundup.core.model.head import output_logits

LENGTHS = (9, 2, 5)  # of made-up sequences, short because large models are verified too
ROUNDING = 1e-3  # of the largest logit; fp32 stays far below
ERRORS = (
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    IndexError,
    KeyError,
)  # of a forward pass that lacks ours


def verify_passes(model: PreTrainedModel) -> None:
    """ValueError if one of our passes and transformers' own forward pass of each sequence differ beyond rounding.

    Mixtures of experts are refused by name: they need a loss of their own.
    """
    if any(name.endswith("experts") or "Experts" in type(module).__name__ for name, module in model.named_modules()):
        raise ValueError(
            f"{type(model).__name__} is a mixture of experts: nothing here keeps its router balanced, and LoRA does "
            "not reach its experts, so training would spoil it. Choose a dense model, such as a Llama, Qwen3, "
            "Mistral or Gemma"
        )
    sequences = [_made_up(length, model.config) for length in LENGTHS]
    try:
        with torch.no_grad():
            expected = [
                model(torch.tensor([ids], device=model.device), use_cache=False).logits[0] for ids in sequences
            ]
            finite = all(bool(logits.isfinite().all()) for logits in expected)
            for name, found, wanted in _passes(model, sequences, expected) if finite else ():
                _require_equal(f"logits {name}", found, wanted)
    except ERRORS as error:
        raise ValueError(_refusal(model, error)) from error
    if not finite:
        raise ValueError(
            f"{type(model).__name__} cannot be used here: on a made-up input its logits are not finite, so its "
            "weights are damaged or have diverged. Take another copy or another model"
        )


def verify_scores(model: PreTrainedModel) -> None:
    """The same of a reward model, whose score is read at a chat's last token."""
    sequences = [_made_up(length, model.config) for length in LENGTHS]
    ids = torch.tensor([token for sequence in sequences for token in sequence], device=model.device)
    try:
        with torch.no_grad():
            layout = PackedAttention(LENGTHS, model.device)
            found = model.score(hidden_states(model.base_model, ids, layout, layout.ends))
            expected = torch.stack(
                [model(torch.tensor([row], device=model.device), use_cache=False).logits[0] for row in sequences]
            )
            if finite := bool(expected.isfinite().all()):
                _require_equal("scores", found, expected)
    except ERRORS as error:
        raise ValueError(_refusal(model, error)) from error
    if not finite:
        raise ValueError(
            "the reward model scores a made-up chat as NaN or infinite: train it again with a lower "
            "reward.learning_rate"
        )


def _require_equal(what: str, found: Tensor, wanted: Tensor) -> None:
    difference, largest = float((found - wanted).abs().max()), float(wanted.abs().max())
    if not difference <= ROUNDING * largest:  # NaN too
        raise ValueError(f"{what} differ by {difference:.3g}, where the largest is {largest:.3g}")


def _refusal(model: PreTrainedModel, error: Exception) -> str:
    return (
        f"{type(model).__name__} cannot be used here: on a made-up input our passes do not give what transformers' "
        f"own forward pass gives ({error}). If its weights are right, choose a model of attention alone, such as a "
        "Llama, Qwen3, Mistral or Gemma"
    )


def _passes(
    model: PreTrainedModel, sequences: list[list[int]], expected: list[Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(which pass, its logits, transformers' logits)"""
    decoder, device = model.base_model, model.device
    ids = torch.tensor([token for sequence in sequences for token in sequence], device=device)
    everywhere = torch.arange(len(ids), device=device)
    layout = PackedAttention(LENGTHS, device)
    yield (
        "of padded sequences",
        output_logits(model, hidden_states(decoder, ids, layout, everywhere)),
        torch.cat(expected),
    )
    rows = RowAttention(layout.positions[None])
    yield "of packed rows", output_logits(model, hidden_states(decoder, ids, rows, everywhere)), torch.cat(expected)
    cache, hidden = prefill(decoder, [sequence[:-1] for sequence in sequences], max_new_tokens=1)
    yield "of prompts", output_logits(model, hidden), torch.stack([logits[-2] for logits in expected])
    hidden = cache.step(torch.tensor([sequence[-1] for sequence in sequences], device=device))
    yield "with a cache", output_logits(model, hidden), torch.stack([logits[-1] for logits in expected])


def _made_up(length: int, config: PreTrainedConfig) -> list[int]:
    """Token ids from all of the vocabulary, without padding, which a reward model skips."""
    ids = [(7919 * (place + length) ** 2) % config.vocab_size for place in range(length)]
    return [(i + 1) % config.vocab_size if i == config.pad_token_id else i for i in ids]
