import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.core.decoding import METHODS
from groundup.evaluate.gates import Gate
from groundup.evaluate.measures.overoptimization import Gain, Point, Study
from groundup.evaluate.pairwise.games import Rating
from groundup.evaluate.pairwise.tournament import Standings
from groundup.evaluate.replies import ModelReplies, Prompt
from groundup.evaluate.report.build import ReportInputs, write_report
from groundup.evaluate.report.cards import read_cards
from groundup.evaluate.report.curves import draw_panels, read_panels, smoothed
from groundup.evaluate.report.gold import gold_sentences
from groundup.evaluate.report.sentences import TRAINING_SETS, headline
from groundup.evaluate.report.tasks import Measured
from tests.evaluate.judging import PARAMS
from tests.evaluate.measures.decoded import decoded, decoding_figures, interval

REPORT_PARAMS = PARAMS.model_copy(update={"num_samples": 1})
MEASURED = Measured(
    tasks={"topic": 300}, sources=["chitchat", "wikipedia"], named=[], ngram_order=5, num_untrained_items=100
)
AGREEMENT = "0.70 (0.65 to 0.75)"


def task_scores(bits: float, accuracy: float) -> dict[str, float]:
    return {
        **interval("bits_per_byte", bits, bits - 0.1, bits + 0.1),
        **interval("bits_per_byte_wikipedia", 1.8, 1.7, 1.9),
        **interval("bits_per_byte_chitchat", 2.0, 1.9, 2.1),
        **interval("topic_accuracy", accuracy, accuracy - 0.1, accuracy + 0.1),
        "topic_chance": 0.25,
    }


def scores(reward: float, kl: float) -> dict[str, float]:
    return {
        **task_scores(1.9, 0.4),
        **interval("reward", reward, reward - 0.1, reward + 0.1),
        **interval("kl_to_sft", kl, kl, kl),
        "reply_length": 12.25,
        "distinct_2": 0.7,
        "end_of_turn_rate": 0.96,
        **interval("insult_rate_hostile", 0.25, 0.125, 0.5),
    }


def metrics(low: float, high: float) -> dict[str, Any]:
    return {
        "base": scores(-1.0, 9.0),
        "sft": scores(0.25, 0.0),
        "aligned": scores(0.75, 3.5),
        "unigram": task_scores(2.75, 0.26),
        "ngram": task_scores(2.01, 0.27),
        "untrained": task_scores(3.5, 0.25),
        **{f"topic_contamination_{name}": 0.0 for name in ("text", "preferences", "prompts")},
        "topic_contamination_chats": 0.007,
        **{f"{items}_contamination_{name}": 0.0 for items in ("bits_per_byte", "prompts") for name in TRAINING_SETS},
        **interval("win_rate_vs_sft", 0.6, low, high),
        **interval("win_rate_vs_base", 0.9, 0.85, 0.95),
        **gold(0.45, 0.75),
        **decoding_figures(),
        **interval("insult_rate_hostile_change", 0.0, -0.25, 0.25),
        "num_prompts": 200,
        "num_documents": 10,
    }


def gold(low: float, high: float) -> dict[str, Any]:
    return {
        **interval("judge_agreement", 0.7, 0.65, 0.75),
        "judge_num_pairs": 200,
        "judge_num_conversations": 40,
        **interval("gold_reward_before", 7.5, 7.0, 8.0),
        **interval("gold_reward_after", 8.0, 7.5, 8.5),
        **interval("gold_reward_difference", 0.5, 0.25, 0.75),
        **interval("win_rate_vs_sft_gold", 0.6, low, high),
        **interval("win_rate_vs_sft_gold_length_controlled", 0.55, 0.4, 0.7),
        **interval("gold_reward_human", 9.0, 8.5, 9.5),
        **interval("win_rate_human_vs_sft_gold", 0.8, 0.75, 0.85),
        "num_human_replies": 150,
        **interval("best_of_n_gold_difference", 0.25, 0.0, 0.5),
        "best_of_n_kl": 3.0,
        "best_of_n_largest_kl": 3.0,
        "best_of_n_n": 50,
        "best_of_n_num_prompts": 30,
    }


def overoptimization() -> Study:
    still, up = Gain(0.0, 0.0, 0.0), Gain(1.0, 0.5, 1.5)
    return Study([Point(0, 0.0, False, still, still, 0.0), Point(5, 2.0, True, up, up, 0.0)], still)


