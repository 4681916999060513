"""Replies of the decoding methods, made up, and their figures."""

from typing import Any

from groundup.core.decoding import METHODS
from groundup.evaluate.measures.decoding import Decoded


def interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def decoded(reward: float = 0.0, log_prob: float = -10.0, num_replies: int = 1, text: str = "<b>yes</b>") -> Decoded:
    return Decoded(
        texts=[text] * num_replies,
        ended=[True] * num_replies,
        lengths=[4] * num_replies,
        rewards=[reward + i for i in range(num_replies)],
        log_probs=[log_prob - i for i in range(num_replies)],
        num_generated=[20] * num_replies,
        seconds=[0.1, 5.0, 0.2][:num_replies],
    )


def decoding_figures() -> dict[str, Any]:
    figures: dict[str, Any] = {
        "decoding_num_prompts": 12,
        "decoding_beam_at_least_greedy": 1.0,
        **interval("decoding_beam_log_prob_over_greedy", 4.0, 2.0, 6.0),
        **interval("decoding_tree_reward_over_best_of_n", 0.125, 0.0625, 0.25),
    }
    for i, method in enumerate(METHODS):
        figures |= interval(f"decoding_{method}_reward", 0.25 * i, 0.25 * i - 0.5, 0.25 * i + 0.5)
        figures |= interval(f"decoding_{method}_gold", 1.5, 1.0, 2.0)
        figures |= interval(f"decoding_{method}_log_prob", -20.0 + i, -30.0, -10.0)
        figures |= {f"decoding_{method}_tokens": 200.4, f"decoding_{method}_reply_length": 12.25}
        figures[f"decoding_{method}_seconds"] = 77.25
    return figures
