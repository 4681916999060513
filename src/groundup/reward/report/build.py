"""The reward model's report: report.json, report.md and two plots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from groundup.reward.pairs import PREFIX
from groundup.reward.report.bag_of_words import BagOfWords
from groundup.reward.report.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, calibration_figures
from groundup.reward.report.figures import (
    MIN_CONVERSATIONS,
    Bucket,
    all_buckets,
    by_bucket,
    compare_with_baselines,
    correlations,
    distinct_excerpts,
    rule_outcomes,
)
from groundup.reward.report.groups import TITLES, group_figures
from groundup.reward.report.plots import accuracy_png, reliability_png
from groundup.reward.report.scores import ScoredPairs, preference_pairs
from groundup.reward.report.uncertainty import Uncertainty, ood_figures, pair_figures
from groundup.runner.files import write_json
from groundup.runner.params.training import RewardParams

BUCKET_TITLES = {
    "by_margin": "margin",
    "by_length_difference": "length difference",
    "by_source": "source",
    "by_kind": "kind",
}
NOT_MEASURED = {
    "reward_length_spearman": "all test excerpts have the same reward, or all the same length",
    "temperature": "the scores tell no val pair apart",
    "heldout_accuracy_ci_low": f"the test pairs have fewer than {MIN_CONVERSATIONS} conversations",
}


def reward_report(
    everything: Mapping[str, ScoredPairs],
    moved: Mapping[str, ScoredPairs],
    uncertainty: Uncertainty | None,
    num_too_long: int,
    num_steps: int,
    params: RewardParams,
    folder: Path,
) -> dict[str, Any]:
    """Write the report and return its figures; everything: the pairs that were trained on, all of val and test.

    moved: val and test with the prompts of other conversations.
    """
    scored = preference_pairs(everything)
    train, val, test = scored["train"], scored["val"], scored["test"]
    words = BagOfWords.fit(train.texts, val.texts, params.report.bag_of_words_strengths)
    outcomes = rule_outcomes(test, words.score_pairs(test.texts))
    metrics: dict[str, Any] = compare_with_baselines(outcomes, test.conversations)
    metrics |= {f"{split}_accuracy": float(scored[split].right.mean()) for split in ("val", "train")}
    metrics |= {f"num_pairs_{split}": len(scored[split].pairs) for split in scored}
    metrics["num_pairs_too_long"] = num_too_long
    metrics |= correlations(distinct_excerpts(test), params)
    calibrated, bins = calibration_figures(val.differences, test, params)
    metrics |= calibrated | group_figures(everything, moved, params) | {"num_steps": num_steps}
    if uncertainty:
        metrics |= pair_figures(uncertainty.errors, test.conversations, params)
        metrics |= ood_figures(uncertainty.inside, uncertainty.outside, params)
    (overall,) = by_bucket(["all pairs"], ["all pairs"] * len(test.pairs), outcomes, test.conversations)
    buckets = all_buckets(test, outcomes, params)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accuracy.png").write_bytes(accuracy_png([overall, *named_buckets(buckets)]))
    (folder / "reliability.png").write_bytes(reliability_png(bins))
    missing = not_measured(metrics)
    details = {
        "bag_of_words_strength": words.strength,
        **{key: [asdict(bucket) for bucket in group] for key, group in buckets.items()},
        "reliability": {key: [asdict(bin) for bin in group] for key, group in bins.items()},
        "not_measured": missing,
    }
    write_json(folder / "report.json", metrics | details)
    (folder / "report.md").write_text(markdown(metrics, buckets, missing, uncertainty), encoding="utf-8")
    return metrics


def markdown(
    metrics: Mapping[str, Any],
    buckets: Mapping[str, Sequence[Bucket]],
    missing: Mapping[str, str],
    uncertainty: Uncertainty | None,
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.md.j2").render(
        metrics=metrics,
        buckets=buckets,
        missing=missing,
        uncertainty=uncertainty,
        groups=TITLES,
        prefixes=PREFIX,
        min_conversations=MIN_CONVERSATIONS,
        min_temperature=MIN_TEMPERATURE,
        max_temperature=MAX_TEMPERATURE,
    )


def named_buckets(buckets: Mapping[str, Sequence[Bucket]]) -> list[Bucket]:
    """All buckets in one list, with the title of their group in the name; groups of one bucket are left out."""
    return [
        replace(bucket, name=f"{BUCKET_TITLES[key]} {bucket.name}")
        for key, group in buckets.items()
        for bucket in group
        if len(group) > 1
    ]


def not_measured(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Why a figure is null."""
    rating = (
        "all of them have the same reward, or all the same rating"
        if metrics["num_rated_excerpts"]
        else "people rated no test excerpt by itself: all pairs were given as pairs"
    )
    reasons = NOT_MEASURED | {"rating_spearman": rating}
    return {name: reason for name, reason in reasons.items() if metrics[name] is None}
