"""The device that is measured, the sizes of what runs on it, and how long that takes.

Only torch and transformers are imported here: a bare machine may have no more, and then loses only parts.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

# FLOP/s of dense bf16 products, by the makers' data sheets.
DATA_SHEETS = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Sizes:
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    context_length: int
    num_rows: int  # of a forward pass in pretraining
    num_chats: int  # of a rollout
    prompt_tokens: int
    new_tokens: int
    num_scored: int  # documents of a batch in evaluate
    product: int  # rows and columns of the matrices that the device's speed is measured by


OF_PRESET = Sizes(32768, 768, 12, 12, 2048, 1024, 32, 256, 512, 128, 64, 8192)  # presets/gpu.yaml
TOY = Sizes(512, 64, 2, 2, 96, 64, 2, 4, 8, 6, 2, 256)


@dataclass(frozen=True)
class Machine:
    device: torch.device
    is_toy: bool

    @property
    def sizes(self) -> Sizes:
        return TOY if self.is_toy else OF_PRESET

    @property
    def has_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.has_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], num_warmups: int = 2, num_runs: int = 5) -> float:
        """Median of the runs that follow the warm-ups."""
        if self.is_toy:
            num_warmups, num_runs = 0, 1
        taken = []
        for run in range(num_warmups + num_runs):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if run >= num_warmups:
                taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def clean(self) -> None:
        """What the last measurement held is freed, and the peak of memory counts from here."""
        gc.collect()
        if self.has_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> dict[str, float]:
        """Since `clean`."""
        return {"GiB": torch.cuda.max_memory_allocated() / 2**30} if self.has_gpu else {}

    @cached_property
    def product_flops(self) -> float:
        """FLOP/s of a large bf16 product (fp32 without a GPU)."""
        return self.flops_of_products(torch.bfloat16 if self.has_gpu else torch.float32)

    def flops_of_products(self, dtype: torch.dtype) -> float:
        n = self.sizes.product
        left, right = (torch.randn(n, n, device=self.device, dtype=dtype) for _ in range(2))
        return float(2 * n**3 / self.seconds(lambda: left @ right))

    def data_sheet(self) -> float | None:
        """FLOP/s that the maker states."""
        name = torch.cuda.get_device_name() if self.has_gpu else ""
        return next((flops for part, flops in DATA_SHEETS.items() if part in name), None)

    def utilisation(self, flops_per_second: float) -> dict[str, float]:
        """Shares of what the maker states, where that is known, and of a large product's rate."""
        stated = self.data_sheet()
        of_stated = {} if stated is None else {"MFU": flops_per_second / stated}
        return of_stated | {"of a product's rate": flops_per_second / self.product_flops}

    def half(self, on: bool = True) -> AbstractContextManager[Any]:
        """Autocast to bf16, as training with runtime.precision: bf16."""
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if on else nullcontext()

    def shape(self) -> dict[str, Any]:
        sizes = self.sizes
        return {
            "vocab_size": sizes.vocab_size,
            "hidden_size": sizes.hidden_size,
            "num_hidden_layers": sizes.num_layers,
            "num_attention_heads": sizes.num_heads,
            "num_key_value_heads": sizes.num_heads,
            "intermediate_size": sizes.intermediate_size,
            "max_position_embeddings": sizes.context_length,
            "pad_token_id": PAD,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
        }

    def model(self, seed: int = 0) -> LlamaForCausalLM:
        """A random one of the preset's shape."""
        torch.manual_seed(seed)
        return self.on_device(LlamaForCausalLM(LlamaConfig(**self.shape(), tie_word_embeddings=True)))

    def reward_model(self) -> LlamaForSequenceClassification:
        torch.manual_seed(1)
        return self.on_device(LlamaForSequenceClassification(LlamaConfig(**self.shape(), num_labels=1)))

    def on_device(self, model: Any) -> Any:
        return model.eval().to(self.device)

    def packed_rows(self, num_rows: int) -> dict[str, Tensor]:
        """Token ids [B, T] and the position of each in its document; documents have 400 tokens at the mean."""
        generator = torch.Generator().manual_seed(1)
        shape = (num_rows, self.sizes.context_length)
        ids = torch.randint(EOS + 1, self.sizes.vocab_size, shape, generator=generator)
        places = torch.arange(shape[1]).expand(shape)
        starts = torch.where(torch.rand(shape, generator=generator) < 1 / 400, places, 0).cummax(1).values
        return {"input_ids": ids.to(self.device), "position_ids": (places - starts).to(self.device)}

    def chats(self, num: int, longest: int, seed: int) -> list[list[int]]:
        """Of lengths between half of `longest` and all of it; another seed gives other lengths, as in training."""
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(longest // 2, longest, (num,), generator=generator).tolist()
        return [torch.randint(EOS + 1, 500, (length,), generator=generator).tolist() for length in lengths]


@contextmanager
def kernels(*, deterministic: bool = False, cudnn: bool = False) -> Iterator[None]:
    """`deterministic`: as launch.yaml sets it for the stages. `cudnn`: its attention."""
    cudnn_before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn_before)
        torch.use_deterministic_algorithms(False)
