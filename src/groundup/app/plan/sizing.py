"""Every param that depends on the size of the model, derived from one number: its depth.

A preset is a chosen point; other depths are derived from it by ratios, so the preset's own depth gives the preset
itself. r(x) is the ratio of the new x to the preset's:

width           hidden_size / num_layers, hidden_size / num_heads and intermediate_size / hidden_size stay, rounded.
tokens          tokens per parameter stay: both grow equally at the compute optimum (Hoffmann et al. 2022,
                arXiv:2203.15556). laptop's ratio is that of the best of four sizes at its compute (bench/scaling).
batch           rows of an optimizer step: r(tokens)^0.383 (Bergsma et al. 2025, "Power Lines", arXiv:2505.13738), as a
                power of 2 times the preset's; the rows of a forward pass shrink to keep its activations.
AdamW           hidden weights: 1 / r(width) (muP, Yang et al. 2022, arXiv:2203.03466, table 8) / sqrt(r(depth))
                (Depth-muP, Yang et al. 2023, arXiv:2310.02244); embeddings and norms: unchanged. A stage with one
                rate for all weights uses that of the hidden weights, the majority.
Muon            an orthogonalized update scaled by sqrt(rows / columns) changes outputs equally at every width (Pethick
                et al. 2025, arXiv:2502.07529): only / sqrt(r(depth)).
both            sqrt(r(batch)) (Malladi et al. 2022, arXiv:2205.10287).
weight decay    rate x decay x steps stays: the share of the run over which a weight averages (Wang and Aitchison 2024,
                arXiv:2405.13698).
fine-tuning     chats and pairs: sqrt(r(parameters)). The loss falls as a small power of them (Zhang et al. 2024,
                arXiv:2402.17193); the number of PPO's replies stays, since its rates keep the change per reply.

A plain Llama has no multipliers of logits and residual branches, so only the learning rates follow muP and
Depth-muP, and the transfer is approximate.
"""

import math
from typing import get_args

from groundup.runner.params import Params
from groundup.runner.params.align import Method
from groundup.runner.params.training import ScratchModelParams

BATCH_EXPONENT = 0.383
INTERMEDIATE_MULTIPLE = 32  # matrices of other widths are slower
DIGITS = 3  # of derived rates

Changes = dict[str, int | float]  # dotted key -> value


def count_parameters(model: ScratchModelParams, vocab_size: int) -> int:
    """Parameters of the Llama that model.llama builds; a tied output head is counted once."""
    width = model.hidden_size
    key_values = width * model.num_kv_heads // model.num_heads
    layer = 2 * width * (width + key_values) + 3 * width * model.intermediate_size + 2 * width
    return vocab_size * width * (1 if model.tie_embeddings else 2) + model.num_layers * layer + width


def count_tokens(params: Params) -> int:
    """Number of tokens on which pretraining trains."""
    p = params.pretrain
    return p.num_steps * p.batch_size * p.accumulate * params.model.context_length


def shape(model: ScratchModelParams, depth: int) -> ScratchModelParams:
    """A shape of the same proportions; whole groups of heads, so that num_kv_heads divides num_heads."""
    head = model.hidden_size // model.num_heads
    group = model.num_heads // model.num_kv_heads
    num_groups = math.ceil(depth * model.num_kv_heads / model.num_layers)
    width = head * group * num_groups
    intermediate = near_multiple(
        width * model.intermediate_size / model.hidden_size, math.gcd(model.intermediate_size, INTERMEDIATE_MULTIPLE)
    )
    return model.model_copy(
        update={
            "num_layers": depth,
            "hidden_size": width,
            "num_heads": group * num_groups,
            "num_kv_heads": num_groups,
            "intermediate_size": intermediate,
        }
    )


