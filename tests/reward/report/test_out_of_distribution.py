"""Chats changed to be unlike the training chats: only the last reply changes, the same way every time."""

import random

from groundup.reward.report.out_of_distribution import FOREIGN, KINDS, foreign, repeated, shuffled, unlike

REPLY = "we like to walk along the river in summer"
CHAT = [{"role": "user", "content": "and you?"}, {"role": "assistant", "content": REPLY}]


def test_shuffled_has_the_same_words_in_another_order() -> None:
    for seed in range(20):
        text = shuffled(REPLY, random.Random(seed))
        assert text is not None
        assert text != REPLY
        assert sorted(text.split()) == sorted(REPLY.split())


def test_what_cannot_be_shuffled_is_left_out() -> None:
    assert shuffled("only four words here", random.Random(0)) is None
    assert shuffled("ha ha ha ha ha ha", random.Random(0)) is None
    assert shuffled("", random.Random(0)) is None


def test_foreign_has_as_many_words_from_the_sentences() -> None:
    known = {word for sentence in FOREIGN for word in sentence.split()}
    for reply, length in ((REPLY, 9), ("no", 5), ("word " * 40, 40)):
        words = foreign(reply, random.Random(0)).split()
        assert len(words) == length
        assert set(words) <= known


def test_repeated_is_a_phrase_of_the_reply_again_and_again() -> None:
    for seed in range(20):
        words = repeated(REPLY, random.Random(seed)).split()
        size = next(n for n in (1, 2, 3) if words == words[:n] * (len(words) // n))
        assert " ".join(words[:size]) in REPLY
        assert 9 - size < len(words) <= 9
    assert repeated("no", random.Random(0)) == "no no no"
    assert repeated(" ", random.Random(0)) is None


def test_only_the_last_reply_changes_and_a_seed_gives_the_same() -> None:
    for kind in KINDS:
        changed = unlike([CHAT, [*CHAT[:1], {"role": "assistant", "content": ""}]], kind, seed=3)
        assert changed[0] is not None
        assert changed[0][:-1] == CHAT[:-1]
        assert changed[0][-1]["role"] == "assistant"
        assert changed[0][-1]["content"] != REPLY
        assert changed == unlike([CHAT, [*CHAT[:1], {"role": "assistant", "content": ""}]], kind, seed=3)
    assert unlike([CHAT], "shuffled", seed=3) != unlike([CHAT], "shuffled", seed=4)
    assert CHAT[-1]["content"] == REPLY
