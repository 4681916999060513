"""The tokenizer stage with an open model: what it publishes, measures, packs and refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import AddedToken

from groundup.core.formats.adopted import adopt_tokenizer
from groundup.core.formats.chat_format import document_ends, encode_text, load_tokenizer
from groundup.runner.params.training import ScratchTokenizerParams, TokenizerParams
from groundup.tokenizer.open_model import publish_tokenizer
from stages import tokenizer as stage
from tests.open_tokenizers import SENTENCES, open_tokenizer, saved

NO_EFFECT = ScratchTokenizerParams(vocab_size=320, min_frequency=2, curve_vocab_sizes=[300])
PARAMS = TokenizerParams(scratch=NO_EFFECT, shard_tokens=2_000_000)


def publish(family: str, folder: Path, texts: list[str]) -> dict[str, object]:
    (folder / "text").mkdir(parents=True)
    for split in ("train", "val", "test"):
        rows = [{"text": text, "source": "talk"} for text in (texts if split != "test" else [])]
        (folder / f"text/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "report").mkdir()
    base = saved(open_tokenizer(family), folder / "a-model")
    names = {name: folder / name for name in ("text", "out", "report", "shards", "work")}
    return publish_tokenizer(base=base, locked=None, chat_template="own", params=PARAMS, context_length=64, **names)


@pytest.mark.parametrize("family", ["llama", "mistral", "unigram"])
def test_what_is_published_measured_and_packed(tmp_path: Path, family: str) -> None:
    texts = [*SENTENCES[:3], "Special: <s></s><|eot_id|> \u6f22\u5b57"]
    figures = publish(family, tmp_path, texts)
    tokenizer = load_tokenizer(str(tmp_path / "out"))
    assert tokenizer.model_max_length == 64  # model.context_length: all stages read it
    assert tokenizer.get_vocab() == adopt_tokenizer(tmp_path / "a-model", None).tokenizer.get_vocab()
    first, last = document_ends(tokenizer)
    stream = [token for text in texts for token in (first, *encode_text(tokenizer, text), last)]
    assert np.fromfile(tmp_path / "shards/00000.bin", dtype=np.uint16).tolist() == stream
    num_bytes, num_tokens = sum(len(text.encode()) for text in texts), len(stream) - 2 * len(texts)
    assert figures["val_bytes_per_token"] == round(num_bytes / num_tokens, 4)
    assert figures["num_tokens"] == len(stream)
    assert figures["vocab_size"] == len(tokenizer)
    report = (tmp_path / "report/report.md").read_text()
    assert "The tokenizer of a-model" in report
    assert f"- end of turn: `{tokenizer.eos_token}`" in report


def test_characters_that_a_vocabulary_lacks_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_tokenizer("gemma3")
    data = json.loads(base.backend_tokenizer.to_str())
    data["model"]["byte_fallback"] = False
    base._tokenizer = type(base.backend_tokenizer).from_str(json.dumps(data))
    monkeypatch.setattr(f"{__name__}.open_tokenizer", lambda family: base)
    with pytest.raises(
        ValueError, match=r"tokenizer: 1 held-out documents do not decode to themselves, such as '\\u6"
    ):
        publish("gemma3", tmp_path, ["\u6f22\u5b57", SENTENCES[0].replace("?", "").replace(",", "")])


def test_a_vocabulary_above_65536_takes_four_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_tokenizer("llama")
    base.add_tokens([AddedToken(f"<unused_{i}>", special=False, normalized=False) for i in range(66_000)])
    monkeypatch.setattr(f"{__name__}.open_tokenizer", lambda family: base)
    publish("llama", tmp_path, SENTENCES[:2])
    assert json.loads((tmp_path / "shards/manifest.json").read_text())["dtype"] == "uint32"


def test_the_stage_publishes_the_tokenizer_of_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its context alone: the base decides which of two functions makes the same outs."""
    calls = []
    monkeypatch.setattr("groundup.tokenizer.open_model.publish_tokenizer", lambda **given: calls.append(given) or {})
    monkeypatch.setattr("groundup.tokenizer.tokenizer.train_tokenizer", lambda **given: calls.append(given) or {})
    monkeypatch.setattr(stage, "require_data", lambda name, data: None)
    params = {"tokenizer": PARAMS, "model.chat_template": "groundup", "model.context_length": 128}
    for base in (None, tmp_path / "models/a"):
        stage.main(
            SimpleNamespace(
                base=[base].pop, locked_base=lambda: None, dep=Path, out=Path, params=params, work=tmp_path
            )
        )
    trained, published = calls
    assert published.pop("base") == tmp_path / "models/a"
    assert published.pop("chat_template") == "groundup"
    assert published.pop("locked") is None
    assert trained["context_length"] == 128
    assert trained == published
    assert trained["shards"] == Path("artifacts/shards")
