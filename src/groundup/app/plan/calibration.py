"""Time a few steps of each kind of work on this machine, at the params' shapes; the plan multiplies the seconds."""

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from groundup.app.plan.seconds import Rates
from groundup.app.plan.workload import LIVE_SHARE, MEAN_CHAT, MEAN_DOCUMENT, MEAN_PROMPT
from groundup.core.model.generation import Sampler
from groundup.core.model.llama import build_llama
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.runtime import LIGHTNING_PRECISION, set_up
from groundup.pretrain.optimizer import build_optimizer
from groundup.pretrain.pretrain import PretrainModule
from groundup.runner.files import read_object, write_json
from groundup.runner.params import Params
from groundup.runner.params.load import BYTE_ALPHABET, NUM_SPECIAL_TOKENS
from groundup.tokenizer.tokenizer import chat_tokenizer, train_bpe

VERSION = 1  # of the measurement
MIN_RUNS, MAX_RUNS, BUDGET_SECONDS = 3, 12, 1.5  # of each kind, after a warm-up
LONG_SECONDS = 5.0  # a first run that takes this long is not repeated


def machine(params: Params, device: str) -> str:
    """Hash of what the rates depend on: machine, library and shapes."""
    runtime, p = params.runtime, params.pretrain
    shapes = [p.batch_size, p.optimizer, params.sft.batch_size, params.sft.max_length, params.reward.batch_size]
    shapes += [params.align.forward_batch_size, params.align.rollout.batch_size, params.align.rollout.max_new_tokens]
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    identity = [VERSION, platform.node(), name, device, torch.__version__, runtime.model_dump()]
    identity += [params.model.model_dump(), params.tokenizer.scratch.vocab_size, shapes]
    return hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:16]


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def rates(params: Params, device: str, folder: Path, again: bool) -> Rates:
    """The rates in `folder` if this machine has measured these shapes before, else new ones."""
    path = folder / f"{machine(params, device)}.json"
    if path.is_file() and not again:
        kept = read_object(path)
        if kept.keys() == {field.name for field in fields(Rates)}:
            return Rates(**kept)
    measured = calibrate(params, torch.device(device))
    write_json(path, asdict(measured))
    return measured


def calibrate(params: Params, device: torch.device) -> Rates:
    set_up(params.runtime, device.type, params.pretrain.seed)
    model = random_model(params, device)
    bf16 = LIGHTNING_PRECISION[params.runtime.precision] == "bf16-mixed"
    half = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
    context, vocab_size = params.model.context_length, params.tokenizer.scratch.vocab_size
    rollout = params.align.rollout
    module = PretrainModule(model, params.pretrain, compiled=device.type == "cuda")
    optimizer = build_optimizer(model, params.pretrain)
    packed = {
        "input_ids": torch.randint(vocab_size, (params.pretrain.batch_size, context), device=device),
        "position_ids": (torch.arange(context, device=device) % MEAN_DOCUMENT).repeat(params.pretrain.batch_size, 1),
    }

    def pretrain_batch() -> None:
        with half, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*self.log.*")
            loss = module.training_step(packed, 0)
        loss.backward()

    def learn(rows: int, length: int) -> Callable[[], None]:
        ids = torch.randint(vocab_size, (rows, length), device=device)

        def work() -> None:
            with half:
                logits = model(input_ids=ids, use_cache=False).logits
            cross_entropy(logits.flatten(0, 1).float(), ids.flatten()).backward()

        return work

    def read() -> None:
        with torch.no_grad():
            model(input_ids=reading, use_cache=False)

    batch_seconds = timed(pretrain_batch, device)
    update_seconds = timed(lambda: optimizer.step() and None, device)
    sft_length = min(params.sft.max_length, context)
    sft_seconds = timed(learn(params.sft.batch_size, sft_length), device)
    ppo_length = MEAN_PROMPT + round(LIVE_SHARE * rollout.max_new_tokens)
    ppo_seconds = timed(learn(params.align.forward_batch_size, ppo_length), device)
    adamw = torch.optim.AdamW(model.parameters(), lr=0.0)
    adamw_seconds = timed(lambda: adamw.step() and None, device)
    optimizer.zero_grad()
    reading = torch.randint(vocab_size, (16, min(MEAN_DOCUMENT, context)), device=device)
    read_seconds = timed(read, device)
    replies = max(1, round(LIVE_SHARE * rollout.batch_size))

    sampler = Sampler(-1, 0, rollout.max_new_tokens, temperature=1.0, batch_size=replies)
    reply_seconds = timed(lambda: sampler.sample(model, [[1] * MEAN_PROMPT] * replies, seed=0), device)
    reward = LlamaForSequenceClassification(model.config)
    reward.config.num_labels, reward.config.pad_token_id = 1, 0
    reward = reward.to(device)
    pairs = torch.randint(1, vocab_size, (2 * params.reward.batch_size, min(MEAN_CHAT, context)), device=device)

    def pair_batch() -> None:
        with half:
            scores = reward(input_ids=pairs, attention_mask=torch.ones_like(pairs), use_cache=False).logits
        scores.float().sum().backward()

    pair_seconds = timed(pair_batch, device)
    reward.zero_grad()
    scorer = RewardScorer(reward)
    chats = pairs[:16].tolist()
    score_seconds = timed(lambda: scorer.hidden(chats, [1] * len(chats)) and None, device)
    return Rates(
        pretrain_batch=batch_seconds,
        pretrain_update=update_seconds,
        sft_batch=sft_seconds,
        adamw_update=adamw_seconds,
        pair_batch=pair_seconds,
        ppo_batch=ppo_seconds,
        read_token=read_seconds / reading.numel(),
        score_token=score_seconds / (len(chats) * len(chats[0])),
        reply=reply_seconds / rollout.batch_size,
    )


def random_model(params: Params, device: torch.device) -> LlamaForCausalLM:
    """The model that pretraining builds, without its tokenizer, which would take minutes."""
    tokenizer = chat_tokenizer(
        train_bpe(iter(["a"]), NUM_SPECIAL_TOKENS + BYTE_ALPHABET, 1), params.model.context_length
    )
    model = build_llama(params.model, tokenizer)
    model.resize_token_embeddings(params.tokenizer.scratch.vocab_size, mean_resizing=False)
    return model.to(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest run, since other work on the machine can only slow a run down."""
    taken: list[float] = []
    for run in range(1 + MAX_RUNS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if run or seconds > LONG_SECONDS:
            taken.append(seconds)
        if not run and taken:
            break
        if len(taken) >= MIN_RUNS and sum(taken) > BUDGET_SECONDS:
            break
    return min(taken)
