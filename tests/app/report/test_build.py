"""The page, built from the files of a checkout."""

import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from groundup.app.report.build import build_page
from groundup.evaluate.shown import Bar, Cell, Chart, Line, Row, Sample, Section, Shown, Table, Tile
from groundup.runner.figures import Record, write_record
from groundup.runner.files import write_json
from tests.conftest import ROOT
from tests.evaluate.judging import PARAMS

SHOWN = Shown(
    tiles=[Tile("Reward", "0.75", "SFT 0.25")],
    sentences=["It passes <all> gates."],
    sections=[
        Section(
            "Replies",
            "Small figures are intervals.",
            [
                Table(["", "Base", "SFT", "Aligned"], [Row("Reward", "higher", [Cell("0.75", "0.65 to 0.85")])], True),
                Table(
                    ["Won", "Judge"], [Row("SFT", "", [Cell("60 %", "55 to 65 %", Bar(0.6, 0.55, 0.65, 0.5), True)])]
                ),
            ],
        ),
        Section("Follows?", "", chart=Chart("Gain", "KL", [Line("gold", [0, 1], [0, 2], [0, 1], [0, 3], 1)])),
        Section(
            "Side by side",
            "",
            samples=[
                Sample(
                    "the sea",
                    [{"role": "user", "content": "<b>Hi</b>"}],
                    [{"model": "Base", "text": "", "ended": False, "reward": 0.5}],
                )
            ],
        ),
    ],
    method=["By counting."],
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that stages leave, for one stage of each kind."""
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    write_json(tmp_path / "artifacts/reports/evaluate/page.json", asdict(SHOWN))
    reports = tmp_path / "artifacts/reports"
    write_json(reports / "prepare/report.json", {"sources": [{"name": "wikipedia"}, {"name": "chat<b>"}]})
    write_json(reports / "tokenizer/report.json", {"vocab_size": 4096})
    cost = {"num_parameters": 1_000_000, "num_learned_tokens": 2_000_000, "num_read_tokens": 0}
    write_json(reports / "sft/cost.json", cost)
    write_record(tmp_path, "sft", Record("f1", {}))
    write_json(tmp_path / ".work/sft/f1.json", {"stage_seconds": 120.0})
    (tmp_path / "metrics/sft.csv").write_text("step,loss\n0,3.0\n10,2.0\n", encoding="utf-8")
    (reports / "prepare/report.md").write_text(
        "# Data card\n\n<script>x</script> ![p](http://a.b/c.png)\n", encoding="utf-8"
    )
    (tmp_path / "artifacts/sft").mkdir()
    (tmp_path / "artifacts/sft/model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_everything_is_on_the_page(checkout: Path) -> None:
    page = build_page(checkout, PARAMS)
    for shown in (
        '<span class="label">Reward</span><strong>0.75</strong><span class="note">SFT 0.25</span>',
        "<th>Reward<small>higher</small></th><td>0.75<small>0.65 to 0.85</small></td>",
        '<td class="failed">&#10007; 60 %<small>55 to 65 %</small>',
        'style="left:55.0%;width:10.0%"',
        'alt="Gain, against KL"',
        "<h3>Base<span>reward 0.50</span></h3><p>(empty)<em",
        "text of chat&lt;b&gt;, wikipedia",
        "4,096 tokens",
        "1,000,000 parameters, 2 M tokens learned from, 12 TFLOP, 2.0 min, 1 Wh",
        "training took 12 TFLOP in all",
        "Together 2.0 min, 1 Wh, if the machine takes 30&nbsp;W.",
        'alt="Supervised fine-tuning: Loss"',
        "<h1>Data card</h1>",
        "<li>By counting.</li>",
    ):
        assert shown in page
    weights = re.search(r'Supervised fine-tuning</strong><code title="SHA-256 of the weights">(\w+)</code>', page)
    assert weights
    assert weights[1] == "9a129038d9a0"


def test_alignment_without_a_monitor_judge_says_so(checkout: Path) -> None:
    said = "no monitor judge, so over-optimization could not be detected"
    assert said not in build_page(checkout, PARAMS)
    figures = checkout / "artifacts/reports/align/metrics.json"
    write_json(figures, {"monitor_agreement": 0.7})
    assert said not in build_page(checkout, PARAMS)
    write_json(figures, {})
    assert said in build_page(checkout, PARAMS)


def test_it_needs_nothing_else_and_shows_text_as_text(checkout: Path) -> None:
    page = build_page(checkout, PARAMS)
    assert "&lt;b&gt;Hi&lt;/b&gt;" in page
    assert "It passes &lt;all&gt; gates." in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in page
    assert page.count('src="data:image/png;base64,') == 2


def test_the_same_files_give_the_same_page(checkout: Path) -> None:
    assert build_page(checkout, PARAMS) == build_page(checkout, PARAMS)


def test_what_is_missing_is_left_out(checkout: Path) -> None:
    shutil.rmtree(checkout / "artifacts/reports")
    shutil.rmtree(checkout / "metrics")
    page = build_page(checkout, PARAMS)
    assert "There are no figures of evaluate: <code>dvc repro</code> makes them" in page
    assert "Supervised fine-tuning" in page  # the stages are known without having run
    for absent in ("Curves", "Where it comes from", "In short", "How it was measured", "FLOP", "Together"):
        assert absent not in page