def resize(preset: Params, depth: int) -> Changes:
    """All params that follow from `depth`; at the preset's own depth these are its values."""
    chosen = preset.model.scratch
    model = shape(chosen, depth)
    vocab_size = preset.tokenizer.scratch.vocab_size
    size = count_parameters(model, vocab_size) / count_parameters(chosen, vocab_size)
    width = model.hidden_size / chosen.hidden_size
    deeper = depth / chosen.num_layers
    activations = width * deeper

    p = preset.pretrain
    rows = max(1, round(p.batch_size * p.accumulate * near_power_of_2(size**BATCH_EXPONENT)))
    batch = rows / (p.batch_size * p.accumulate)
    batch_size = fitting(p.batch_size, activations, rows)
    num_steps = max(1, round(size * count_tokens(preset) / (rows * preset.model.context_length)))
    longer = num_steps / p.num_steps
    hidden = 1 / (width * math.sqrt(deeper))  # factor of AdamW's rate for hidden weights
    adamw = (1.0 if p.optimizer == "muon" else hidden) * math.sqrt(batch)
    muon = math.sqrt(batch / deeper)
    trained = muon if p.optimizer == "muon" else adamw  # the factor for the weights that decay

    s, r, a = preset.sft, preset.reward, preset.align
    more = math.sqrt(size)
    sft_batch = fitting(s.batch_size, activations, s.batch_size * s.accumulate)
    reward_batch = fitting(r.batch_size, activations, r.batch_size * r.accumulate)
    optional = {"sft.max_chats": s.max_chats, "reward.max_pairs": r.max_pairs}
    return {
        "model.scratch.num_layers": depth,
        "model.scratch.hidden_size": model.hidden_size,
        "model.scratch.num_heads": model.num_heads,
        "model.scratch.num_kv_heads": model.num_kv_heads,
        "model.scratch.intermediate_size": model.intermediate_size,
        "pretrain.num_steps": num_steps,
        "pretrain.batch_size": batch_size,
        "pretrain.accumulate": rows // batch_size,
        "pretrain.learning_rate": scaled(p.learning_rate, adamw),
        "pretrain.muon_learning_rate": scaled(p.muon_learning_rate, muon),
        "pretrain.weight_decay": scaled(p.weight_decay, 1 / (trained * longer)),
        "pretrain.warmup_steps": round(p.warmup_steps * longer),
        "pretrain.validate_every": max(1, round(p.validate_every * longer)),
        "sft.batch_size": sft_batch,
        "sft.accumulate": s.batch_size * s.accumulate // sft_batch,
        "sft.learning_rate": scaled(s.learning_rate, hidden),
        "reward.batch_size": reward_batch,
        "reward.accumulate": r.batch_size * r.accumulate // reward_batch,
        "reward.learning_rate": scaled(r.learning_rate, hidden),
        "reward.sampled.max_pairs": max(1, round(r.sampled.max_pairs * more)),
        "reward.sampled.batch_size": fitting(r.sampled.batch_size, activations, r.sampled.batch_size),
        **{f"align.{name}.learning_rate": scaled(getattr(a, name).learning_rate, hidden) for name in get_args(Method)},
        "align.ppo.value_learning_rate": scaled(a.ppo.value_learning_rate, hidden),
        "align.forward_batch_size": fitting(a.forward_batch_size, activations, a.minibatch_size),
        **{key: max(1, round(limit * more)) for key, limit in optional.items() if limit is not None},
    }


def near_multiple(value: float, of: int) -> int:
    return max(of, of * round(value / of))


def near_power_of_2(ratio: float) -> float:
    return float(2.0 ** round(math.log2(ratio)))


def scaled(value: float, ratio: float) -> float:
    """Rounded to three digits; an unchanged value keeps all digits."""
    return value if ratio == 1 else float(f"{value * ratio:.{DIGITS}g}")


def fitting(rows: int, activations: float, of: int) -> int:
    """Rows of a forward pass that need no more memory than the preset's, and divide `of`."""
    if activations == 1:
        return rows
    room = rows if activations < 1 else max(1, int(rows / activations))
    return max(size for size in range(1, room + 1) if of % size == 0)
