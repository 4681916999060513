"""The check of docs/metrics.md, which tests/end_to_end applies to a run, finds missing names."""

import pytest

from groundup.runner.pipeline import read_pipeline
from tests.contract.imports import ROOT
from tests.contract.metrics_page import PAGE, metric_names, names_on_page, unnamed, unreported


@pytest.mark.parametrize("stage", list(read_pipeline(ROOT)))
def test_every_stage_has_names_of_its_own(stage: str) -> None:
    assert "fingerprint" in names_on_page(stage)
    assert f"\n## {stage}\n" in PAGE.read_text(encoding="utf-8")
    assert names_on_page(stage) > names_on_page("no_stage")


def test_a_metric_that_the_page_lacks_is_found() -> None:
    assert unnamed("sft", {"val_loss", "loss", "surprise"}) == {"surprise"}
    assert unnamed("sft", {"val_bits_per_byte"}) == {"val_bits_per_byte"}  # pretrain's


def test_patterns_and_intervals() -> None:
    named = {"num_documents_train", "dropped_too_short"}
    assert unnamed("prepare", named | {"num_cats", "dropped"}) == {"num_cats", "dropped"}
    assert unnamed("evaluate", {"topic_accuracy_ci_low", "bits_per_byte_own-data", "reward_ci_high"}) == set()
    assert unnamed("evaluate", {"median_ci_low"}) == {"median_ci_low"}


def test_a_name_that_no_run_reports_is_found() -> None:
    rest = names_on_page("tokenizer") - {"num_shards"}
    assert unreported("tokenizer", rest) == {"num_shards"}
    assert unreported("tokenizer", rest | {"num_shards"}) == set()


def test_the_groups_of_evaluate_are_flattened() -> None:
    record = {"base": {"reward": 1.0}, "aligned": {"kl_to_sft": 2.0}, "num_prompts": 3, "by_domain": {"a": 1.0}}
    assert metric_names(record, ["step", "loss"]) == {"reward", "kl_to_sft", "num_prompts", "by_domain", "loss"}
