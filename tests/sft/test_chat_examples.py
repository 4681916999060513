"""Chats as examples: masks by an independent state machine, splits between turns, and checks."""

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import CHAT_TEMPLATE
from groundup.sft.chat_examples import ChatExamples, check_chats, split_chat, tokenize_chat, tokenize_chats
from tests.open_tokenizers import adopted

TOPIC = {"role": "system", "content": "music"}


def chat(num_exchanges: int) -> list[dict[str, str]]:
    turns = [
        [{"role": "user", "content": f"u{i} hello"}, {"role": "assistant", "content": f"a{i} yes"}]
        for i in range(num_exchanges)
    ]
    return [TOPIC, *(message for exchange in turns for message in exchange)]


def test_the_reply_and_its_end_are_trained_and_nothing_else(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    example = tokenize_chat(tiny_tokenizer, chat(3))
    assistant, end = tiny_tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|end|>"])
    speaking, expected = False, []
    for token in example.input_ids:
        expected.append(int(speaking))
        if token == assistant:
            speaking = True
        elif token == end:
            speaking = False
    assert example.assistant_masks == expected
    trained = [t for t, m in zip(example.input_ids, example.assistant_masks, strict=True) if m]
    assert tiny_tokenizer.decode(trained) == "a0 yes<|end|>a1 yes<|end|>a2 yes<|end|>"


def test_a_chat_that_fits_stays_whole(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    assert split_chat(tiny_tokenizer, chat(2), 1000) == ([chat(2)], 0)


@pytest.mark.parametrize("missing", [1, 5])  # tokens for a third exchange; the topic counts in every piece
def test_a_long_chat_is_split_at_turn_borders_and_keeps_its_topic(
    missing: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    limit = len(tokenize_chat(tiny_tokenizer, chat(3)).input_ids) - missing
    pieces, dropped = split_chat(tiny_tokenizer, chat(5), limit)
    assert dropped == 0
    assert [len(piece) for piece in pieces] == [5, 5, 3]
    assert all(
        piece[0] == TOPIC and piece[1]["role"] == "user" and piece[-1]["role"] == "assistant" for piece in pieces
    )
    assert [m for piece in pieces for m in piece[1:]] == chat(5)[1:]
    assert all(len(tokenize_chat(tiny_tokenizer, piece).input_ids) <= limit for piece in pieces)


def test_an_exchange_over_the_limit_is_counted(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    long = [*chat(1), {"role": "user", "content": "x " * 500}, {"role": "assistant", "content": "ok"}, *chat(1)[1:]]
    result = tokenize_chats(tiny_tokenizer, [{"messages": long}], 64)
    assert result.num_dropped_exchanges == 1
    assert len(result.examples) == 2  # the content before it and after it


def test_a_last_user_turn_is_left_out(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    pieces, _ = split_chat(tiny_tokenizer, [*chat(1), {"role": "user", "content": "bye"}], 1000)
    assert pieces == [chat(1)]


def broken(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    copy = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>", bos_token="<|bos|>"
    )
    copy.chat_template = template
    return copy


def test_an_open_model_whose_tokens_have_our_names_is_no_model_of_ours(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Its template has no marks of what is trained."""
    template = CHAT_TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert tokenize_chat(broken(tiny_tokenizer, template), chat(2)) == tokenize_chat(tiny_tokenizer, chat(2))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHAT_TEMPLATE.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>"), "would not learn to stop"),
        (CHAT_TEMPLATE.replace("{{ bos_token }}", "{{ messages | length }}"), "is not a prefix of the rendered chat"),
    ],
)
def test_a_template_that_trains_something_else_is_refused(
    tiny_tokenizer: PreTrainedTokenizerFast, template: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.core.formats.chat_format.CHAT_TEMPLATE", template)  # as an edit of it would
    tokenizer = broken(tiny_tokenizer, template)
    rows = [{"messages": chat(2)}]
    with pytest.raises(ValueError, match=message):
        check_chats(tokenizer, tokenize_chats(tokenizer, rows, 1000))


def test_no_chats_and_no_trained_tokens_are_refused_together(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="no chat is left to train on"):
        check_chats(tiny_tokenizer, ChatExamples())
    check_chats(tiny_tokenizer, tokenize_chats(tiny_tokenizer, [{"messages": chat(2)}], 1000))


@pytest.mark.parametrize("family", ["smollm2", "qwen3", "gemma", "mistral", "gpt2"])
def test_chats_for_an_open_model(family: str) -> None:
    """The same pieces and what is trained of them, whatever the template puts around the turns."""
    tokenizer = adopted(family)
    rows = [{"messages": chat(5)}]
    whole = tokenize_chats(tokenizer, rows, 10_000)
    check_chats(tokenizer, whole)
    assert len(whole.examples) == 1
    halved = tokenize_chats(tokenizer, rows, len(whole.examples[0].input_ids) - 1)
    check_chats(tokenizer, halved)
    assert (len(halved.examples), halved.num_split, halved.num_dropped_exchanges) == (2, 1, 0)
    replies = [
        token
        for example in halved.examples
        for token, is_trained in zip(example.input_ids, example.assistant_masks, strict=True)
        if is_trained
    ]
    assert replies.count(tokenizer.eos_token_id) == 5


@pytest.mark.parametrize("family", [None, "qwen3"])
def test_each_chat_is_rendered_once(
    family: str | None, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and once for the prompt of each reply."""
    tokenizer = adopted(family) if family else tiny_tokenizer
    tokenize_chats(tokenizer, [{"messages": chat(1)}], 10_000)  # what is known of a template is found once
    rendered = []
    render = type(tokenizer).apply_chat_template

    def count(self: PreTrainedTokenizerFast, messages: list[dict[str, str]], **options: object) -> object:
        rendered.append(len(messages))
        return render(self, messages, **options)

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", count)
    check_chats(tokenizer, tokenize_chats(tokenizer, [{"messages": chat(3)}], 10_000))
    assert sorted(rendered) == [2, 4, 6, 7]
