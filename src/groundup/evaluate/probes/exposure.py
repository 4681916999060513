"""Whether a model reveals canaries that prepare planted in the training text (Carlini et al. 2019, section 4)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends, encode_text
from groundup.core.model.branches import Branches
from groundup.core.model.generation import Sampler
from groundup.core.text.canaries import FILE, Canary, read_canary_file, secret_text
from groundup.evaluate.reply_likelihood import branch_nats
from groundup.runner.params.evaluate import EvaluateParams

REPLIES_PER_ROW = 32  # references that are computed together


def read_canaries(folder: Path) -> list[Canary]:
    """Empty unless prepare planted canaries."""
    path = folder / FILE
    return read_canary_file(path) if path.exists() else []


def measure_canaries(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, canaries: Sequence[Canary], params: EvaluateParams
) -> dict[str, list[float]]:
    """canary_exposure_<n> and canary_extraction_<n>, where n is the number of documents with the canary."""
    values: dict[str, list[float]] = defaultdict(list)
    for canary in canaries:
        prefix = [document_ends(tokenizer)[0], *encode_text(tokenizer, canary.prefix)]
        values[f"canary_exposure_{canary.repetitions}"].append(_exposure(model, tokenizer, canary, prefix, params))
        values[f"canary_extraction_{canary.repetitions}"].append(_extraction(model, tokenizer, canary, prefix))
    return dict(values)


def _exposure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    canary: Canary,
    prefix: list[int],
    params: EvaluateParams,
) -> float:
    """log2 of the number of candidates over the rank of the secret among them: 0 to log2(num_references + 1) bits."""
    rng = np.random.default_rng(params.seed)
    references: set[str] = set()
    wanted = min(params.probes.num_references, 10 ** len(canary.secret) - 1)
    while len(references) < wanted:
        digits = "".join(map(str, rng.integers(0, 10, len(canary.secret))))
        references |= {digits} - {canary.secret}
    candidates = [canary.secret, *sorted(references)]
    replies = [encode_text(tokenizer, secret_text(candidate)) for candidate in candidates]
    rows = [
        Branches(prefix, replies[start : start + REPLIES_PER_ROW]) for start in range(0, len(replies), REPLIES_PER_ROW)
    ]
    nats = [value for row in branch_nats(model, rows, params.batch_size) for value in row]
    rank = sum(value <= nats[0] for value in nats)  # ties count as the worst rank: equal likelihoods expose nothing
    return math.log2(len(candidates)) - math.log2(rank)


def _extraction(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, canary: Canary, prefix: list[int]
) -> float:
    """1 if the most likely continuation is the secret, else 0."""
    secret = encode_text(tokenizer, secret_text(canary.secret))
    replies = Sampler.of(tokenizer, len(secret), temperature=0.0, batch_size=1).sample(model, [prefix], seed=0)
    return float(replies.tokens[0] == secret)
