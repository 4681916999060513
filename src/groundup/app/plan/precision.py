"""Choose runtime.precision for an open model by measurement: processors without bf16 units emulate it, slowly."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModel

from groundup.app.plan.open_model import base_config, with_layers
from groundup.app.plan.timing import timed

NUM_LAYERS = 2
ROWS, LENGTH = 2, 128  # tokens of a measured step
MIN_GAIN = 1.15  # below it, bf16 is not worth its rounding


@dataclass(frozen=True)
class Choice:
    precision: str
    reason: str


def choose_precision(measure: Callable[[str], float]) -> Choice:
    """`measure`: seconds of the same work in fp32 and in bf16."""
    fp32, bf16 = measure("fp32"), measure("bf16")
    gain = fp32 / bf16
    speed = f"{gain:.1f} times as fast as" if gain >= 1 else f"{1 / gain:.1f} times slower than"
    reason = f"a training step of {NUM_LAYERS} layers in bf16 is {speed} in fp32 here"
    if gain >= MIN_GAIN:
        return Choice("bf16", reason)
    return Choice("fp32", f"{reason}, and its rounding is worth {MIN_GAIN} times" if gain >= 1 else reason)


def measured_step(folder: Path, device: str, num_threads: int) -> Callable[[str], float]:
    """Seconds of a forward and backward pass of the base's first layers, frozen as with LoRA, by precision."""
    torch.set_num_threads(num_threads)
    no_tokens = {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = with_layers(base_config(folder), NUM_LAYERS, **no_tokens)
    layers = AutoModel.from_config(config, dtype=torch.float32).to(device).eval().requires_grad_(False)
    embedded = torch.randn(ROWS, LENGTH, config.hidden_size, device=device, requires_grad=True)

    def seconds(precision: str) -> float:
        def step() -> None:
            with torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
                hidden = layers(inputs_embeds=embedded, use_cache=False).last_hidden_state
            hidden.float().sum().backward()

        return timed(step, torch.device(device))

    return seconds
