"""Best of n: what the SFT model and the reward model give without training, at the aligned model's KL."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.judging.judge import Judge
from groundup.core.model.generation import Sampler
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.best_of_n import best_of_n_kl, best_of_n_values, nearest_n, sample_pool
from groundup.core.rollout.engine import RolloutEngine, Source
from groundup.core.rollout.prompts import Prompt
from groundup.core.training.ranks import gathered, own_share
from groundup.core.training.runtime import draw
from groundup.evaluate.gold import Absent, chats
from groundup.evaluate.intervals import Metrics, resamples, weighted_mean, with_judge_interval
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import Shown, number, number_with_interval
from groundup.runner.params.evaluate import EvaluateParams

KL_TOLERANCE = 0.25  # nats: a smaller difference in KL counts as none, because n is a whole number


class BestOfN(Measure):
    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        context, params = self.context, self.context.params
        if isinstance(context.judge, Absent):
            return {}
        prompts = draw(context.prompts, params.best_of_n.num_prompts, params.seed)
        pool = context.steps.get(
            "best-of-n", reply_pool, context.engine, context.sft, context.scorer, context.tokenizer, prompts, params
        )
        return best_of_n_metrics(context.judge, prompts, pool, metrics["aligned"]["kl_to_sft"], params)

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        if "best_of_n_n" not in metrics:
            return Shown()
        kl, reached = metrics["aligned"]["kl_to_sft"], metrics["best_of_n_kl"]
        distance = f"KL {number(reached)}, aligned {number(kl)}"
        if kl > metrics["best_of_n_largest_kl"] + KL_TOLERANCE:
            distance += ", farther than the pool of replies reaches"
        return Shown(
            sentences=[
                f"Without training, the best of {metrics['best_of_n_n']} replies of the SFT model ({distance}) moves "
                f"the gold score by {number_with_interval(metrics, 'best_of_n_gold_difference')} on "
                f"{metrics['best_of_n_num_prompts']} prompts."
            ]
        )


class Pool(TypedDict):
    """Replies of the SFT model, [P][N]."""

    texts: list[list[str]]
    scores: list[list[float]]  # of the reward model


def reply_pool(
    engine: RolloutEngine,
    sft: PreTrainedModel,
    scorer: RewardScorer,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    params: EvaluateParams,
) -> Pool:
    engine.push(Source.whole(sft))
    own = sample_pool(
        engine,
        scorer,
        [prompt.ids for prompt in prompts],
        params.best_of_n.num_replies,
        Sampler.of(tokenizer, params.max_new_tokens, params.temperature, params.best_of_n.batch_size),
        params.seed,
        own_share(range(len(prompts))),
    )
    texts = [tokenizer.batch_decode(replies, skip_special_tokens=True) for replies in gathered(own.tokens)]
    return Pool(texts=[[text.strip() for text in row] for row in texts], scores=gathered(own.scores.tolist()))


def best_of_n_metrics(
    judge: Judge, prompts: Sequence[Prompt], pool: Pool, kl: float, params: EvaluateParams
) -> Metrics:
    """Gold score of the best of the n whose KL is nearest to `kl`, and its gain over a single reply to each prompt."""
    num_replies = params.best_of_n.num_replies
    repeated = [prompt for prompt in prompts for _ in range(num_replies)]
    golds = judge.score_by_resample(chats(repeated, [text for row in pool["texts"] for text in row]))
    golds = golds.reshape(len(golds), len(prompts), num_replies)
    scores = np.array(pool["scores"])
    n = nearest_n(kl, num_replies)
    gold = np.array([best_of_n_values(scores, scored, n) for scored in golds])  # [1 + R, P]
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)
    return {
        **with_judge_interval("best_of_n_gold", gold, weights, weighted_mean),
        **with_judge_interval("best_of_n_gold_difference", gold - golds.mean(axis=2), weights, weighted_mean),
        "best_of_n_reward": float(best_of_n_values(scores, scores, n).mean()),
        "best_of_n_kl": best_of_n_kl(n),
        "best_of_n_n": n,
        "best_of_n_largest_kl": best_of_n_kl(num_replies),
        "best_of_n_num_prompts": len(prompts),
    }
