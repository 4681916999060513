from pathlib import Path

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.records import said
from groundup.evaluate.choices import item_texts
from groundup.evaluate.measures.contamination import (
    TRAINING_SETS,
    Contamination,
    Text,
    contamination,
    openings,
    seen_in_training,
    split_opening,
    training_sets,
)
from groundup.evaluate.measures.measure import Data
from tests.evaluate.measures.made_up import context, metrics

ABC = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november"


def item(*texts: str) -> list[Text]:
    return [Text("", text) for text in texts]


def share(items: list[list[Text]], training: list[Text], n: int = 13) -> dict[str, float]:
    return contamination({"t": items}, {"text": training}, n)["t"]


def test_a_planted_leak_is_found_in_the_set_that_has_it() -> None:
    items = {"topic": [item(f"Well: {ABC}."), item("nothing of the kind")], "other": [item("too short")]}
    training = {"text": item("unrelated", f"as I said, {ABC.upper()}!"), "chats": item("alpha bravo charlie")}
    assert contamination(items, training, 13) == {
        "topic": {"text": 0.5, "chats": 0.0, "compared_whole": 0.5, "exact_matches": 0.0},
        "other": {"text": 0.0, "chats": 0.0, "compared_whole": 1.0, "exact_matches": 0.0},
    }
    assert contamination(items, training, 15)["topic"]["text"] == 0.0
    assert [contamination(items, training, 3)["topic"][name] for name in training] == [0.5, 0.5]


def test_words_are_not_in_a_row_across_texts() -> None:
    first, last = ABC.split(" golf ")
    assert share([item(ABC)], item(f"{first} golf", last))["text"] == 0.0
    assert share([item(f"{first} golf", last)], item(ABC))["text"] == 0.0


def test_words_are_in_a_row_across_the_turns_of_a_text() -> None:
    assert share([item(ABC)], item(ABC.replace(" golf ", "\ngolf ")))["text"] == 1.0


def test_an_item_shorter_than_an_ngram_is_compared_whole_with_its_opening() -> None:
    hello = [Text("The sea?", "Hello there!")]
    for seen in (
        Text("The sea?", "hello THERE"),
        Text("The sea?", "Hello there!\nHi, how are you?"),  # the beginning of a chat
        Text("", "The sea?\nHello there\nHi"),
    ):
        assert share([hello], [seen]) == {"text": 1.0, "compared_whole": 1.0, "exact_matches": 1.0}
    for other in (
        Text("The town?", "Hello there!"),
        Text("", "Hello there!"),
        Text("The sea?", "Hello there! I am new"),  # goes on in the same turn
        Text("The sea?", "Hi\nHello there!"),
        Text("The sea?", "Hello"),
    ):
        assert share([hello], [other]) == {"text": 0.0, "compared_whole": 1.0, "exact_matches": 0.0}


def test_an_exact_match_of_a_long_item_is_counted_as_well() -> None:
    long = [Text("The sea?", ABC)]
    assert share([long], [Text("The sea?", ABC)]) == {"text": 1.0, "compared_whole": 0.0, "exact_matches": 1.0}
    assert share([long], [Text("The town?", ABC)]) == {"text": 1.0, "compared_whole": 0.0, "exact_matches": 0.0}


def test_what_was_seen_is_never_said_to_be_nothing() -> None:
    sets = dict.fromkeys(TRAINING_SETS, 0.0)
    shares = {f"t_contamination_{name}": value for name, value in sets.items()}
    assert seen_in_training(shares, "t") == "none found"
    shares |= {"t_contamination_text": 1 / 3000, "t_contamination_prompts": 0.0767}
    assert seen_in_training(shares, "t") == "text under 0.1\u00a0%, prompts 7.7\u00a0%"


def test_the_report_says_how_many_prompts_are_exact_matches_and_how_many_were_compared_whole() -> None:
    changes = {"compared_whole": 0.33, "exact_matches": 0.107, "prompts": 0.105}
    (said,) = (
        Contamination(context())
        .shown(metrics(**{f"prompts_contamination_{name}": value for name, value in changes.items()}))
        .method
    )
    assert "Of test prompts 33.0\u00a0% are that short, 10.7\u00a0% are such an exact match" in said
    assert "seen in all are: prompts 10.5\u00a0%" in said


def test_an_item_is_its_query_with_the_true_reply_and_each_other_choice() -> None:
    query = [{"role": "system", "content": "Topic?"}, {"role": "user", "content": "Hello"}]
    assert item_texts({"query": query, "choices": ["no", "yes", "why"], "gold": 1}) == ["Hello\nyes", "no", "why"]


def test_what_the_models_were_trained_on_without_opening_lines(tmp_path: Path) -> None:
    opening = {"role": "system", "content": "What is your hobby?"}
    given = opening["content"]
    chat = [opening, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Chess"}]
    rows = {
        "text": [{"text": "What is your hobby?\nHi\nChess"}, {"text": "A river\nis long"}],
        "chats": [{"messages": chat}],
        "preferences": [{"chosen": chat, "rejected": [*chat[:2], {"role": "assistant", "content": "Go away"}]}],
        "prompts": [{"messages": chat[:2]}],
    }
    for name, of_set in rows.items():
        write_jsonl(tmp_path / name / "train.jsonl", of_set)
    names = ("shards", "text", "chats", "preferences", "prompts", "evaluation", "judge")
    sets = training_sets(Data(**{name: tmp_path / name for name in names}))
    assert {name: list(texts) for name, texts in sets.items()} == {
        "text": [(given, "Hi\nChess"), ("", "A river\nis long")],
        "chats": [(given, "Hi\nChess")],
        "preferences": [(given, "Hi\nChess"), (given, "Hi\nGo away")],
        "prompts": [(given, "Hi")],
    }
    assert openings(tmp_path / "chats") == {given}
    assert said(chat) == "Hi\nChess"
    assert split_opening("What is your hobby? Chess", {given}) == ("", "What is your hobby? Chess")
