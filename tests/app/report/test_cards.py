from pathlib import Path

from groundup.app.report.cards import read_card


def test_a_stage_without_a_report_has_no_card(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


def test_pictures_beside_a_report_come_into_the_page_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "reward").mkdir()
    for folder in (tmp_path, tmp_path / "reward"):
        (folder / "bins.png").write_bytes(b"made up")
    said = '![Bins & "more"](bins.png)\n\n![other](../bins.png) ![third](http://a.b/c.png)\n'
    (tmp_path / "reward/report.md").write_text(said, encoding="utf-8")
    card = read_card(tmp_path / "reward")
    assert card is not None
    assert '<img src="data:image/png;base64,bWFkZSB1cA==" alt="Bins &amp; &quot;more&quot;">' in card
    assert card.count("<img") == 1
    assert "other third" in card
