"""The text of the reward model's report."""

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.reward.report.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from groundup.reward.report.figures import BASELINES, MIN_CONVERSATIONS, Bucket

BASELINE_NAMES = {"length_only": "the rule that prefers the longer side", "bag_of_words": "bag of words"}
BUCKETS = {
    "by_margin": (
        "By margin",
        "margin",
        "A pair's margin grows with how far apart its two ratings are; a pair of replies has none.",
    ),
    "by_length_difference": (
        "By length",
        "chosen minus rejected",
        "Length difference: tokens of the chosen side minus tokens of the rejected one. A model that merely follows "
        "length is right at one end and wrong at the other.",
    ),
    "by_source": ("By source", "source", ""),
    "by_kind": ("By kind of pair", "kind", ""),
}


def markdown(metrics: Mapping[str, Any], buckets: Mapping[str, Sequence[Bucket]], missing: Mapping[str, str]) -> str:
    """missing: why a figure is null."""
    parts = [
        "# Reward model",
        "\n".join(f"- {sentence}" for sentence in verdicts(metrics, buckets["by_kind"])),
        accuracy_table(metrics),
        "Intervals are 95 %, resampled over conversations, since pairs share them; there is none with fewer than "
        f"{MIN_CONVERSATIONS} conversations. A tie counts half. Bag of words is "
        "TF-IDF of the words and punctuation marks of what was said and a logistic regression on the difference of "
        "the two sides, fitted on the pairs that the reward model was trained on, its regularisation chosen on val.",
        f"Accuracy on the {metrics['num_pairs_train']} training pairs: {metrics['train_accuracy']:.3f}, on the "
        f"{metrics['num_pairs_val']} validation pairs: {metrics['val_accuracy']:.3f}. "
        f"{metrics['num_pairs_too_long']} pairs were left out as too long.",
        "![Accuracy in each bucket](accuracy.png)",
        *(bucket_table(*BUCKETS[key], group) for key, group in buckets.items()),
        "## Length and ratings",
        "\n".join(f"- {sentence}" for sentence in correlation_sentences(metrics, missing)),
        "## Calibration",
        calibration_table(metrics),
        temperature_sentence(metrics, missing),
        "The model's probability that the chosen side is better is sigmoid(difference of rewards / temperature); the "
        "temperature has the least negative log-likelihood on val. Confidence is the probability of the side that "
        "scores higher, in bins of equal width from 0.5 to 1. Always saying one half has a Brier score of 0.25.",
        "![Accuracy against confidence](reliability.png)",
    ]
    return "\n\n".join(parts) + "\n"


def verdicts(metrics: Mapping[str, Any], kinds: Sequence[Bucket]) -> list[str]:
    """Whether the lower end of the model's interval is above each baseline: on all pairs, then within each kind."""
    sentences = []
    low = number(metrics["heldout_accuracy_ci_low"])
    for baseline in BASELINES:
        if metrics["heldout_accuracy_ci_low"] is None:
            sentences.append(f"It cannot be said whether it beats {BASELINE_NAMES[baseline]}: it has no interval.")
            continue
        gain = f"accuracy_above_{baseline}"
        beats, relation = ("beats", "is above") if metrics[f"beats_{baseline}"] else ("does not beat", "is not above")
        sentences.append(
            f"It {beats} {BASELINE_NAMES[baseline]}: the lower end of its interval, {low}, {relation} that baseline's "
            f"accuracy, {metrics[f'{baseline}_accuracy']:.3f}. Paired difference: {metrics[gain]:+.3f} "
            f"({interval(metrics, gain)})."
        )
    if len(kinds) > 1:
        sentences += [kind_verdict(kind) for kind in kinds]
    return sentences


