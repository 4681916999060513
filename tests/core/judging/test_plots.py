"""Plots do not depend on the user's matplotlib settings."""

import matplotlib as mpl
from matplotlib.figure import Figure

from groundup.core.judging.plots import style, to_png


def paint(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1])
    style(axes, "A line", "step")


def test_the_user_s_settings_change_no_byte() -> None:
    plain = to_png(paint, 2.0, 1.5)
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 20.0, "savefig.dpi": 40.0}):
        assert to_png(paint, 2.0, 1.5) == plain
        assert mpl.rcParams["font.size"] == 20.0


def test_it_is_a_png_of_the_size_asked_for() -> None:
    png = to_png(paint, 2.0, 1.5)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (320, 240)
