"""Text from data or users can never become a special token, in any notation and wherever it is rendered."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.chat.chat import Chat, Conversation
from groundup.core.decoding.assistant import Assistant
from groundup.core.formats.chat_format import (
    ASSISTANT,
    BOS,
    END,
    PAD,
    SPECIAL_TOKENS,
    SYSTEM,
    USER,
    Message,
    encode_text,
    load_tokenizer,
    render,
)
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import TokenShards, write_shards
from groundup.core.rollout.prompts import load_prompts
from groundup.evaluate.choices import choice_branches
from groundup.evaluate.replies import fit_prompts
from groundup.reward.pairs import PREFIX, load_pairs
from groundup.runner.steps import FinishedSteps
from groundup.sft.chat_examples import tokenize_chat, tokenize_chats
from tests.core.decoding.conftest import decoding

MARKERS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
ASKED = [BOS, USER, END, ASSISTANT]
ROOM = 1 << 20  # tokens: nothing is cut
# The same examples in every run, and no file of past ones.
fixed = partial(settings, derandomize=True, database=None, deadline=None)

PIECES = [
    *SPECIAL_TOKENS,
    *(token[:cut] for token in SPECIAL_TOKENS for cut in (1, 2, 4)),
    *(token[cut:] for token in SPECIAL_TOKENS for cut in (1, 2, 4)),
    *("<", "|", ">", "<<||>>", "< |", "<|<|", "<\u200b|", "\uff1c|bos|\uff1e", "<s>", "</s>", "<|endoftext|>"),
    *("{{ bos_token }}", "{% generation %}", "{% endgeneration %}", "{% raw %}", "{# #}", "{{", "}}", "{%", "\\"),
    *("", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\x00", "\ufeff", "\u0301", "\u0130"),
    "\U0001f9d1\u200d\U0001f680",
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=10).map("".join)
chats = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(sorted(MARKERS)), texts),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def tokenizer(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerFast:
    """As loaded by every stage after the first."""
    path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer.save_pretrained(path)
    return load_tokenizer(str(path))


def special(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    ours = dict(zip(tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), SPECIAL_TOKENS, strict=True))
    return [ours[i] for i in ids if i in ours]


def structure(messages: list[Message], reply_next: bool = False) -> list[str]:
    """The special tokens that the template writes."""
    turns = [token for message in messages for token in (MARKERS[message["role"]], END)]
    return [BOS, *turns, *[ASSISTANT] * reply_next]


def neutral(messages: list[Message]) -> list[Message]:
    return [{"role": m["role"], "content": m["content"].replace("<|", "< |")} for m in messages]


def parse(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[Message]:
    """The messages that a reader of the ids sees, markers by their ids only."""
    roles = {tokenizer.convert_tokens_to_ids(marker): role for role, marker in MARKERS.items()}
    assert ids[0] == tokenizer.bos_token_id
    messages = []
    rest = ids[1:]
    while rest:
        end = rest.index(tokenizer.eos_token_id)
        messages.append({"role": roles[rest[0]], "content": tokenizer.decode(rest[1:end])})
        rest = rest[end + 1 :]
    return messages


@fixed(max_examples=150)
@given(messages=chats)
def test_the_ids_say_what_the_messages_said(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> None:
    """So no two chats render alike, except for `<|` and the `< |` that replaces it."""
    ids = render(tokenizer, messages, reply_next=False)
    assert special(tokenizer, ids) == structure(messages)
    assert parse(tokenizer, ids) == neutral(messages)


@fixed(max_examples=80)
@given(messages=chats)
def test_every_prompt_is_a_prefix_of_the_chat(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> None:
    whole = render(tokenizer, messages, reply_next=False)
    for i, message in enumerate(messages[1:], start=1):
        prompt = render(tokenizer, messages[:i], reply_next=message["role"] == "assistant")
        assert whole[: len(prompt)] == prompt


@fixed(max_examples=80)
@given(messages=chats)
def test_what_is_trained_is_the_replies_and_their_ends(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message]
) -> None:
    example = tokenize_chat(tokenizer, messages)
    assert example.input_ids == render(tokenizer, messages, reply_next=False)
    trained = [i for i, mask in zip(example.input_ids, example.assistant_masks, strict=True) if mask]
    replies = [m["content"] for m in neutral(messages) if m["role"] == "assistant"]
    assert tokenizer.decode(trained) == "".join(reply + END for reply in replies)


@fixed(max_examples=150)
@given(text=texts)
def test_raw_text_holds_no_special_token_and_reads_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = encode_text(tokenizer, text)
    assert special(tokenizer, ids) == []
    assert tokenizer.decode(ids) == text
    # The tokenizer has a switch for it, which must be reset for the next chat.
    assert special(tokenizer, render(tokenizer, [{"role": "user", "content": text}], True)) == ASKED


@pytest.mark.parametrize("content", [END * 20_000, "<" * 100_000 + "|", "<|" * 50_000, "{{ bos_token }}" * 5_000])
def test_long_hostile_content(tokenizer: PreTrainedTokenizerFast, content: str) -> None:
    messages = [{"role": "user", "content": content}]
    assert parse(tokenizer, render(tokenizer, messages, reply_next=False)) == neutral(messages)


Rendered = list[tuple[list[int], list[str]]]  # ids, and the special tokens that must be in them
Rendering = Callable[[PreTrainedTokenizerFast, Path, str, str], Rendered]


def in_sft(tokenizer: PreTrainedTokenizerFast, folder: Path, said: str, reply: str) -> Rendered:
    chat = conversation(said, reply)
    examples = tokenize_chats(tokenizer, [{"messages": chat}], max_length=ROOM).examples
    return [(example.input_ids, structure(chat)) for example in examples]


def in_reward(tokenizer: PreTrainedTokenizerFast, folder: Path, said: str, reply: str) -> Rendered:
    chosen, rejected = conversation(said, reply), conversation(reply, said)
    row = {"source": "talk", "kind": "given", "chosen": chosen, "rejected": rejected, "margin": 0.5}
    ids = {"chosen_id": "a", "rejected_id": "b", "chosen_rating": None, "rejected_rating": None, "wrong_from": None}
    write_jsonl(folder / "pairs.jsonl", [row | ids])
    ((pair,), _) = load_pairs(folder / "pairs.jsonl", tokenizer, ROOM, PREFIX)
    return [(pair.chosen, structure(chosen)), (pair.rejected, structure(rejected))]


def in_ppo(tokenizer: PreTrainedTokenizerFast, folder: Path, said: str, reply: str) -> Rendered:
    messages = [*conversation(said, reply), {"role": "user", "content": said}]
    write_jsonl(folder / "prompts.jsonl", [{"conversation_id": "a", "messages": messages, "reply": None}])
    (prompt,) = load_prompts(folder / "prompts.jsonl", tokenizer, max_prompt_tokens=ROOM)
    return [(prompt.ids, structure(messages, reply_next=True))]


def in_evaluation(tokenizer: PreTrainedTokenizerFast, folder: Path, said: str, reply: str) -> Rendered:
    messages = [*conversation(reply, said), {"role": "user", "content": said}]
    branches = choice_branches(tokenizer, messages, [reply, f"{said}!"], context_length=ROOM)
    row = {"conversation_id": "a", "messages": messages, "reply": None}
    (prompt,) = fit_prompts(tokenizer, [row], ROOM, max_new_tokens=8)
    asked = structure(messages, reply_next=True)
    return [(branches.prompt, asked), (prompt.ids, asked), *((choice, [END]) for choice in branches.replies)]


def in_shards(tokenizer: PreTrainedTokenizerFast, folder: Path, said: str, reply: str) -> Rendered:
    write_jsonl(folder / "text.jsonl", [{"text": said}, {"text": reply}])
    with TemporaryDirectory(dir=folder) as steps:  # hypothesis keeps the folder for the next example
        counts = write_shards(tokenizer, folder / "text.jsonl", folder / "shards", ROOM, FinishedSteps(Path(steps)))
    tokens, _ = TokenShards(folder / "shards", counts["num_tokens"]).row(0)
    return [(tokens.tolist(), [BOS, END, BOS, END])]


def conversation(said: str, reply: str) -> list[Message]:
    return [
        {"role": "system", "content": f"{reply}{said}"},
        {"role": "user", "content": said},
        {"role": "assistant", "content": reply},
    ]


@pytest.mark.parametrize("rendering", [in_sft, in_reward, in_ppo, in_evaluation, in_shards])
def test_every_stage_renders_only_the_special_tokens_of_the_template(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, rendering: Rendering
) -> None:
    @fixed(max_examples=40)
    @given(said=texts, reply=texts)
    def check(said: str, reply: str) -> None:
        rendered = rendering(tokenizer, tmp_path, said, reply)
        assert rendered
        for ids, expected in rendered:
            assert special(tokenizer, ids) == expected

    check()


def test_a_person_in_groundup_chat_writes_no_special_token(
    tokenizer: PreTrainedTokenizerFast, tiny_model: LlamaForCausalLM
) -> None:
    chat = Chat(Assistant(tiny_model, tokenizer), decoding("sample", max_new_tokens=8))

    @fixed(max_examples=50)
    @given(topic=texts, said=texts, reply=texts, last=texts)
    def check(topic: str, said: str, reply: str, last: str) -> None:
        conversation = Conversation(topic)
        conversation.add(said, reply)
        ids, forgets = chat.prompt(conversation.asked(last))
        kept = special(tokenizer, ids)
        asked = [USER, END, ASSISTANT]
        earlier = [USER, END, ASSISTANT, END]
        whole = [BOS, *[SYSTEM, END] * bool(topic), *earlier, *asked]
        assert len(ids) <= 128 - 8 - 1
        assert kept == whole if not forgets else kept in ([BOS, SYSTEM, END, *asked], [BOS, *asked])

    check()


@fixed(max_examples=50)
@given(before=texts, half=st.characters(categories=["Cs"]), after=texts)
def test_half_a_surrogate_pair_is_a_clear_error(
    tokenizer: PreTrainedTokenizerFast, before: str, half: str, after: str
) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": before + half + after}]
    for rendering in (partial(render, reply_next=False), tokenize_chat):
        with pytest.raises(ValueError, match=r"not text: message 2 \(assistant\) has half a surrogate pair") as error:
            rendering(tokenizer, messages)
        assert f"{half!a}, at character {len(before) + 1}; read the source" in str(error.value)


def test_pad_is_never_rendered(tokenizer: PreTrainedTokenizerFast) -> None:
    assert special(tokenizer, render(tokenizer, [{"role": "user", "content": PAD}], reply_next=True)) == ASKED
