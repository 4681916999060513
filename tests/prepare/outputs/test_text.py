from groundup.core.formats.records import Article, Conversation, Prompt
from groundup.prepare.outputs.text import split_document, texts


def test_layouts() -> None:
    rows = texts(
        [
            Conversation("c", "s", "Topic?", [(0, "hi"), (1, "yo"), (2, "ho")], None),
            Conversation("d", "s", None, [(0, "hi")], None),
            Article("a", "s", "Title", "description", "Arts", "Extract."),
            Prompt("p", "s", [{"role": "user", "content": "hi"}]),
        ],
        max_characters=100,
    )
    assert [row["text"] for row in rows] == ["Topic?\nhi\nyo\nho", "hi", "Title\nExtract."]


def test_long_documents_are_cut_at_the_best_border() -> None:
    assert split_document("a" * 6 + "\n\n" + "b" * 6, 10) == ["a" * 6, "b" * 6]
    assert split_document("aaa bbb. ccc ddd", 11) == ["aaa bbb.", "ccc ddd"]
    assert split_document("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert split_document("short", 10) == ["short"]


def test_parts_are_named_and_keep_every_word() -> None:
    turns = [(i % 2, f"word{i} " * 5) for i in range(50)]
    rows = list(texts([Conversation("c", "s", None, turns, None)], max_characters=200))
    assert [row["id"] for row in rows] == [f"c#{i}" for i in range(len(rows))]
    assert " ".join(row["text"] for row in rows).split() == " ".join(said for _, said in turns).split()
    assert max(len(row["text"]) for row in rows) <= 200
