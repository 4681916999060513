"""The results in plain sentences that say no more than the intervals allow."""

from collections.abc import Mapping, Sequence
from typing import Any

TRAINING_SETS = ("text", "chats", "preferences", "prompts")  # the files of prepare that models are trained on
MODELS = {"base": "Base", "sft": "SFT", "aligned": "Aligned"}


def percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"  # no line break before the sign


def percent_range(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {percent(high)}"


def interval(metrics: Mapping[str, Any], name: str) -> str:
    return f"{number(metrics[f'{name}_ci_low'])} to {number(metrics[f'{name}_ci_high'])}"


def number(value: float) -> str:
    """Two decimals, and no minus before zero."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def headline(metrics: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    return [
        _win_sentence(metrics, "sft", "the SFT model"),
        _reward_sentence(metrics),
        _style_sentence(metrics),
        _bits_sentence(metrics),
        *_task_sentences(metrics["aligned"], tasks),
    ]


def _win_sentence(metrics: Mapping[str, Any], opponent: str, name: str) -> str:
    rate, low, high = (metrics[f"win_rate_vs_{opponent}{end}"] for end in ("", "_ci_low", "_ci_high"))
    if low > 0.5:
        verdict = f"Under the reward model the aligned model beats {name}"
    elif high < 0.5:
        verdict = f"Under the reward model the aligned model loses to {name}"
    else:
        verdict = f"Under the reward model the aligned model cannot be told apart from {name}"
    return (
        f"{verdict}: its reply is preferred in {percent(rate)} of {metrics['num_prompts']} held-out prompts "
        f"(95\u00a0% CI {percent(low)} to {percent(high)}; ties count half)."
    )


def _reward_sentence(metrics: Mapping[str, Any]) -> str:
    before, after = metrics["sft"]["reward"], metrics["aligned"]["reward"]
    moved = "stayed at" if number(before) == number(after) else f"went from {number(before)} to"
    return (
        f"With alignment the mean reward {moved} {number(after)}, at a distance of "
        f"{number(metrics['aligned']['kl_to_sft'])} nats a reply from the SFT model."
    )


def _style_sentence(metrics: Mapping[str, Any]) -> str:
    sft, aligned = metrics["sft"], metrics["aligned"]
    return (
        f"A reply has {aligned['reply_length']:.1f} tokens on average (SFT {sft['reply_length']:.1f}), "
        f"{percent(aligned['end_of_turn_rate'])} of them end by themselves (SFT {percent(sft['end_of_turn_rate'])}), "
        f"and {percent(aligned['distinct_2'])} of their bigrams are distinct (SFT {percent(sft['distinct_2'])})."
    )


def _bits_sentence(metrics: Mapping[str, Any]) -> str:
    base, sft, aligned = (number(metrics[model]["bits_per_byte"]) for model in MODELS)
    counted = number(metrics["ngram"]["bits_per_byte"])
    return (
        f"On held-out text base, SFT and aligned model need {base}, {sft} and {aligned} bits per byte; n-grams of the "
        f"same training text need {counted}."
    )


def _task_sentences(scores: Mapping[str, float], tasks: Sequence[str]) -> list[str]:
    """Tasks grouped by what their interval allows to say."""
    verdicts: dict[str, list[str]] = {}
    for task in tasks:
        accuracy, low, high = (scores[f"{task}_accuracy{end}"] for end in ("", "_ci_low", "_ci_high"))
        chance = scores[f"{task}_chance"]
        if low > chance:
            verdict = "The aligned model chooses better than guessing"
        elif high < chance:
            verdict = "The aligned model chooses worse than guessing"
        else:
            verdict = "No better or worse than guessing, as far as the interval tells"
        figures = f"{task.replace('_', ' ')} {percent(accuracy)} (guessing {percent(chance)})"
        verdicts.setdefault(verdict, []).append(figures)
    return [f"{verdict}: {', '.join(figures)}." for verdict, figures in verdicts.items()]


def task_title(task: str) -> str:
    return f"{task.replace('_', ' ').capitalize()} choice"


def seen_in_training(metrics: Mapping[str, float], task: str) -> str:
    """The share of a task's items in each training set that has any."""
    shares = {name: metrics[f"{task}_contamination_{name}"] for name in TRAINING_SETS}
    return ", ".join(f"{name} {100 * share:.1f}\u00a0%" for name, share in shares.items() if share) or percent(0)
