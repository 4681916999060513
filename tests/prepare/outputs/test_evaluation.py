import random
from collections import Counter

import pytest

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Article, Conversation, Record
from groundup.prepare.outputs.evaluation import evaluation_sets
from groundup.runner.params.prepare import EvaluationParams
from tests.prepare.made_up import VOCABULARY, sentence

PARAMS = EvaluationParams(num_choices=4, max_items=40, min_choice_characters=20, max_characters=400)
TOPICS = ["Arts", "History", "People", "Geography", "Science"]


def records(count: int) -> list[Record]:
    rng = random.Random(5)
    found: list[Record] = []
    for i in range(count):
        turns = [(turn % 2, sentence(rng, 4 + (i + turn) % 9)) for turn in range(2 + i % 6)]
        found.append(Conversation(f"c{i}", "talk", "Topic?", turns, None))
        title = f"{VOCABULARY[i % 40].capitalize()} {i}"
        extract = f"{title} is {sentence(rng, 9)} {sentence(rng, 8)}"
        found.append(Article(f"a{i}", "wiki", title, "thing", TOPICS[i % 5], extract))
    return found


def items(task: str, count: int = 60, params: EvaluationParams = PARAMS, seed: int = 1) -> list[Row]:
    return evaluation_sets(params, max_answer=150, seed=seed)[task](records(count))


@pytest.mark.parametrize("task", ["next_reply", "topic", "which_entity", "definition"])
def test_items_are_well_formed_and_gold_is_balanced(task: str) -> None:
    rows = items(task)
    assert 30 <= len(rows) <= 40
    for row in rows:
        assert list(row) == ["query", "choices", "gold", "group_id"]
        assert len(set(row["choices"])) == 4
        assert row["query"][-1]["role"] == "user"
        longest = max(map(len, row["choices"]))
        assert sum(len(m["content"]) for m in row["query"]) + longest <= PARAMS.max_characters
    golds = Counter(row["gold"] for row in rows)
    assert sorted(golds) == [0, 1, 2, 3]
    assert max(golds.values()) - min(golds.values()) <= 1
    assert len({row["group_id"] for row in rows}) == len(rows)


def test_gold_is_the_true_continuation() -> None:
    by_id = {record.id: record for record in records(60)}
    for row in items("next_reply"):
        conversation = by_id[row["group_id"]]
        assert isinstance(conversation, Conversation)
        said = [text for _, text in conversation.turns]
        asked = [m["content"] for m in row["query"]]
        assert asked == ["Topic?", *said[: len(asked) - 1]]
        assert row["choices"][row["gold"]] == said[len(asked) - 1]
        others = [choice for i, choice in enumerate(row["choices"]) if i != row["gold"]]
        assert not set(others) & set(said)
    for task, field in (("topic", "topic"), ("which_entity", "title")):
        for row in items(task):
            assert row["choices"][row["gold"]] == getattr(by_id[row["group_id"]], field)


def test_the_entity_is_not_named_in_its_question() -> None:
    for row in items("which_entity"):
        assert row["choices"][row["gold"]] not in row["query"][0]["content"]


def test_length_does_not_give_the_answer_away() -> None:
    rows = items("next_reply", count=400, params=PARAMS.model_copy(update={"max_items": 300}))
    longest = sum(max(row["choices"], key=len) == row["choices"][row["gold"]] for row in rows)
    assert 0.1 < longest / len(rows) < 0.4


def test_the_same_records_in_another_order_give_the_same_items() -> None:
    task = evaluation_sets(PARAMS, 150, seed=1)["definition"]
    assert task(records(60)) == task(records(60)[::-1])
    assert task(records(60)) != evaluation_sets(PARAMS, 150, seed=2)["definition"](records(60))


def test_too_few_records_give_no_items_rather_than_bad_ones() -> None:
    assert items("next_reply", count=3) == []
