"""Replies that read nothing or little, and the judge that they fool."""

from typing import Any

import numpy as np
import pytest

from groundup.core.formats.records import Message
from groundup.core.judging.word_judge import WordJudge
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.controls import CONSTANTS, TEMPLATES, choose_controls, echo, fill
from groundup.evaluate.gold import UNCENTRED, Contest, all_gold_metrics, moved_win_rate
from groundup.evaluate.replies import ModelReplies
from tests.core.judging.test_word_judge import PARAMS as JUDGE_PARAMS
from tests.core.judging.test_word_judge import conversations
from tests.evaluate.judging import PARAMS, CountingJudge


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def replies(texts: list[str]) -> ModelReplies:
    n = len(texts)
    return ModelReplies(texts=texts, tokens=[[1]] * n, ended=[True] * n, rewards=[0.0] * n, kl=[0.0] * n)


def test_there_are_twenty_constants_and_ten_templates() -> None:
    assert len(set(CONSTANTS)) == 20
    assert len(set(TEMPLATES)) == 10
    assert all(template.count("{}") == 1 for template in TEMPLATES)


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("I love Kayaking!", "why do you say kayaking?"),
        ("?!", "why do you say that?"),
        ("to be it", "why do you say to?"),
    ],
)
def test_a_template_takes_the_longest_word_of_the_last_message(said: str, reply: str) -> None:
    assert fill(TEMPLATES[0], user(said)) == reply


def test_an_echo_is_the_last_message() -> None:
    assert echo([*user("a"), {"role": "assistant", "content": "b"}, *user("c")]) == "c"


def test_controls_are_chosen_for_the_judge_that_they_are_to_fool() -> None:
    class Likes(CountingJudge):
        """One constant after questions, another after all else; a template."""

        def score_by_resample(self, chats: list[list[Message]]) -> Any:
            def worth(chat: list[Message]) -> float:
                asked, reply = "?" in chat[-2]["content"], chat[-1]["content"]
                return float((asked and reply == "Yes") + (not asked and reply == "Nice") + ("sounds fun" in reply))

            return np.outer(self.worth, [worth(chat) for chat in chats])

    messages = [user("really?"), user("I see"), user("good")]
    controls = choose_controls(Likes(), messages, ["sft"] * 3)
    assert list(controls) == ["constant", "two_constants", "echo", "template"]
    assert [controls["constant"](said) for said in messages] == ["Nice"] * 3
    assert [controls["two_constants"](said) for said in messages] == ["Yes", "Nice", "Nice"]
    assert controls["template"](messages[2]) == "haha good sounds fun"


def prompt(i: int, opening: str, text: str) -> Prompt:
    return Prompt(f"c{i}", [{"role": "system", "content": opening}, *user(text)], [1])


def test_moved_replies_come_from_other_conversations_within_the_opening_if_asked() -> None:
    class Topical(CountingJudge):
        """A reply is worth one if it names the opening, one if it names the message."""

        def score_by_resample(self, chats: list[list[Message]]) -> Any:
            fits = [sum(m["content"] in chat[-1]["content"].split() for m in chat[:-1]) for chat in chats]
            return np.outer(self.worth, fits)

    prompts = [prompt(i, opening, f"m{i}") for i, opening in enumerate("aaabbb")]
    ours = [f"{p.messages[0]['content']} {p.messages[1]['content']}" for p in prompts]
    judge, nothing = Topical(), ["-"] * 6
    within = moved_win_rate("x", judge, Contest(prompts, ours, nothing), PARAMS, within_opening=True)
    assert within["x_moved_within_opening"] == 1.0  # the opening still fits
    anywhere = moved_win_rate("x", judge, Contest(prompts, ours, nothing), PARAMS, within_opening=False)
    assert 0.6 < anywhere["x_moved"] < 0.8  # 2 of 5 other conversations have the opening: 0.4 + 0.6 / 2
    messages_alone = [p.messages[1]["content"] for p in prompts]
    assert (
        moved_win_rate("x", judge, Contest(prompts, messages_alone, nothing), PARAMS, within_opening=True)[
            "x_moved_within_opening"
        ]
        == 0.5
    )
    alone = [prompt(i, f"{i}", "m") for i in range(2)]
    assert moved_win_rate("x", judge, Contest(alone, ["a", "b"], ["-", "-"]), PARAMS, within_opening=True) == {}


def test_people_win_where_their_replies_belong_and_not_elsewhere() -> None:
    rng = np.random.default_rng(0)
    rows = conversations(200)
    for row in rows:
        for message in row["messages"]:
            message["content"] += " you"  # all messages share a direction
        row["messages"][1]["content"] += " what"
    judge = WordJudge.fit(rows, JUDGE_PARAMS)
    prompts = [Prompt(row["id"], row["messages"][:1], [1], row["messages"][1]["content"]) for row in rows[:100]]
    said = [row["messages"][1]["content"] for row in rows[100:]]
    sft, aligned = (replies([said[i] for i in rng.permutation(100)]) for _ in range(2))
    points = [
        {
            "iteration": iteration,
            "kept": iteration > 0,
            "prompt": i,
            "conversation_id": row["id"],
            "messages": row["messages"][:1],
            "reply": said[i],
        }
        for iteration in (0, 1)
        for i, row in enumerate(rows[:50])
    ]
    metrics = all_gold_metrics(judge, prompts, sft, aligned, points, PARAMS)
    assert metrics["win_rate_human_vs_sft_gold_ci_low"] > 0.5
    assert (
        metrics["win_rate_human_vs_sft_gold_moved_ci_low"] < 0.5 < metrics["win_rate_human_vs_sft_gold_moved_ci_high"]
    )
    assert metrics["val_win_rate_vs_sft_gold"] == 0.5  # the same replies
    assert metrics[UNCENTRED.format("win_rate_constant_vs_sft_gold")] != metrics["win_rate_constant_vs_sft_gold"]
