"""Every cell and best-of-n under the gold judge, once, when all are trained."""

import logging
from typing import Any

import numpy as np

from bench.compare_alignment.cells import Cells
from bench.compare_alignment.page import METHODS
from bench.finish import RESULT
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import wins
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.best_of_n import best_of_n_kl, best_of_n_values
from groundup.core.rollout.prompts import Prompt
from groundup.core.training.runtime import set_up
from groundup.evaluate.gold import Absent, agreement_metrics, chats, gold_metrics, load_gold_judge
from groundup.evaluate.intervals import with_interval
from groundup.evaluate.length_control import length_controlled_win_rate
from groundup.evaluate.measures.best_of_n import Pool, reply_pool
from groundup.evaluate.measures.overoptimization import FILE, Study, read_points, study
from groundup.evaluate.replies import ModelReplies, fit_prompts, reply_metrics, reply_to_prompts
from groundup.runner.files import read_json
from groundup.runner.params.evaluate import EvaluateParams

logger = logging.getLogger(__name__)

# Of a cell's own metrics, what the page shows.
TRAINING = ("train_seconds", "cell_seconds", "samples_per_second", "kept_iteration", "stopped_early", "alarms_fired")


def score(cells: Cells) -> dict[str, Any]:
    """All figures of the comparison; ValueError if a cell is not finished, for the judge is looked at once."""
    if unfinished := cells.unfinished():
        raise ValueError(
            f"not all cells are trained, {', '.join(unfinished)} are missing: run without --method, --seed"
        )
    params = cells.params.evaluate
    device = set_up(cells.params.runtime, cells.device, params.seed)
    judge = load_gold_judge(cells.artifacts / "data/judge", params.gold_judge)
    if isinstance(judge, Absent):
        raise ValueError(f"there is no gold judge to compare by: {judge.reason}")
    sft_path = cells.artifacts / "sft"
    check_model(sft_path, CAUSAL)
    tokenizer = shared_tokenizer({"sft": sft_path})
    sft = load_causal_lm(sft_path, device).eval()
    # All of them: differences between methods are small.
    rows = list(read_jsonl(cells.artifacts / "data/prompts/test.jsonl", ("conversation_id", "messages", "reply")))
    prompts = fit_prompts(tokenizer, rows, sft.config.max_position_embeddings, params.max_new_tokens)
    pool_prompts = prompts[: params.best_of_n.num_prompts]
    runs: list[dict[str, Any]] = []
    curves: list[list[dict[str, float]]] = []
    for seed in cells.seeds:
        check_model(cells.reward(seed) / "out", REWARD)
        scorer = RewardScorer.load(cells.reward(seed) / "out", device)
        before = reply_to_prompts(sft, sft, scorer, tokenizer, prompts, params)
        curves.append(best_of_n_curve(judge, pool_prompts, reply_pool(sft, scorer, tokenizer, pool_prompts, params)))
        for method in METHODS:
            logger.info("scoring %s-%d", method, seed)
            folder = cells.policy(method, seed)
            after = reply_to_prompts(
                load_causal_lm(folder / "out", device).eval(), sft, scorer, tokenizer, prompts, params
            )
            points = read_points(folder / "report" / FILE)
            runs.append(
                {
                    "method": method,
                    "seed": seed,
                    **{name: read_json(folder / RESULT)[name] for name in TRAINING},
                    **proxy_metrics(prompts, before, after, params),
                    **gold_metrics(judge, prompts, before, after, params),
                    "points": study_rows(study(points, judge, params.bootstrap_samples, params.seed)),
                }
            )
    align = cells.params.align
    return {
        "num_seeds": cells.num_seeds,
        "num_prompts": len(prompts),
        "num_samples": align.num_iterations * align.rollout.batch_size,
        "best_of_n_num_prompts": len(pool_prompts),
        **agreement_metrics(judge.agreement),
        "runs": runs,
        "best_of_n": curves,
    }


def proxy_metrics(
    prompts: list[Prompt], before: ModelReplies, after: ModelReplies, params: EvaluateParams
) -> dict[str, float]:
    """What the reward model itself says of the replies, and how they read."""
    won = wins(after["rewards"], before["rewards"])
    conversations = [prompt.conversation_id for prompt in prompts]
    longer = np.array([len(a) - len(b) for a, b in zip(after["tokens"], before["tokens"], strict=True)], dtype=float)
    controlled = length_controlled_win_rate(won, longer, np.ones((1, len(won))))
    gains = np.array(after["rewards"]) - np.array(before["rewards"])
    return {
        "reward_difference": float(gains.mean()),
        **with_interval("win_rate_vs_sft", won.tolist(), conversations, params),
        "win_rate_vs_sft_length_controlled": float(controlled[0]),
        "kl_to_sft": float(np.mean(after["kl"])),
        **reply_metrics(after, conversations, params),
    }


def best_of_n_curve(judge: Judge, prompts: list[Prompt], pool: Pool) -> list[dict[str, float]]:
    """Proxy and gold gain over one reply for n = 1, 2, 4 ..., in standard deviations of the SFT model's replies."""
    num_replies = len(pool["texts"][0])
    repeated = [prompt for prompt in prompts for _ in range(num_replies)]
    gold = judge.score(chats(repeated, [text for row in pool["texts"] for text in row])).reshape(-1, num_replies)
    proxy = np.array(pool["scores"])
    return [
        {
            "n": n,
            "kl": best_of_n_kl(n),
            "proxy_gain": float((best_of_n_values(proxy, proxy, n).mean() - proxy.mean()) / proxy.std()),
            "gold_gain": float((best_of_n_values(proxy, gold, n).mean() - gold.mean()) / gold.std()),
        }
        for n in (2**power for power in range(num_replies.bit_length()))
    ]


def study_rows(result: Study) -> list[dict[str, Any]]:
    return [
        {
            "iteration": point.iteration,
            "kl": point.kl,
            "kept": point.kept,
            "proxy_gain": point.proxy.value,
            "gold_gain": point.gold.value,
            "gold_gain_low": point.gold.low,
            "gold_gain_high": point.gold.high,
        }
        for point in sorted(result.points, key=lambda point: point.iteration)
    ]