def inputs(**changes: Any) -> ReportInputs:
    prompt = Prompt(
        "c1",
        [{"role": "system", "content": "the sea"}, {"role": "user", "content": "<b>Hi</b> | *you*"}],
        [1, 2],
        None,
    )
    replies = {
        model: ModelReplies(texts=[f"{model} <i>says</i>"], tokens=[[1]], ended=[True], rewards=[0.5], kl=[0.0])
        for model in ("base", "sft", "aligned")
    }
    values: dict[str, Any] = {
        "metrics": metrics(0.55, 0.65),
        "measured": MEASURED,
        "num_documents_in_split": 20,
        "prompts": [prompt],
        "replies": replies,
        "curves": {},
        "reports": {},
        "ancestry": {"prepare": [], "pretrain": ["prepare"], "align": ["prepare", "pretrain"]},
        "made": {"prepare": "text of <b>the sea</b>"},
        "weights": {"align": "0123456789ab"},
        "no_judge": None,
        "overoptimization": overoptimization(),
        "decoded_prompts": [prompt],
        "decoded": {method: decoded(reward=0.5) for method in METHODS},
        "standings": [Standings("gold", {}, [Rating("iteration_5", 1049.6, 1020.0, 1080.0, 7)])],
        "values": {model: {"insult_rate_hostile": [0.0, 0.5]} for model in replies},
        "gates": [Gate("insults no more", "x", 0.5, 0.0, False, "x is 0.5 and must be at most 0")],
        "params": REPORT_PARAMS,
    }
    return ReportInputs(**{**values, **changes})


def write_curve(path: Path) -> Path:
    path.write_text("step,loss,val_loss,learning_rate\n0,3.0,3.1,0.1\n10,2.0,,0.1\n20,1.5,2.2,nan\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.55, 0.65, "Under the reward model the aligned model beats the SFT model"),
        (0.45, 0.65, "Under the reward model the aligned model cannot be told apart from the SFT model"),
        (0.3, 0.45, "Under the reward model the aligned model loses to the SFT model"),
    ],
)
def test_the_headline_says_no_more_than_the_interval(low: float, high: float, verdict: str) -> None:
    sentences = headline(metrics(low, high), ["topic"])
    assert sentences[0].startswith(f"{verdict}: its reply is preferred in 60\u00a0% of 200 held-out prompts")
    assert "went from 0.25 to 0.75, at a distance of 3.50 nats" in sentences[1]
    assert sentences[-1] == "The aligned model chooses better than guessing: topic 40\u00a0% (guessing 25\u00a0%)."


def gold_headline(**changes: Any) -> list[str]:
    return gold_sentences(metrics(0.55, 0.65) | changes, None, overoptimization())


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.7, "beats the SFT model"),
        (0.45, 0.75, "cannot be told apart from the SFT model"),
        (0.3, 0.49, "loses to the SFT model"),
    ],
)
def test_the_gold_verdict_says_no_more_than_the_interval(low: float, high: float, verdict: str) -> None:
    sentence = gold_headline(**gold(low, high))[0]
    assert sentence.startswith(f"Under the gold judge the aligned model {verdict}: 60\u00a0% (")
    assert "55\u00a0% (40\u00a0% to 70\u00a0%) at equal length" in sentence
    assert "gold score moves by 0.50 (0.25 to 0.75)" in sentence


def test_a_judge_that_guesses_is_called_one() -> None:
    told = "The judge finds the reply that a person gave with an accuracy of"
    assert gold_headline()[1] == f"{told} {AGREEMENT} in held-out pairs; chance is 0.5."
    doubtful = gold_headline(**interval("judge_agreement", 0.55, 0.5, 0.6))[1]
    assert "0.55 (0.50 to 0.60) in held-out pairs: not better than chance as far as the interval tells" in doubtful


def test_what_people_answered_is_the_mark(tmp_path: Path) -> None:
    assert gold_headline()[2] == (
        "What people answered to 150 of these prompts has a gold score of 9.00 (8.50 to 9.50) and is preferred to the "
        "SFT model's reply in 80\u00a0% (75\u00a0% to 85\u00a0%): the mark for all models."
    )
    unanswered = {name: value for name, value in metrics(0.55, 0.65).items() if "human" not in name}
    for name, values, shown in (("all", metrics(0.55, 0.65), True), ("none", unanswered, False)):
        write_report(inputs(metrics=values), tmp_path / name)
        markdown, html = (
            (tmp_path / name / page).read_text(encoding="utf-8") for page in ("report.md", "report.html")
        )
        row = "| What people answered against SFT, gold judge | 80\u00a0% | 75 to 85\u00a0% |"
        assert (row in markdown, "People&#39;s win rate" in html) == (shown, shown)
        assert ("What people answered" in markdown) == shown


def test_best_of_n_says_when_the_pool_does_not_reach_as_far() -> None:
    assert "best of 50 replies of the SFT model (KL 3.00, aligned 3.50, farther than the pool" in gold_headline()[3]
    assert "farther" not in gold_headline(best_of_n_largest_kl=3.5)[3]


