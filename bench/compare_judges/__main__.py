"""Compare candidates for the built-in gold judge: python -m bench.compare_judges [--artifacts DIR] [--judge NAME]

Writes result.json and result.md beside this file; with --judge, measures that one and the built-in judge alone.
"""

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.compare_judges.cross_encoder import CrossEncoder
from bench.compare_judges.folds import Fit, difference, measure, num_controls_that_win, rates, split
from bench.compare_judges.likelihood import (
    CachedNgrams,
    CopiedWords,
    LikelihoodRatio,
    ModelLogProbs,
    TokenLogProbs,
    others_of,
)
from bench.compare_judges.page import page
from bench.compare_judges.products import Products, Sum
from bench.results import ROOT, write_result
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.judging.pairs import reply_pairs
from groundup.core.model.llama import load_causal_lm
from groundup.evaluate.controls import Scorer
from groundup.runner.files import file_digests
from groundup.runner.params import load_params
from groundup.runner.params.judge import JudgeParams

HERE = Path(__file__).resolve().parent
NUM_FOLDS = 3
NUM_CHOSEN_ON = 60  # pairs of the other folds on which controls are chosen
BUILT_IN = "built-in: centred products without copied words"

logger = logging.getLogger(__name__)


def candidates(base: Path, params: JudgeParams) -> dict[str, Fit]:
    tokenizer = load_tokenizer(str(base))
    model = load_causal_lm(base, torch.device("cpu")).eval().requires_grad_(False)
    built_in = Products(params, counts_copied=False, is_centred=True)

    def ngrams(rows: Sequence[Row]) -> CachedNgrams:
        return CachedNgrams.of(rows, tokenizer)

    def base_model(rows: Sequence[Row]) -> ModelLogProbs:
        return ModelLogProbs(model)

    def ratio(
        of: Callable[[Sequence[Row]], TokenLogProbs], counts_copied: bool = False, is_centred: bool = False
    ) -> Fit:
        return lambda rows: LikelihoodRatio(
            of(rows),
            tokenizer,
            None if counts_copied else CopiedWords.of(rows, params),
            others_of(rows, params) if is_centred else None,
        )

    def both(rows: Sequence[Row]) -> Scorer:
        given = [pair.given for pair in reply_pairs(rows, params)]
        return Sum.of([built_in(rows), ratio(base_model, is_centred=True)(rows)], given)

    return {
        "products, not centred": Products(params, counts_copied=True, is_centred=False),
        "centred products": Products(params, counts_copied=True, is_centred=True),
        BUILT_IN: built_in,
        "n-grams with a cache": ratio(ngrams, counts_copied=True),
        "n-grams with a cache, without copied words": ratio(ngrams),
        "n-grams with a cache, without copied words, centred": ratio(ngrams, is_centred=True),
        "base model": ratio(base_model, counts_copied=True),
        "base model, without copied words": ratio(base_model),
        "base model, without copied words, centred": ratio(base_model, is_centred=True),
        "cross-encoder, centred": lambda rows: CrossEncoder.fit(rows, base, tokenizer, None, params),
        "cross-encoder, without copied words, centred": lambda rows: CrossEncoder.fit(
            rows, base, tokenizer, CopiedWords.of(rows, params), params
        ),
        "built-in + base model, without copied words, centred": both,
    }


def setting(rows: Sequence[Row], base: Path, params: JudgeParams) -> str:
    """What the measured figures depend on, besides code."""
    text = json.dumps([rows, file_digests(base), params.model_dump(mode="json"), NUM_FOLDS, NUM_CHOSEN_ON])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare(rows: Sequence[Row], fits: dict[str, Fit], params: JudgeParams, work: Path) -> dict[str, Any]:
    folds = split(rows, params, NUM_FOLDS, NUM_CHOSEN_ON)
    measured = {name: measure(work / name.replace(" ", "_"), fit, folds) for name, fit in fits.items()}
    judges = []
    for name, each in measured.items():
        found = rates(each, folds, params)
        shown = found | {"difference": difference(each, measured[BUILT_IN], folds, params)}
        judges.append(
            {
                "name": name,
                "rates": {column: asdict(rate) for column, rate in shown.items()},
                "num_controls_that_win": num_controls_that_win(found),
                "seconds": each["cell_seconds"],
            }
        )
    return {
        "judges": judges,
        "num_folds": NUM_FOLDS,
        "num_pairs": sum(len(fold.held_out) for fold in folds),
        "num_conversations": len(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=ROOT / "artifacts", help="of a finished run")
    parser.add_argument("--judge", help="measure this one alone, beside another process")
    parser.add_argument("--work", type=Path, default=ROOT / ".compare-judges", help="keeps measured judges")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    params = load_params(ROOT / "params.yaml").evaluate.gold_judge
    rows = list(read_jsonl(arguments.artifacts / "data/judge/conversations.jsonl", ("id", "messages")))
    base = arguments.artifacts / "base"
    fits, work = candidates(base, params), arguments.work / setting(rows, base, params)
    if arguments.judge is not None:
        chosen = {name: fits[name] for name in (BUILT_IN, arguments.judge)}
        logger.info("\n%s", page(compare(rows, chosen, params, work)))
    else:
        result = compare(rows, fits, params, work)
        write_result(HERE, result, page(result))


if __name__ == "__main__":
    main()
