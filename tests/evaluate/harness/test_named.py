import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from lm_eval.tasks import TaskManager
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.harness.models import Encoder, LoadedModel, LoadedNgrams
from groundup.evaluate.harness.named import NamedTasks, _metrics, metric_name
from groundup.evaluate.ngram import NgramModel

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{data}"}}
  cache_dir: "{cache}"
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
{more}
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """lm-eval with the tasks of a folder only: listing its own thousands takes seconds."""
    rows = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2} for i in range(8)]
    three = [{"question": f"{i}?", "choices": ["yes", "no", "why"], "answer": i % 3} for i in range(8)]
    data = tmp_path / "rows.json"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    more_choices = tmp_path / "three.json"
    more_choices.write_text("\n".join(map(json.dumps, three)), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, path, more in (
        ("parity", data, ""),
        ("absent", tmp_path / "absent.json", ""),
        ("coding", data, "unsafe_code: true"),
        ("three", more_choices, ""),
        ("shots", data, "num_fewshot: 2\nfewshot_split: test"),
    ):
        text = TASK.format(name=name, data=path, cache=tmp_path / "cache", more=more)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    manager = functools.partial(TaskManager, include_path=str(folder), include_defaults=False)
    monkeypatch.setattr("groundup.evaluate.harness.named.TaskManager", manager)
    return folder


def test_a_task_by_name_is_scored_with_its_interval(
    tasks: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    named = NamedTasks(["parity"], seed=1)
    assert named.texts()["parity"][3] == ["Is 3 even? yes", "Is 3 even? no"]
    scores = named.scores(LoadedModel(tiny_model, Encoder(tiny_tokenizer), 4), 10, None)
    assert set(scores) == {"parity_acc", "parity_acc_ci_low", "parity_acc_ci_high", "parity_chance"}
    assert scores["parity_chance"] == 0.5
    accuracy = scores["parity_acc"]
    error = math.sqrt(accuracy * (1 - accuracy) / 7)
    assert scores["parity_acc_ci_high"] - accuracy == pytest.approx(1.96 * error)


def test_chance_and_the_number_of_items_are_the_tasks(
    tasks: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = LoadedModel(tiny_model, Encoder(tiny_tokenizer), 4)
    scores = NamedTasks(["three"], seed=1).scores(lm, 10, limit=2)
    assert scores["three_chance"] == pytest.approx(1 / 3)
    assert scores["three_acc"] in (0.0, 0.5, 1.0)  # of two items
    error = math.sqrt(scores["three_acc"] * (1 - scores["three_acc"]))
    assert scores["three_acc_ci_high"] - scores["three_acc"] == pytest.approx(1.96 * error)


def test_the_seed_draws_the_examples(tasks: Path) -> None:
    first, again, other = (NamedTasks(["shots"], seed=seed).texts() for seed in (1, 1, 2))
    assert first == again != other
    assert first["shots"][0][0].count("even?") == 3  # two with their answers, then the question


def test_ngrams_are_measured_on_likelihoods_alone(tasks: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    named = NamedTasks(["parity", "three"], seed=1)
    named.tasks["three"].OUTPUT_TYPE = "generate_until"
    ngrams = NgramModel(np.arange(5, dtype=np.uint64), 2, len(tiny_tokenizer))
    scores = named.scores(LoadedNgrams(ngrams, Encoder(tiny_tokenizer)), 10, None)
    assert {name.partition("_")[0] for name in scores} == {"parity"}


def test_all_that_cannot_be_run_is_said_at_once(tasks: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluate\.tasks in params\.yaml") as error:
        NamedTasks(["parrity", "absent", "coding", "nothing like it", "coding"], seed=1)
    said = str(error.value)
    for expected in (
        "lm-eval has no task parrity: did you mean parity?",
        "lm-eval has no task nothing like it: `lm-eval ls tasks` lists them",
        "coding: named more than once",
        "absent cannot be loaded (",
        "HF_HUB_OFFLINE=0 dvc repro evaluate",
        "coding runs code that the model has written",
    ):
        assert expected in said


def test_no_names_need_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.evaluate.harness.named.TaskManager", None)
    assert NamedTasks([], seed=1).tasks == {}


def test_lm_evals_keys_become_metric_names(caplog: pytest.LogCaptureFixture) -> None:
    values = {
        "alias": " - a",
        "sample_len": 10,
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.1,
        "perplexity,none": float("inf"),
        "perplexity_stderr,none": "N/A",
        "bits_per_byte,none": 2,
        "bits_per_byte_stderr,none": "N/A",
    }
    assert dict(_metrics("gsm8k", values)) == {
        "gsm8k_exact_match_strict-match": 0.5,
        "gsm8k_exact_match_strict-match_ci_low": pytest.approx(0.304),
        "gsm8k_exact_match_strict-match_ci_high": pytest.approx(0.696),
        "gsm8k_bits_per_byte": 2.0,
    }
    assert "gsm8k_perplexity is inf, so it is left out" in caplog.text
    assert metric_name("a b::c/d") == "a_b__c_d"