def test_every_gold_result_stands_beside_the_judges_agreement(tmp_path: Path) -> None:
    write_report(inputs(), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "judge&#39;s agreement 0.70</span>" in html
    assert f"<th>Gold score<small>judge&#39;s agreement {AGREEMENT}</small></th>" in html
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"| Gold score (judge's agreement {AGREEMENT}) |  | 7.50 [7.00 to 8.00] | 8.00 [7.50 to 8.50] |" in markdown
    assert "| Aligned against SFT, gold judge, equal length | 55\u00a0% | 40 to 70\u00a0% |" in markdown
    assert "![Gain of reward model and gold judge against KL](overoptimization.png)" in markdown


def test_the_page_needs_nothing_else_and_shows_text_as_text(tmp_path: Path) -> None:
    curves = {"sft": write_curve(tmp_path / "sft.csv")}
    card = tmp_path / "prepare"
    card.mkdir()
    (card / "report.md").write_text("# Data card\n\n<script>x</script> ![p](http://a.b/c.png)\n", encoding="utf-8")
    write_report(inputs(curves=curves, reports={"prepare": card}), tmp_path / "out")
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Hi&lt;/b&gt;" in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html.replace('<a href="http://a.b/c.png"', "<a"))
    assert "url(" not in html
    assert 'src="data:image/png;base64,' in html
    markdown = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "![Loss](sft_loss.png)" in markdown
    assert "\\<b\\>Hi\\</b\\> \\| \\*you\\*" in markdown
    topic = "25\u00a0% | 26\u00a0% [16 to 36\u00a0%] | 27\u00a0% [17 to 37\u00a0%] | 25\u00a0% [15 to 35\u00a0%]"
    assert f"| Topic choice (300 questions) | {topic} | 40\u00a0% [30 to 50\u00a0%] |" in markdown
    assert "### Data card" in markdown
    assert "Replies (test prompts seen in training: 0\u00a0%)" in html


def test_works_without_curves_cards_tasks_and_samples(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"num_samples": 0})
    write_report(inputs(measured=replace(MEASURED, tasks={}), params=params), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decoding.json",
        "gates.json",
        "overoptimization.png",
        "probes.json",
        "ratings.json",
        "replies.jsonl",
        "report.html",
        "report.md",
    ]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for absent in ("Curves", "Side by side", "Topic choice", "Where it comes from"):
        assert absent not in html


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    curves = {"sft": write_curve(tmp_path / "sft.csv")}
    for name in ("a", "b"):
        write_report(inputs(curves=curves), tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    tables = {"decoding.json", "gates.json", "probes.json", "ratings.json", "replies.jsonl"}
    assert set(first) == {"overoptimization.png", "report.html", "report.md", "sft_loss.png"} | tables


def test_columns_of_one_measure_share_a_panel(tmp_path: Path) -> None:
    (panel,) = read_panels("sft", write_curve(tmp_path / "sft.csv"))[:1]
    assert (panel.file_name, panel.title) == ("sft_loss.png", "Loss")
    assert [(c.split, c.steps, c.values) for c in panel.curves] == [
        ("", [0.0, 10.0, 20.0], [3.0, 2.0, 1.5]),
        ("val", [0.0, 20.0], [3.1, 2.2]),
    ]


def test_a_curve_without_points_has_no_panel(tmp_path: Path) -> None:
    path = tmp_path / "sft.csv"
    path.write_text("step,loss,val_loss\n0,3.0,\n", encoding="utf-8")
    assert draw_panels({"sft": path}) == []
    path.write_text("", encoding="utf-8")
    assert draw_panels({"sft": path}) == []


def test_smoothing_keeps_a_straight_line() -> None:
    line = [2.0 * i for i in range(100)]
    assert smoothed(line) == pytest.approx(line)


def test_a_stage_without_a_report_has_no_card(tmp_path: Path) -> None:
    assert read_cards({"prepare": tmp_path}, {}) == []


def test_pictures_beside_a_report_come_into_the_page(tmp_path: Path) -> None:
    card = tmp_path / "reward"
    card.mkdir()
    (card / "bins.png").write_bytes(b"made up")
    said = '![Bins & "more"](bins.png)\n\n![other](../x.png) ![third](http://a.b/c.png)\n'
    (card / "report.md").write_text(said, encoding="utf-8")
    write_report(inputs(reports={"reward": card}), tmp_path / "out")
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert '<img src="data:image/png;base64,bWFkZSB1cA==" alt="Bins &amp; &quot;more&quot;">' in html
    assert html.count("<img") == 2  # and the over-optimisation study
    assert "other third" in html
    assert "(reward_report_bins.png)" in (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert (tmp_path / "out/reward_report_bins.png").read_bytes() == b"made up"
