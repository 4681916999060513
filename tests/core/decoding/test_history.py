import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.decoding.history import fit_prompt
from groundup.core.formats.chat_format import render

TOPIC = {"role": "system", "content": "the sea"}
TURNS = [
    {"role": role, "content": f"{text} the river flows through the old town"}
    for role, text in (
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
        ("user", "five"),
    )
]


def test_what_fits_stays_whole(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    fitted = fit_prompt(tiny_tokenizer, [TOPIC, *TURNS], 1000)
    assert fitted.ids == render(tiny_tokenizer, [TOPIC, *TURNS], reply_next=True)
    assert (fitted.num_dropped, fitted.cut) == (0, False)


def test_question_and_answer_leave_together_and_the_topic_stays(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    expected = render(tiny_tokenizer, [TOPIC, *TURNS[2:]], reply_next=True)
    fitted = fit_prompt(tiny_tokenizer, [TOPIC, *TURNS], len(expected) + 3)
    assert fitted.ids == expected
    assert (fitted.num_dropped, fitted.cut) == (2, False)


def test_the_topic_goes_before_the_message_is_cut(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    expected = render(tiny_tokenizer, TURNS[4:], reply_next=True)
    fitted = fit_prompt(tiny_tokenizer, [TOPIC, *TURNS], len(expected))
    assert fitted.ids == expected
    assert (fitted.num_dropped, fitted.cut) == (5, False)


def test_of_one_long_message_the_end_is_kept(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    whole = render(tiny_tokenizer, TURNS[4:], reply_next=True)
    fitted = fit_prompt(tiny_tokenizer, TURNS[4:], 10)
    assert fitted.ids == whole[:2] + whole[-8:]
    assert fitted.cut


@pytest.mark.parametrize("messages", [[], [TOPIC], TURNS[:2]])
def test_a_prompt_ends_on_a_user_message(
    tiny_tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]
) -> None:
    with pytest.raises(ValueError, match="ends on a user message"):
        fit_prompt(tiny_tokenizer, messages, 100)
