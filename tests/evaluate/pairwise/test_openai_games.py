"""All checkpoints before a judge at a URL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.evaluate.pairwise.openai_games import openai_standings
from groundup.runner.params.evaluate import EvaluateParams
from tests.evaluate.judging import PARAMS
from tests.evaluate.pairwise.stub_server import Stub, completion, fair, serving
from tests.evaluate.pairwise.test_tournament import ENTRANTS, MODELS, PROMPTS, make_entrants, points


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield server


def params(**changes: float) -> EvaluateParams:
    openai = PARAMS.openai.model_copy(update={"num_prompts": 30, **changes})
    return PARAMS.model_copy(update={"openai": openai})


def test_win_rates_and_ratings(stub: Stub, tmp_path: Path) -> None:
    standings = openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS)
    metrics = standings.metrics
    assert metrics["win_rate_vs_sft_openai"] == pytest.approx((9 + 19 / 2) / 30)  # nine won, two lost
    assert metrics["win_rate_vs_base_openai"] == pytest.approx((12 + 18 / 2) / 30)
    assert metrics["win_rate_vs_sft_openai_length_controlled"] > 0.5
    assert metrics["position_consistency_openai"] == 1.0
    assert metrics["num_unclear_verdicts_openai"] == 0
    assert metrics["num_verdicts_openai"] == 2 * round(metrics["num_verdicts_openai"] / 2) > 0
    assert {rating.player for rating in standings.ratings} == {
        *("base", "sft", "aligned", "human", "iteration_2", "iteration_6")
    }
    pairs = {(case["reply_a"], case["reply_b"]) for case in stub.cases}
    assert pairs == {(b, a) for a, b in pairs}  # every comparison in both orders
    assert all(a != b for a, b in pairs)  # identical replies tie without a request


def test_a_rerun_gives_the_same_and_asks_nothing(stub: Stub, tmp_path: Path) -> None:
    first = openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS)
    num_asked = len(stub.cases)
    stub.answer = lambda _: completion("A")
    assert openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS) == first
    assert len(stub.cases) == num_asked


def test_a_judge_that_likes_what_comes_first_prefers_nobody(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda _: completion("A")
    metrics = openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS).metrics
    assert metrics["win_rate_vs_sft_openai"] == metrics["win_rate_vs_base_openai"] == 0.5
    assert metrics["position_consistency_openai"] == 0.0
    assert metrics["rating_aligned_openai"] == pytest.approx(1000)


def test_answers_that_say_nothing_are_ties_and_counted(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda _: completion("hm")
    metrics = openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS).metrics
    assert metrics["win_rate_vs_sft_openai"] == 0.5
    assert metrics["num_unclear_verdicts_openai"] == metrics["num_verdicts_openai"] > 0
    assert "position_consistency_openai" not in metrics  # nothing was said that could be consistent


def test_consistency_is_that_of_pairs_judged_in_both_orders(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda case: completion("hm" if "lovely lovely" in case.values() else "A")  # which only people say
    metrics = openai_standings(params(), tmp_path / "kept.jsonl", ENTRANTS).metrics
    assert 0 < metrics["num_unclear_verdicts_openai"] < metrics["num_verdicts_openai"]
    assert metrics["position_consistency_openai"] == 0.0


def test_a_budget_that_runs_out_leaves_figures_on_fewer_prompts(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub.answer = lambda case: completion(str(fair(case)[1]["choices"][0]["message"]["content"]), 500)
    full = openai_standings(params(), tmp_path / "other.jsonl", ENTRANTS)
    stub.cases.clear()
    few = openai_standings(params(max_cost_dollars=0.02), tmp_path / "kept.jsonl", ENTRANTS)
    assert "max_cost_dollars is reached after" in caplog.text
    assert few.metrics["cost_dollars_openai"] <= 0.02
    assert 0 < len(stub.cases) <= few.metrics["num_verdicts_openai"] < full.metrics["num_verdicts_openai"]
    assert openai_standings(params(max_cost_dollars=0.02), tmp_path / "kept.jsonl", ENTRANTS) == few


def test_a_budget_for_nothing_is_an_error(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is too low for the verdicts on one prompt"):
        openai_standings(params(max_cost_dollars=1e-6), tmp_path / "kept.jsonl", ENTRANTS)
    assert stub.cases == []


def test_models_that_say_the_same_tie_without_a_judge(stub: Stub, tmp_path: Path) -> None:
    same = make_entrants(
        [prompt.__class__(prompt.conversation_id, prompt.messages, prompt.ids, None) for prompt in PROMPTS],
        dict.fromkeys(MODELS, MODELS["sft"]),
        [row | {"reply": "lovely"} for row in points()],
    )
    standings = openai_standings(params(), tmp_path / "kept.jsonl", same)
    assert stub.cases == []
    assert standings.metrics["win_rate_vs_sft_openai"] == 0.5
    assert "position_consistency_openai" not in standings.metrics
