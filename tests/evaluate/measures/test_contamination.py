from pathlib import Path

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.records import said
from groundup.evaluate.choices import item_texts
from groundup.evaluate.measures.contamination import contamination, openings, training_sets, without_opening
from groundup.evaluate.measures.measure import Data

ABC = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november"


def test_a_planted_leak_is_found_in_the_set_that_has_it() -> None:
    items = {"topic": [[f"Well: {ABC}."], ["nothing of the kind"]], "other": [["too short"]]}
    training = {"text": ["unrelated", f"as I said, {ABC.upper()}!"], "chats": ["alpha bravo charlie"]}
    assert contamination(items, training, 13) == {
        "topic": {"text": 0.5, "chats": 0.0},
        "other": {"text": 0.0, "chats": 0.0},
    }
    assert contamination(items, training, 15)["topic"] == {"text": 0.0, "chats": 0.0}
    assert contamination(items, training, 3)["topic"] == {"text": 0.5, "chats": 0.5}


def test_words_are_not_in_a_row_across_texts() -> None:
    first, last = ABC.split(" golf ")
    assert contamination({"t": [[ABC]]}, {"text": [f"{first} golf", last]}, 13)["t"]["text"] == 0.0
    assert contamination({"t": [[f"{first} golf", last]]}, {"text": [ABC]}, 13)["t"]["text"] == 0.0


def test_items_without_so_many_words_cannot_be_contaminated() -> None:
    assert contamination({"t": [["a b"], ["c"]]}, {"text": ["a b c"]}, 13) == {"t": {"text": 0.0}}


def test_an_item_is_its_query_with_the_true_reply_and_each_other_choice() -> None:
    query = [{"role": "system", "content": "Topic?"}, {"role": "user", "content": "Hello"}]
    assert item_texts({"query": query, "choices": ["no", "yes", "why"], "gold": 1}) == ["Hello\nyes", "no", "why"]


def test_what_the_models_were_trained_on_without_opening_lines(tmp_path: Path) -> None:
    opening = {"role": "system", "content": "What is your hobby?"}
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
        "text": ["Hi\nChess", "A river\nis long"],
        "chats": ["Hi\nChess"],
        "preferences": ["Hi\nChess", "Hi\nGo away"],
        "prompts": ["Hi"],
    }
    assert openings(tmp_path / "chats") == {"What is your hobby?"}
    assert said(chat) == "Hi\nChess"
    assert without_opening("What is your hobby? Chess", {"What is your hobby?"}) == "What is your hobby? Chess"
