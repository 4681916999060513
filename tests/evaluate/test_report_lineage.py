"""The lineage on the page, and the copy with what a clock measured."""

from pathlib import Path

from groundup.core.training.cost import Cost
from groundup.evaluate.report.lineage import ROW, add_clock, lineage_rows, picture, total_flops
from tests.evaluate.judging import PARAMS

ANCESTRY = {"prepare": [], "pretrain": ["prepare"], "align": ["prepare", "pretrain"]}
PAGE = "<p>All. <!-- clock --></p><li>a<!-- clock pretrain --></li><li>b<!-- clock sft --></li>"


def test_rows_say_what_is_known() -> None:
    costs = {"pretrain": Cost(1_000_000, 2_000_000, 0), "align": Cost(1_000_000, 500_000, 1_000_000)}
    prepare, pretrain, align = lineage_rows(
        ANCESTRY, {"align": "Alignment"}, {"prepare": "text"}, costs, {"align": "0123"}
    )
    assert (prepare.title, prepare.notes, prepare.fingerprint) == ("prepare", ["text"], "")
    assert pretrain.notes == ["1,000,000 parameters", "2 M tokens learned from", "12 TFLOP"]
    assert align.notes[1:] == ["500 k tokens learned from", "1 M only read", "5 TFLOP"]
    assert (align.title, align.fingerprint) == ("Alignment", "0123")
    assert total_flops(costs) == "17 TFLOP"


def test_every_edge_is_drawn_between_its_rows() -> None:
    drawn = picture(ANCESTRY)
    assert drawn.height == 3 * ROW
    ends = [(path.split("C")[0].split()[1], path.split()[-1]) for path in drawn.paths]
    rows = [f"{ROW * (row + 0.5):g}" for row in range(3)]
    assert ends == [(rows[0], rows[1]), (rows[0], rows[2]), (rows[1], rows[2])]
    starts, controls = ([float(path[1:].split("C")[part].split()[0]) for path in drawn.paths] for part in (0, 1))
    leftmost = [start - 3 / 4 * (start - control) for start, control in zip(starts, controls, strict=True)]
    assert min(leftmost) > 0


def test_one_stage_alone_has_no_edges() -> None:
    assert picture({"evaluate": []}).paths == []


def test_the_clock_stands_where_the_marks_were(tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "timed.html"
    page.write_text(PAGE, encoding="utf-8")
    add_clock(page, {"prepare": 60.0, "pretrain": 540.0}, PARAMS, out)
    assert out.read_text(encoding="utf-8") == (
        "<p>All. Together 10.0 min, 5 Wh, if the machine takes 30 W.</p><li>a, 9.0 min, 4.5 Wh</li><li>b</li>"
    )
    assert page.read_text(encoding="utf-8") == PAGE
