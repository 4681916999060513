from pathlib import Path

import pytest

from groundup.app.report.curves import draw_charts, draw_panel, read_panels, smoothed
from groundup.evaluate.shown import Chart, Line

CHART = Chart("Gain", "KL", [Line("gold", [0, 1], [0, 2], [0, 1], [0, 3], 1)])


def write_curve(path: Path) -> Path:
    path.write_text("step,loss,val_loss,learning_rate\n0,3.0,3.1,0.1\n10,2.0,,0.1\n20,1.5,2.2,nan\n", encoding="utf-8")
    return path


def test_columns_of_one_measure_share_a_panel(tmp_path: Path) -> None:
    (panel,) = read_panels(write_curve(tmp_path / "sft.csv"))
    assert panel.title == "Loss"
    assert [(c.split, c.steps, c.values) for c in panel.curves] == [
        ("", [0.0, 10.0, 20.0], [3.0, 2.0, 1.5]),
        ("val", [0.0, 20.0], [3.1, 2.2]),
    ]


def test_a_curve_without_points_has_no_panel(tmp_path: Path) -> None:
    path = tmp_path / "sft.csv"
    path.write_text("step,loss,val_loss\n0,3.0,\n", encoding="utf-8")
    assert read_panels(path) == []
    path.write_text("", encoding="utf-8")
    assert read_panels(path) == []


def test_pictures_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    (panel,) = read_panels(write_curve(tmp_path / "sft.csv"))
    assert draw_panel(panel) == draw_panel(panel)
    assert draw_charts([CHART]) == draw_charts([CHART])
    assert draw_charts([CHART, CHART]) != draw_charts([CHART])  # the second in a line style of its own
    assert draw_panel(panel).startswith(b"\x89PNG")


def test_smoothing_keeps_a_straight_line() -> None:
    line = [2.0 * i for i in range(100)]
    assert smoothed(line) == pytest.approx(line)
