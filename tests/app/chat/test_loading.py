import json
from pathlib import Path

import pytest
import torch

from groundup.app.chat.loading import Models, load_assistant
from groundup.core.formats.chat_format import END, SPECIAL_TOKENS

CPU = torch.device("cpu")


def test_models_are_loaded_once_and_get_the_reward_model_on_request(checkout: Path) -> None:
    models = Models(checkout, CPU)
    plain, scored = models.assistant("sft", rewarded=False), models.assistant("sft", rewarded=True)
    assert plain.scorer is None
    assert scored.scorer is not None
    assert plain.model is scored.model
    assert models.assistant("aligned", rewarded=True).scorer is scored.scorer


def test_no_model_writes_role_markers_whatever_its_generation_config_says(checkout: Path) -> None:
    path = checkout / "artifacts/sft/generation_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "suppress_tokens": [9]}), encoding="utf-8")
    assistant = load_assistant(checkout / "artifacts/sft", CPU)
    markers = assistant.tokenizer.convert_tokens_to_ids([token for token in SPECIAL_TOKENS if token != END])
    assert assistant.model.generation_config.suppress_tokens == [9, *sorted(markers)]


@pytest.mark.parametrize("name", ["", "none", "reward", "../sft", "/etc", "Aligned"])
def test_other_names_are_refused(checkout: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"unknown model '.*': choose base, sft, aligned, champion or a merged model in models/"
    ):
        Models(checkout, CPU).assistant(name, rewarded=False)


def test_a_fetched_model_is_no_chat_model_yet(checkout: Path) -> None:
    folder = checkout / "models/tiny"
    folder.mkdir(parents=True)
    (folder / "groundup.json").write_text("{}", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"tiny is as it was fetched, .* `groundup configure --base tiny` and `dvc repro`"
    ):
        Models(checkout, CPU).assistant("tiny", rewarded=False)


def test_what_is_missing_is_named(checkout: Path) -> None:
    models = Models(checkout, CPU)
    with pytest.raises(ValueError, match=r"there is no model in .*artifacts/base: train one with `dvc repro`"):
        models.assistant("base", rewarded=False)
    (checkout / "artifacts/reward/config.json").unlink()
    with pytest.raises(ValueError, match=r"artifacts/reward has none: train one with `dvc repro`, or choose greedy"):
        models.assistant("sft", rewarded=True)
    assert models.assistant("sft", rewarded=False).scorer is None


def test_a_reward_model_of_another_tokenizer_is_refused(checkout: Path) -> None:
    path = checkout / "artifacts/reward/tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = values["model"]["vocab"]
    vocabulary["ell"], vocabulary["rou"] = vocabulary["rou"], vocabulary["ell"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match="has another tokenizer than the model"):
        Models(checkout, CPU).assistant("sft", rewarded=True)


def test_a_champion_is_named_before_there_is_one(checkout: Path) -> None:
    with pytest.raises(ValueError, match="no champion yet: `dvc repro`"):
        Models(checkout, CPU).assistant("champion", rewarded=False)