def kind_verdict(kind: Bucket) -> str:
    low = kind.heldout_accuracy_ci_low
    baselines = {"length_only": kind.length_only_accuracy, "bag_of_words": kind.bag_of_words_accuracy}
    told = [
        f"{'beats' if low is not None and value is not None and low > value else 'does not beat'} "
        f"{BASELINE_NAMES[name]} ({number(value)})"
        for name, value in baselines.items()
    ]
    return (
        f"On the {kind.num_pairs} pairs of kind {kind.name} alone (lower end {number(low)}) it {' and '.join(told)}."
    )


def accuracy_table(metrics: Mapping[str, Any]) -> str:
    rows = [
        f"| on {metrics['num_pairs_test']} test pairs | accuracy | interval | reward model minus it | interval |",
        "|---|---:|---|---:|---|",
        f"| reward model | {metrics['heldout_accuracy']:.3f} | {interval(metrics, 'heldout_accuracy')} | | |",
    ]
    for baseline, name in (("length_only", "prefer the longer side"), ("bag_of_words", "bag of words")):
        gain = f"accuracy_above_{baseline}"
        rows.append(
            f"| {name} | {metrics[f'{baseline}_accuracy']:.3f} | {interval(metrics, f'{baseline}_accuracy')} "
            f"| {metrics[gain]:+.3f} | {interval(metrics, gain)} |"
        )
    return "\n".join(rows)


def bucket_table(title: str, what: str, explanation: str, group: Sequence[Bucket]) -> str:
    rows = [
        f"## {title}\n",
        *([f"{explanation}\n"] if explanation else []),
        f"| {what} | pairs | conversations | reward model | interval | longer side | bag of words |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for bucket in group:
        low, high = bucket.heldout_accuracy_ci_low, bucket.heldout_accuracy_ci_high
        rows.append(
            f"| {bucket.name} | {bucket.num_pairs} | {bucket.num_conversations} | {number(bucket.heldout_accuracy)} "
            f"| {span(low, high)} | {number(bucket.length_only_accuracy)} | {number(bucket.bag_of_words_accuracy)} |"
        )
    return "\n".join(rows)


def correlation_sentences(metrics: Mapping[str, Any], missing: Mapping[str, str]) -> list[str]:
    rated = metrics["num_rated_excerpts"]
    told = {
        "reward_length_spearman": f"of the reward with length over {metrics['num_excerpts']} distinct test excerpts",
        "rating_spearman": f"of the reward with people's mean rating of the conversation over {rated} rated ones",
    }
    sentences = []
    for name, what in told.items():
        value = f"{metrics[name]:+.3f} ({interval(metrics, name)})" if name not in missing else "none"
        reason = f": {missing[name]}" if name in missing else ""
        sentences.append(f"Spearman {what}: {value}{reason}.")
    return sentences


def calibration_table(metrics: Mapping[str, Any]) -> str:
    rows = ["| on test pairs | calibration error | Brier score | interval |", "|---|---:|---:|---|"]
    for suffix, name in (("", "scores as they are"), ("_scaled", "with the temperature")):
        error, brier = metrics[f"expected_calibration_error{suffix}"], metrics[f"brier_score{suffix}"]
        rows.append(f"| {name} | {number(error)} | {number(brier)} | {interval(metrics, f'brier_score{suffix}')} |")
    return "\n".join(rows)


def temperature_sentence(metrics: Mapping[str, Any], missing: Mapping[str, str]) -> str:
    temperature = metrics["temperature"]
    if temperature is None:
        return f"No temperature: {missing['temperature']}."
    if temperature == MAX_TEMPERATURE:
        why = ", the highest allowed: on val a higher score does not go with being preferred"
    elif temperature == MIN_TEMPERATURE:
        why = ", the lowest allowed: on val every pair whose sides score differently is in order"
    elif temperature > 1:
        why = ": the scores claim more confidence than they are right"
    else:
        why = ": the scores claim no more confidence than they are right"
    return f"Temperature {temperature:.3f}{why}."


def interval(metrics: Mapping[str, Any], name: str) -> str:
    return span(metrics[f"{name}_ci_low"], metrics[f"{name}_ci_high"])


def span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
