"""Memory and disk that each stage needs, and what to lower if there is too little."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import add
from typing import Any

from groundup.app.plan.model import LORA_STAGES, PlannedModel
from groundup.app.plan.seconds import has_value_model
from groundup.app.plan.workload import Data, Work, comparison_tokens, num_wrong_replies, rollout_tokens
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
STATES = 3  # of a trained weight: its gradient and AdamW's two moments
COPIES_OF_LOGITS = 4  # logits, their shifted copy, log-softmax, gradient
COPIES_OF_READ_LOGITS = 3
LONGER_HALF = 1.5  # mean length of the longer half of a minibatch for that of all, as align forms its batches
HEAD_ROWS = 1024  # as in core.model.likelihood, whose import needs torch
OUT_BYTES = {"prepare": 4.7, "tokenizer": 0.4}  # per character
COPIES_OF_OUTS = 3  # work dir (until recorded), artifacts/, DVC's cache
COPIES_OF_CANDIDATE = 2  # the aligned model that passes the gates: work dir (until MLflow has it), MLflow's store
LOSS_BLOCK_TOKENS = 512  # as in pretrain.cross_entropy, whose import needs torch
CHECKPOINTS = 2  # kept while the next one is written
USABLE = 0.9  # share of the memory that a stage may use


@dataclass(frozen=True)
class Room:
    """Bytes. On a GPU, `device` is its memory and `host` the rest of the process; on a CPU, `host` is all."""

    host: int
    device: int
    disk: int


def activations(model: PlannedModel, precision: str, tokens: int) -> int:
    """Bytes that a forward pass keeps for the backward pass: about 18 widths and 4.5 inner widths per layer."""
    floats = tokens * model.num_layers * (18 * model.hidden_size + 4.5 * model.intermediate_size)
    return round(floats * (FLOAT if precision == "fp32" else FLOAT / 2))


def reading(model: PlannedModel, tokens: int, rows: int) -> int:
    """Bytes of a forward pass in fp32 with `rows` rows of logits; of a layer, three widths and three inner widths."""
    floats = 3 * tokens * (model.hidden_size + model.intermediate_size)
    return FLOAT * floats + logits(model, rows, COPIES_OF_READ_LOGITS)


def logits(model: PlannedModel, tokens: int, copies: int) -> int:
    return tokens * model.vocab_size * FLOAT * copies


def sampling(model: PlannedModel, rows: int, tokens: int, number: int) -> int:
    """Bytes of a copy of the weights, laid out for few rows, and of the keys and values of so many rows.

    number: bytes of each.
    """
    return number * (model.num_parameters + rows * tokens * model.num_layers * model.num_key_values)


def peaks(params: Params, data: Data, work: Work, device: str, shards: int) -> dict[str, int]:
    """Bytes of models, activations and logits at the most expensive moment, on the model's device.

    shards: of FSDP2 in pretrain; its one group of weights is brought together for each pass.
    """
    model = work.model
    n, context = model.num_parameters * FLOAT, params.model.context_length
    p, s, r, a, e = params.pretrain, params.sft, params.reward, params.align, params.evaluate
    precision = params.runtime.precision
    half = n // 2 if precision == "bf16" else 0  # of the weights, which autocast casts for a pass
    t = {stage: model.num_trained(stage) * FLOAT for stage in LORA_STAGES}

    def trained(tokens: int) -> int:
        return activations(model, precision, tokens) + logits(model, tokens, COPIES_OF_LOGITS)

    def validated(length: int) -> int:
        tokens = VALIDATION_ROWS * length
        return reading(model, tokens, min(HEAD_ROWS, tokens))

    learned = 0
    if p.num_steps:
        learned = activations(model, precision, p.batch_size * context)
        learned += STATES * t["pretrain"] // shards + half + logits(model, LOSS_BLOCK_TOKENS, COPIES_OF_LOGITS)
        if shards > 1:
            learned += n // shards + t["pretrain"]  # its own part, and gradients before they are divided
    side = min(data.lengths.longest_side or r.max_length, r.max_length)
    # A rated pair has two conversations.
    row = max(2 * side, round(comparison_tokens(params, side, num_wrong_replies(params), data.lengths, model)))
    seen = row if model.takes_branches else side
    scores = r.batch_size * model.num_heads * row * seen * FLOAT * model.num_layers
    rollout = a.rollout
    longest_chat = rollout.max_prompt_tokens + rollout.max_new_tokens
    usual_chat = LONGER_HALF * rollout_tokens(params, data.lengths)
    chats = round(a.forward_batch_size * min(longest_chat, usual_chat))
    chat_tokens = round(min(context, usual_chat))
    replies = a.forward_batch_size * rollout.max_new_tokens
    policy, others = aligned(params, model)
    num_trained = 2 if has_value_model(params) else 1  # one backward pass for both
    aligning = STATES * num_trained * t["align"] + num_trained * (half + activations(model, precision, chats))
    choices = round(e.batch_size * params.prepare.evaluation.num_choices * data.lengths.reply_share * e.max_new_tokens)
    read = max(min(e.batch_size, e.num_documents) * context, choices)
    evaluated = reading(model, read, min(HEAD_ROWS, read))
    beside = 0
    if judge := work.judge:
        replies_read = e.model_judge.batch_size * e.max_new_tokens
        judged = reading(judge.shape, e.model_judge.batch_size * judge.longest, min(HEAD_ROWS, replies_read))
        evaluated, beside = max(evaluated, judged), judge.shape.num_parameters * FLOAT
    # A process keeps what it has freed on the CPU, in pieces that larger tensors do not fit into.
    one_after_the_other = add if device == "cpu" else max
    number = FLOAT if precision == "fp32" else FLOAT // 2
    rollouts = sampling(model, rollout.batch_size, longest_chat, number)
    replying = sampling(model, e.batch_size, chat_tokens, FLOAT)  # evaluate is in fp32
    return {
        "prepare": 0,
        "tokenizer": 0,
        "pretrain": n + max(learned + validated(context), n),  # safetensors writes from a copy of all weights
        "sft": max(
            n + STATES * t["sft"] + half + max(trained(s.batch_size * s.max_length), validated(s.max_length)),
            2 * n + 2 * t["sft"] + validated(s.max_length),  # the published model, beside the trainer's
        ),
        # With dropout on a CPU, attention keeps three copies of its weights, including the mask.
        "reward": max(
            n
            + STATES * t["reward"]
            + half
            + activations(model, precision, r.batch_size * row)
            + (3 * scores if r.dropout > 0 and device == "cpu" else 0),
            2 * n + 2 * t["reward"],
        ),
        "align": policy
        + others
        # With LoRA the policy that is saved is a copy, merged.
        + max(
            one_after_the_other(rollouts, aligning + logits(model, replies, COPIES_OF_LOGITS)), policy if a.lora else 0
        ),
        # The SFT and the reward model, and the one that is loaded or measured.
        "evaluate": 3 * n + max(beside + one_after_the_other(replying, evaluated), n),
    }


def aligned(params: Params, model: PlannedModel) -> tuple[int, int]:
    """Bytes of the policy's weights, with what shares its base, and of those of the other models of align.

    Without LoRA, reference and reward model are copies, and so is a separate value model. With it the policy without
    its adapter is the reference, a separate value model is a second adapter, and so is the reward model if it was
    trained as one: align takes a copy of one that is not of this SFT model. TRL keeps a frozen adapter of its own.
    """
    n, trained = model.num_parameters * FLOAT, model.num_trained("align") * FLOAT
    value = trained if has_value_model(params) else 0
    if params.align.lora is None:
        return n, 2 * n + value
    adapters = trained + (value if params.align.method == "ppo" else trained)
    if params.reward.lora:
        return n + adapters + model.num_trained("reward") * FLOAT, 0
    return n + adapters, n


def rooms(params: Params, data: Data, work: Work, device: str, shards: int = 1) -> dict[str, Room]:
    model = work.model
    n = model.num_parameters * FLOAT
    num_trained = 2 if has_value_model(params) else 1
    policy = STATES * num_trained * model.num_trained("align") * FLOAT  # weights and moments of what align trains
    texts = {
        "prepare": data.num_documents * INDEX_BYTES + PACKAGE_BYTES + worker_count(available_cores()) * WORKER,
        "tokenizer": round(BPE_BYTES * (data.num_train_characters / BPE_CHARACTERS) ** BPE_GROWTH),
        "pretrain": 0,
        "sft": 0,
        "reward": (work.num_pairs + data.num_val_pairs + data.num_test_pairs) * PAIR_BYTES,
        "align": 30 * MB + policy,  # a copy of the best policy
        "evaluate": 380 * MB,
    }
    outs = model_outs(data, model)
    written = {name: COPIES_OF_OUTS * size for name, size in outs.items()}
    for name in ("pretrain", "sft", "reward"):
        written[name] += CHECKPOINTS * STATES * model.num_trained(name) * FLOAT
    written["pretrain"] = COPIES_OF_OUTS * n if params.pretrain.num_steps == 0 else written["pretrain"]
    written["align"] += CHECKPOINTS * 2 * policy  # now, and of the best policy
    written["evaluate"] = 10 * MB + COPIES_OF_CANDIDATE * outs["align"]
    return {
        name: Room(
            host=IMPORTED[name] + texts[name] + (peak if device == "cpu" else 0),
            device=0 if device == "cpu" else peak,
            disk=written[name],
        )
        for name, peak in peaks(params, data, work, device, shards).items()
    }


def model_outs(data: Data, model: PlannedModel) -> dict[str, int]:
    """Bytes that each stage publishes. DVC's cache keeps a copy of each for every experiment that wrote it anew.

    Models are whole and in fp32, with adapters merged.
    """
    n = model.num_parameters * FLOAT
    return {name: round(per * data.num_characters) for name, per in OUT_BYTES.items()} | {
        stage: n + (model.num_adapted.get(stage, 0) * FLOAT) for stage in LORA_STAGES
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
    if rows := halved(size, lambda rows: fits(with_value(params, stage, key, rows))):
        more = {"pretrain": p.accumulate, "sft": s.accumulate, "reward": r.accumulate}
        also = f" and raise {stage}.accumulate to {more[stage] * size // rows}" if stage in more else ""
        return f"lower {stage}.{key} to {rows}{also}"
    smaller = "lower model.scratch.num_layers and what follows from it: `groundup configure --preset ... --depth N`"
    if params.model.base is not None:
        adapted = stage not in LORA_STAGES or getattr(params, stage).lora is not None
        untrained = stage == "pretrain" and p.num_steps == 0
        smaller = f"{'' if adapted or untrained else f'set {stage}.lora, or '}choose a smaller model.base"
    if stage != "evaluate" or e.judge != "model":
        return smaller

    def judge_fits(rows: int) -> bool:
        judge = e.model_judge.model_copy(update={"batch_size": rows})
        return fits(with_value(params, stage, "model_judge", judge))

    if rows := halved(e.model_judge.batch_size, judge_fits):
        return f"lower evaluate.model_judge.batch_size to {rows}"
    return f"choose a smaller model for evaluate.model_judge.path, or {smaller}"


def halved(size: int, fits: Callable[[int], bool]) -> int:
    """The largest that `fits` of size / 2, size / 4 and so on; 0 if none does."""
    while (size := size // 2) > 0 and not fits(size):
        pass
    return size


def with_value(params: Params, stage: str, key: str, value: Any) -> Params:
    section = getattr(params, stage).model_copy(update={key: value})
    return params.model_copy(update={stage: section})


def in_mb(num_bytes: float) -> str:
    return f"{num_bytes / MB:,.0f}"
