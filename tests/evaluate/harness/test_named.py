import functools
import json
import math
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.harness.models import Encoder, LoadedModel
from groundup.evaluate.harness.named import NamedTasks, _metrics, metric_name

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
    """lm-eval with tasks of a folder alone: its own thousands take seconds to list."""
    rows = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2} for i in range(8)]
    data = tmp_path / "rows.json"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, path, more in (
        ("parity", data, ""),
        ("absent", tmp_path / "absent.json", ""),
        ("coding", data, "unsafe_code: true"),
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
    assert "gsm8k_perplexity is inf and left out" in caplog.text
    assert metric_name("a b::c/d") == "a_b__c_d"
