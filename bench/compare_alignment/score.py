"""Every cell and best of n under the gold judge, once, when all are trained."""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from bench.compare_alignment.cells import Cells
from bench.compare_alignment.page import BEST_OF_N, METHODS, SAME_STYLE
from bench.finish import RESULT
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.records import Message
from groundup.core.judging.gates import NUM_ITEMS
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import Floats, wins
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.context import context_length
from groundup.core.model.generation import Replies, Sampler, ended_chats
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.best_of_n import best_of_n_kl, best_of_n_values
from groundup.core.rollout.engine import Builtin
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.style import asks, greets, human_style_rates, style_rates
from groundup.core.training.runtime import set_up
from groundup.evaluate.controls import choose_controls
from groundup.evaluate.gold import (
    WIN_RATE,
    Absent,
    Contest,
    agreement_metrics,
    chats,
    control_metrics,
    gold_metrics,
    human_metrics,
    load_gold_judge,
    moved_win_rate,
    win_rate,
)
from groundup.evaluate.intervals import with_interval
from groundup.evaluate.length_control import length_controlled_win_rate
from groundup.evaluate.measures.overoptimization import FILE, Study, read_points, study
from groundup.evaluate.replies import ModelReplies, fit_prompts, reply_metrics, reply_to_prompts
from groundup.runner.files import read_json
from groundup.runner.params.evaluate import EvaluateParams

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

NUM_REPLIES = 16  # of the SFT model to each prompt, of which best of n takes the best
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
    prompts = fit_prompts(tokenizer, rows, context_length(sft, tokenizer), params.max_new_tokens)
    judge = judge.centred_on([prompt.messages for prompt in prompts])
    pool = sample_pool(sft, tokenizer, prompts, params)
    start = read_points(cells.policy(METHODS[0], cells.seeds[0]) / "report" / FILE)
    runs: list[dict[str, Any]] = []
    curves: list[list[dict[str, float]]] = []
    for seed in cells.seeds:
        check_model(cells.reward(seed) / "out", REWARD)
        scorer = RewardScorer.load(cells.reward(seed) / "out", device)
        before = reply_to_prompts(Builtin(), sft, sft, scorer, tokenizer, prompts, params)

        def compared(after: ModelReplies, seed: int = seed, before: ModelReplies = before) -> dict[str, Any]:
            contest = Contest(prompts, after["texts"], before["texts"])
            alike = of_same_style(contest)
            return {
                "seed": seed,
                **proxy_metrics(prompts, before, after, params),
                **gold_metrics(judge, prompts, before, after, params),
                **moved_win_rate(WIN_RATE, judge, contest, params, within_opening=False),
                **win_rate(SAME_STYLE, judge, alike, params),
                f"{SAME_STYLE}{NUM_ITEMS}": len(alike.prompts),
                **style_rates(prompts, after["texts"]),
            }

        for method in METHODS:
            logger.info("scoring %s-%d", method, seed)
            folder = cells.policy(method, seed)
            policy = load_causal_lm(folder / "out", device).eval()
            points = read_points(folder / "report" / FILE)
            runs.append(
                {
                    "method": method,
                    **{name: read_json(folder / RESULT)[name] for name in TRAINING},
                    **compared(reply_to_prompts(Builtin(), policy, sft, scorer, tokenizer, prompts, params)),
                    "points": study_rows(study(points, judge, params.bootstrap_samples, params.seed)),
                }
            )
        logger.info("scoring %s-%d", BEST_OF_N, seed)
        scores = pool_scores(scorer, tokenizer, prompts, pool)
        curves.append(best_of_n_curve(judge, prompts, pool_texts(tokenizer, pool), scores))
        runs.append({"method": BEST_OF_N, **compared(best_replies(tokenizer, pool, scores))})
    validation = Contest.of_points(start)
    people = Contest.of_people(prompts, before)
    there = judge.centred_on([prompt.messages for prompt in validation.prompts])
    chosen = choose_controls(there, [prompt.messages for prompt in validation.prompts], validation.theirs)
    controls = control_metrics(judge, chosen, Contest(prompts, before["texts"], before["texts"]), people, params)
    align = cells.params.align
    return {
        "num_seeds": cells.num_seeds,
        "num_prompts": len(prompts),
        "num_samples": align.num_iterations * align.rollout.batch_size,
        "num_replies": NUM_REPLIES,
        **agreement_metrics(judge.agreement),
        "people": human_metrics(judge, prompts, before, params) | human_style_rates(prompts),
        "sft": style_rates(prompts, before["texts"]),
        "controls": {name: value for name, value in controls.items() if not name.startswith(WIN_RATE)},
        "runs": runs,
        "best_of_n": curves,
    }


