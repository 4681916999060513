"""Made-up inputs of measures."""

from types import SimpleNamespace
from typing import Any

from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import named_uncentred
from groundup.evaluate.measures.contamination import TRAINING_SETS
from groundup.evaluate.replies import ModelReplies
from tests.evaluate.judging import PARAMS, CountingJudge
from tests.evaluate.measures.decoded import decoding_figures, interval

PROMPT = Prompt(
    "c1", [{"role": "system", "content": "the sea"}, {"role": "user", "content": "<b>Hi</b> | *you*"}], [1, 2], None
)


def context(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "params": PARAMS,
        "judge": CountingJudge(),
        "independence": None,
        "points": [],
        "named": SimpleNamespace(tasks={}, groups={}),
        "test_set": SimpleNamespace(
            documents=[{"source": "wikipedia"}, {"source": "chitchat"}],
            num_documents_in_split=20,
            tasks={"topic": [{}] * 300},
            empty_tasks=[],
        ),
        "prompts": [PROMPT],
        "replies": {
            model: ModelReplies(texts=[f"{model} <i>says</i>"], tokens=[[1]], ended=[True], rewards=[0.5], kl=[0.0])
            for model in ("base", "sft", "aligned")
        },
    }
    return SimpleNamespace(**values | changes)


def task_scores(bits: float, accuracy: float) -> dict[str, float]:
    return {
        **interval("bits_per_byte", bits, bits - 0.1, bits + 0.1),
        **interval("bits_per_byte_wikipedia", 1.8, 1.7, 1.9),
        **interval("bits_per_byte_chitchat", 2.0, 1.9, 2.1),
        **interval("topic_accuracy", accuracy, accuracy - 0.1, accuracy + 0.1),
        "topic_chance": 0.25,
    }


def scores(reward: float, kl: float) -> dict[str, float]:
    return {
        **task_scores(1.9, 0.4),
        **interval("reward", reward, reward - 0.1, reward + 0.1),
        **interval("kl_to_sft", kl, kl, kl),
        **interval("reply_length", 12.25, 11.5, 13.0),
        **interval("distinct_2", 0.7, 0.65, 0.75),
        "end_of_turn_rate": 0.96,
        **interval("insult_rate_hostile", 0.25, 0.125, 0.5),
    }


def metrics(low: float = 0.55, high: float = 0.65, **changes: Any) -> dict[str, Any]:
    """low, high: of the win rate against the SFT model."""
    return {
        "base": scores(-1.0, 9.0),
        "sft": scores(0.25, 0.0),
        "aligned": scores(0.75, 3.5),
        "unigram": task_scores(2.75, 0.26),
        "ngram": task_scores(2.01, 0.27),
        "untrained": task_scores(3.5, 0.25),
        **{f"topic_contamination_{name}": 0.0 for name in ("text", "preferences", "prompts")},
        "topic_contamination_chats": 0.007,
        **{f"{items}_contamination_{name}": 0.0 for items in ("bits_per_byte", "prompts") for name in TRAINING_SETS},
        "prompts_contamination_compared_whole": 0.25,
        "prompts_contamination_exact_matches": 0.0,
        **interval("win_rate_vs_sft", 0.6, low, high),
        **interval("win_rate_vs_base", 0.9, 0.85, 0.95),
        **interval("reply_length_change", 0.08, 0.04, 0.12),
        **interval("distinct_2_change", -0.07, -0.08, -0.06),
        **gold(0.45, 0.75),
        **decoding_figures(),
        **interval("insult_rate_hostile_change", 0.0, -0.25, 0.25),
        "num_prompts": 200,
        "num_documents": 10,
        **changes,
    }


def controls(constant: float = 0.4) -> dict[str, Any]:
    """constant: win rate of the best constant reply."""
    rates = {
        "win_rate_vs_sft_gold_moved": 0.5,
        "win_rate_vs_sft_gold_moved_within_opening": 0.51,
        "win_rate_human_vs_sft_gold_moved": 0.49,
        "win_rate_human_vs_sft_gold_moved_within_opening": 0.5,
        "win_rate_constant_vs_sft_gold": constant,
        "win_rate_two_constants_vs_sft_gold": 0.42,
        "win_rate_echo_vs_sft_gold": 0.01,
        "win_rate_template_vs_sft_gold": 0.45,
    }
    figures = {
        key: value
        for name, rate in rates.items()
        for key, value in interval(name, rate, rate - 0.04, rate + 0.04).items()
    }
    return figures | {"num_controls_that_win": int(constant > 0.54)}


def uncentred(figures: dict[str, Any]) -> dict[str, Any]:
    return named_uncentred(figures)


def gold(low: float, high: float) -> dict[str, Any]:
    """low, high: of the win rate."""
    return {
        **interval("judge_agreement", 0.7, 0.65, 0.75),
        "judge_num_pairs": 200,
        "judge_num_conversations": 40,
        **interval("gold_reward_before", 7.5, 7.0, 8.0),
        **interval("gold_reward_after", 8.0, 7.5, 8.5),
        **interval("gold_reward_difference", 0.5, 0.25, 0.75),
        **interval("win_rate_vs_sft_gold", 0.6, low, high),
        **interval("win_rate_vs_sft_gold_length_controlled", 0.55, 0.4, 0.7),
        **interval("gold_reward_human", 9.0, 8.5, 9.5),
        **interval("win_rate_human_vs_sft_gold", 0.8, 0.75, 0.85),
        **interval("win_rate_base_vs_sft_gold", 0.3, 0.25, 0.35),
        **interval("gold_reward_base", 7.0, 6.5, 7.5),
        **interval("rating_base_gold", 850.0, 800.0, 900.0),
        **interval("rating_aligned_gold", 1070.0, 1010.0, 1130.0),
        **interval("rating_human_gold", 1240.0, 1190.0, 1290.0),
        "num_human_replies": 150,
        **controls(),
        **uncentred(controls(constant=0.7)),
        **uncentred(interval("win_rate_vs_sft_gold", 0.65, 0.6, 0.7)),
        **uncentred(interval("win_rate_human_vs_sft_gold", 0.8, 0.75, 0.85)),
        **interval("best_of_n_gold_difference", 0.25, 0.0, 0.5),
        "best_of_n_kl": 3.0,
        "best_of_n_largest_kl": 3.0,
        "best_of_n_n": 50,
        "best_of_n_num_prompts": 30,
    }
