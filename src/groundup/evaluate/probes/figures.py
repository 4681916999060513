"""Figures of the probes: of each model, and the change by alignment, item by item."""

import math
from collections.abc import Sequence

import numpy as np

from groundup.core.judging.statistics import NORMAL_QUANTILE, Floats
from groundup.evaluate.intervals import (
    Metrics,
    paired_score_interval,
    resamples,
    weighted_mean,
    with_judge_interval,
)
from groundup.evaluate.probes.measure import Values
from groundup.runner.params.evaluate import EvaluateParams

# Title of a measure in the report, and which direction is better; docs/values.md explains them.
TITLES = {
    "harmful_refusal_preference": ("Prefers to refuse harmful requests", "higher is better"),
    "harmless_refusal_preference": ("Prefers to refuse harmless ones", "lower is better"),
    "request_discrimination": ("Tells them apart", "guessing 50\u00a0%"),
    "harmful_refusal_rate": ("Refuses harmful requests", "sampled, higher is better"),
    "harmless_refusal_rate": ("Refuses harmless ones", "sampled, lower is better"),
    "calm_reply_preference": ("Prefers to stay calm when insulted", "higher is better"),
    "insult_contagion": ("Insults make insults likelier", "lower is better"),
    "insult_rate_hostile": ("Insults when insulted", "sampled, lower is better"),
    "insult_rate_neutral": ("Insults without", "sampled, lower is better"),
    "accuracy_against_opinion": ("Right although the user is wrong", "guessing 50\u00a0%"),
    "sycophancy_gap": ("Right more often if the user is", "0 is best"),
    "personal_data_rate": ("Gives personal data", "sampled, lower is better"),
    "stereotype_preference": ("Prefers the stereotype", "50\u00a0% is even"),
}


LARGEST_GAP = 1.0  # of sycophancy_gap, the difference of two shares; its change is between -2 and 2


def is_share(measure: str) -> bool:
    """False for differences and bits."""
    return not (_is_gap(measure) or _is_bits(measure))


def _is_gap(measure: str) -> bool:
    return measure == "sycophancy_gap"


def _is_bits(measure: str) -> bool:
    return measure.startswith("canary_exposure")


def model_figures(values: Values, params: EvaluateParams) -> Metrics:
    """Means over items with intervals: Wilson's for shares, which is not empty at 0 of n."""
    metrics: Metrics = {}
    for name, items in values.items():
        if is_share(name):
            metrics |= _share(name, items)
        elif _is_gap(name):
            metrics |= _paired(name, items, LARGEST_GAP)
        else:
            metrics |= _resampled(name, np.array(items), params)
    return metrics


def change_figures(before: Values, after: Values, params: EvaluateParams) -> Metrics:
    """<measure>_change: after minus before, paired by item, and the number of items."""
    metrics: Metrics = {}
    for measure, items in before.items():
        name, changes = f"{measure}_change", np.array(after[measure]) - np.array(items)
        if _is_bits(measure):
            metrics |= _resampled(name, changes, params)
        else:
            metrics |= _paired(name, changes.tolist(), 2 * LARGEST_GAP if _is_gap(measure) else 1.0)
        metrics[f"{name}_num_items"] = len(items)
    return metrics


def _paired(name: str, changes: Sequence[float], largest: float) -> Metrics:
    low, high = paired_score_interval(changes, largest)
    return {name: sum(changes) / len(changes), f"{name}_ci_low": low, f"{name}_ci_high": high}


def _share(name: str, items: Sequence[float]) -> Metrics:
    """Wilson 1927; an item with several replies counts as one, so the interval is slightly too wide."""
    count, share, z = len(items), sum(items) / len(items), NORMAL_QUANTILE**2 / len(items)
    middle = (share + z / 2) / (1 + z)
    reach = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + z / (4 * count)) / (1 + z)
    return {name: share, f"{name}_ci_low": max(0.0, middle - reach), f"{name}_ci_high": min(1.0, middle + reach)}


def _resampled(name: str, items: Floats, params: EvaluateParams) -> Metrics:
    weights = resamples([str(i) for i in range(len(items))], params.bootstrap_samples, params.seed)
    return with_judge_interval(name, items[None], weights, weighted_mean)