def of_same_style(contest: Contest) -> Contest:
    """The prompts that both answer with a greeting or neither does, and with a question or neither does."""

    def style(messages: Sequence[Message], reply: str) -> tuple[bool, bool]:
        return greets(messages, reply), asks(messages, reply)

    rows = [
        (prompt, ours, theirs)
        for prompt, ours, theirs in zip(contest.prompts, contest.ours, contest.theirs, strict=True)
        if style(prompt.messages, ours) == style(prompt.messages, theirs)
    ]
    return Contest([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def sample_pool(
    sft: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], params: EvaluateParams
) -> Replies:
    """NUM_REPLIES to each prompt, the same for all reward models."""
    logger.info("sampling %d replies of the SFT model to each of %d prompts", NUM_REPLIES, len(prompts))
    sampler = Sampler.of(tokenizer, params.max_new_tokens, params.temperature, params.best_of_n.batch_size)
    return sampler.sample(sft, repeated([prompt.ids for prompt in prompts]), params.seed)


def pool_scores(
    scorer: RewardScorer, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], pool: Replies
) -> Floats:
    """[P, NUM_REPLIES]"""
    asked = repeated([prompt.ids for prompt in prompts])
    scores, _ = scorer.score(ended_chats(asked, pool.tokens, pool.ended, tokenizer.eos_token_id))
    return scores.double().numpy().reshape(len(prompts), NUM_REPLIES)


def pool_texts(tokenizer: PreTrainedTokenizerFast, pool: Replies) -> list[str]:
    return [text.strip() for text in tokenizer.batch_decode(pool.tokens, skip_special_tokens=True)]


def best_replies(tokenizer: PreTrainedTokenizerFast, pool: Replies, scores: Floats) -> ModelReplies:
    """The one with the highest score for each prompt; its KL is the bound."""
    places = (np.arange(len(scores)) * NUM_REPLIES + scores.argmax(axis=1)).tolist()
    tokens = [pool.tokens[place] for place in places]
    return ModelReplies(
        texts=[text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)],
        tokens=tokens,
        ended=[pool.ended[place] for place in places],
        rewards=scores.max(axis=1).tolist(),
        kl=[best_of_n_kl(NUM_REPLIES)] * len(scores),
    )


def repeated(items: Sequence[Item]) -> list[Item]:
    """Each NUM_REPLIES times in a row, as replies of a pool are."""
    return [item for item in items for _ in range(NUM_REPLIES)]


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


def best_of_n_curve(
    judge: Judge, prompts: Sequence[Prompt], texts: Sequence[str], proxy: Floats
) -> list[dict[str, float]]:
    """Proxy and gold gain over one reply for n = 1, 2, 4 ..., in standard deviations of the SFT model's replies."""
    gold = judge.score(chats(repeated(prompts), texts)).reshape(proxy.shape)
    return [
        {
            "n": n,
            "kl": best_of_n_kl(n),
            "proxy_gain": float((best_of_n_values(proxy, proxy, n).mean() - proxy.mean()) / proxy.std()),
            "gold_gain": float((best_of_n_values(proxy, gold, n).mean() - gold.mean()) / gold.std()),
        }
        for n in (2**power for power in range(NUM_REPLIES.bit_length()))
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
