import random

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.decoding.history import fit_prompt
from groundup.core.formats.chat_format import render
from groundup.core.formats.records import Message
from tests.open_tokenizers import adopted

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


def fitted_by_rendering(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message], max_tokens: int
) -> tuple[list[int], int, bool]:
    """What `fit_prompt` promises, as directly as it can be written: the whole conversation for every attempt."""
    first = int(messages[0]["role"] == "system")
    attempts = [messages[:first] + messages[start:] for start in range(first, len(messages), 2)]
    attempts += [attempts[-1][first:]]
    for kept in attempts:
        ids = render(tokenizer, kept, reply_next=True)
        if len(ids) <= max_tokens:
            return ids, len(messages) - len(kept), False
    return ids[:2] + ids[2 - max_tokens :], len(messages) - len(kept), True


@pytest.mark.parametrize("seed", range(20))
def test_any_conversation_is_fitted_as_by_rendering_every_attempt(
    tiny_tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    drawn = random.Random(seed)
    pieces = ["the river ", "<|end|>", " ", "\n", "caf\u00e9", "42", "<|user|>", "."]
    turns = [
        {"role": ("user", "assistant")[i % 2], "content": "".join(drawn.choices(pieces, k=drawn.randint(1, 9)))}
        for i in reversed(range(drawn.randint(1, 10)))  # the user speaks last
    ]
    for messages in (turns, [TOPIC, *turns]):
        for max_tokens in range(4, 200, 7):
            fitted = fit_prompt(tiny_tokenizer, messages, max_tokens)
            expected = fitted_by_rendering(tiny_tokenizer, messages, max_tokens)
            assert (fitted.ids, fitted.num_dropped, fitted.cut) == expected


def test_no_turn_is_tokenized_twice(tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request of 1 MiB in 255 messages kept a core busy for a minute."""
    rendered = []
    template = type(tiny_tokenizer).apply_chat_template

    def counting(self: PreTrainedTokenizerFast, messages: list[Message], **settings: object) -> object:
        rendered.extend(messages)
        return template(self, messages, **settings)

    monkeypatch.setattr(type(tiny_tokenizer), "apply_chat_template", counting)
    many = [TOPIC, *TURNS[:2] * 120, TURNS[0]]
    assert fit_prompt(tiny_tokenizer, many, 120).num_dropped > 200
    assert len(rendered) < 20
    rendered.clear()
    assert fit_prompt(tiny_tokenizer, many, 100_000).num_dropped == 0
    assert len(rendered) == len(many)


def test_a_message_that_is_left_out_is_checked_too(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"message 1 \(user\) has half a surrogate pair"):
        fit_prompt(tiny_tokenizer, [{"role": "user", "content": "\ud83d"}, *TURNS[1:]], 30)


@pytest.mark.parametrize("family", ["smollm2", "qwen3", "gemma", "mistral", "gpt2"])
def test_open_models_keep_as_much_of_a_conversation(family: str) -> None:
    """Their templates fold the topic into a turn, or put a default system message in front."""
    tokenizer = adopted(family)
    turns = [*TURNS[:2] * 3, TURNS[4]]
    for messages in (turns, [TOPIC, *turns]):
        whole = len(render(tokenizer, messages, reply_next=True))
        for max_tokens in range(60, whole + 40, 23):
            fitted = fit_prompt(tokenizer, messages, max_tokens)
            ids, num_dropped, cut = fitted_by_rendering(tokenizer, messages, max_tokens)
            assert (fitted.num_dropped, fitted.cut) == (num_dropped, cut)
            assert len(fitted.ids) <= max_tokens
            if not cut:
                assert fitted.ids == ids


@pytest.mark.parametrize("family", ["smollm2", "gemma"])
def test_of_one_long_message_an_open_model_sees_the_marker_and_the_end(family: str) -> None:
    tokenizer = adopted(family)
    long = [{"role": "user", "content": "the old town " * 50 + "by the sea"}]
    whole = render(tokenizer, long, reply_next=True)
    text = tokenizer.decode(whole)
    fitted = fit_prompt(tokenizer, long, 90)
    assert (len(fitted.ids), fitted.cut) == (90, True)
    head = text[: text.index("the old town")]
    assert tokenizer.decode(fitted.ids).startswith(head)
    assert tokenizer.decode(fitted.ids).endswith(text[-30:])


def test_a_long_conversation_with_an_open_model_takes_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = adopted("smollm2")
    fit_prompt(tokenizer, TURNS[:1], 1000)
    rendered = []
    template = type(tokenizer).apply_chat_template

    def counting(self: PreTrainedTokenizerFast, messages: list[Message], **settings: object) -> object:
        rendered.extend(messages)
        return template(self, messages, **settings)

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", counting)
    assert fit_prompt(tokenizer, [TOPIC, *TURNS[:2] * 120, TURNS[0]], 300).num_dropped > 200
    assert len(rendered) < 60
