"""The lineage on the page."""

from groundup.app.report.lineage import ROW, cost_notes, picture, time_note
from groundup.core.training.cost import Cost

ANCESTRY = {"prepare": [], "pretrain": ["prepare"], "align": ["prepare", "pretrain"]}


def test_notes_say_what_is_known() -> None:
    assert cost_notes(None) == []
    assert cost_notes(Cost(1_000_000, 2_000_000, 0)) == ["1,000,000 parameters", "2 M tokens learned from", "12 TFLOP"]
    assert cost_notes(Cost(1_000_000, 500_000, 1_000_000))[1:] == [
        "500 k tokens learned from",
        "1 M only read",
        "5 TFLOP",
    ]
    assert time_note(540.0, 30.0) == "9.0 min, 4.5 Wh"


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
