"""Memory and disk that each stage needs, and what to lower if there is too little."""

from collections.abc import Callable
from dataclasses import dataclass

from groundup.app.plan.workload import Data, Work
from groundup.prepare.processes import available_cores, worker_count
from groundup.runner.params import Params

FLOAT = 4
MB = 2**20  # as in peak_memory_mb
# Of a process after its imports (torch 2.13 on Linux), including what training libraries import on their start.
IMPORTED = {
    "prepare": 140 * MB,
    "tokenizer": 73 * MB,
    "pretrain": 475 * MB,
    "sft": 655 * MB,
    "reward": 720 * MB,
    "align": 640 * MB,
    "evaluate": 605 * MB,
}
WORKER = 70 * MB  # of prepare, per worker
VALIDATION_ROWS = 16
INDEX_BYTES = 620  # per document, to find duplicates; most of it signatures, which are mapped from a file
PACKAGE_BYTES = 165 * MB  # of a data package of 40 MB, which is parsed at once
BPE_BYTES, BPE_CHARACTERS, BPE_GROWTH = 330 * MB, 9.8e6, 0.6  # for that many characters; words grow by Heaps' law
PAIR_BYTES = 15_000  # per pair, as text and tokens
COPIES_OF_LOGITS = 4  # logits, their shifted copy, log-softmax, gradient
OUT_BYTES = {"prepare": 4.7, "tokenizer": 0.4}  # per character
COPIES_OF_OUTS = 3  # work dir (until recorded), artifacts/, DVC's cache
LOSS_BLOCK_TOKENS = 512  # as in pretrain.cross_entropy, whose import needs torch
CHECKPOINTS = 2  # kept while the next one is written


@dataclass(frozen=True)
class Room:
    """Bytes. On a GPU, `device` is its memory and `host` the rest of the process; on a CPU, `host` is all."""

    host: int
    device: int
    disk: int


def activations(params: Params, tokens: int) -> int:
    """Bytes that a forward pass keeps for the backward pass: about 18 widths and 4.5 inner widths per layer."""
    m = params.model.scratch
    floats = tokens * m.num_layers * (18 * m.hidden_size + 4.5 * m.intermediate_size)
    return round(floats * (FLOAT if params.runtime.precision == "fp32" else FLOAT / 2))


def logits(params: Params, tokens: int, copies: int) -> int:
    return tokens * params.tokenizer.scratch.vocab_size * FLOAT * copies


def peaks(params: Params, work: Work, device: str) -> dict[str, int]:
    """Bytes of models, activations and logits at the most expensive moment, on the model's device."""
    n, context = work.num_parameters * FLOAT, params.model.context_length
    p, s, r, a, e = params.pretrain, params.sft, params.reward, params.align, params.evaluate
    validated = logits(params, VALIDATION_ROWS * context, 3)

    def trained(tokens: int) -> int:
        return activations(params, tokens) + logits(params, tokens, COPIES_OF_LOGITS)

    pairs = 2 * r.batch_size * r.max_length
    m, rollout = params.model.scratch, a.rollout
    scores = 2 * r.batch_size * m.num_heads * r.max_length**2 * FLOAT * m.num_layers
    chats = a.forward_batch_size * (rollout.max_prompt_tokens + rollout.max_new_tokens)
    replies = a.forward_batch_size * rollout.max_new_tokens
    return {
        "prepare": 0,
        "tokenizer": 0,
        "pretrain": 4 * n
        + activations(params, p.batch_size * context)
        + logits(params, LOSS_BLOCK_TOKENS, COPIES_OF_LOGITS)
        + validated // 2,
        "sft": 4 * n + max(trained(s.batch_size * s.max_length), validated),
        # With dropout on a CPU, attention keeps three copies of its weights, including the mask.
        "reward": 4 * n + activations(params, pairs) + (3 * scores if r.dropout > 0 and device == "cpu" else 0),
        "align": 10 * n + 2 * activations(params, chats) + logits(params, replies, COPIES_OF_LOGITS),
        "evaluate": 4 * n + logits(params, e.batch_size * context, 3),
    }


def rooms(params: Params, data: Data, work: Work, device: str) -> dict[str, Room]:
    n = work.num_parameters * FLOAT
    texts = {
        "prepare": data.num_documents * INDEX_BYTES + PACKAGE_BYTES + worker_count(available_cores()) * WORKER,
        "tokenizer": round(BPE_BYTES * (data.num_train_characters / BPE_CHARACTERS) ** BPE_GROWTH),
        "pretrain": 0,
        "sft": 0,
        "reward": (work.num_pairs + data.num_val_pairs + data.num_test_pairs) * PAIR_BYTES,
        "align": 30 * MB,
        "evaluate": 150 * MB,
    }
    outs = {name: round(per * data.num_characters) for name, per in OUT_BYTES.items()}
    written = {name: COPIES_OF_OUTS * size for name, size in outs.items()}
    for name, states in (("pretrain", 3), ("sft", 3), ("reward", 3), ("align", 12)):
        written[name] = COPIES_OF_OUTS * n + CHECKPOINTS * states * n
    written["evaluate"] = 10 * MB
    return {
        name: Room(
            host=IMPORTED[name] + texts[name] + (peak if device == "cpu" else 0),
            device=0 if device == "cpu" else peak,
            disk=written[name],
        )
        for name, peak in peaks(params, work, device).items()
    }


def remedy(stage: str, params: Params, fits: Callable[[Params], bool]) -> str:
    """The param to change: the largest batch that `fits`, by halving the current one."""
    p, s, r, a, e = params.pretrain, params.sft, params.reward, params.align, params.evaluate
    keys = {
        "pretrain": ("batch_size", p.batch_size),
        "sft": ("batch_size", s.batch_size),
        "reward": ("batch_size", r.batch_size),
        "align": ("forward_batch_size", a.forward_batch_size),
        "evaluate": ("batch_size", e.batch_size),
    }
    if stage not in keys:
        return "lower max_rows or max_documents of prepare.sources"
    key, size = keys[stage]
    rows = size
    while (rows := rows // 2) > 0:
        if fits(with_value(params, stage, key, rows)):
            more = {"pretrain": p.accumulate, "sft": s.accumulate, "reward": r.accumulate}
            also = f" and raise {stage}.accumulate to {more[stage] * size // rows}" if stage in more else ""
            return f"lower {stage}.{key} to {rows}{also}"
    return "lower model.scratch.num_layers and what follows from it: `groundup configure --preset ... --depth N`"


def with_value(params: Params, stage: str, key: str, value: int) -> Params:
    section = getattr(params, stage).model_copy(update={key: value})
    return params.model_copy(update={stage: section})
