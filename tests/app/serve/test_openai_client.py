"""Requests of the official client, and their answers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import NotFoundError
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import encode_text, render
from groundup.core.model.generation import Sampler
from tests.app.serve.conftest import Running

HELLO = [{"role": "user", "content": "Hello there!"}]


def ask(server: Running, **changes: Any) -> Any:
    return server.openai.chat.completions.create(**{"model": "aligned", "messages": HELLO} | changes)


def said(server: Running, **changes: Any) -> str:
    text: str = ask(server, **changes).choices[0].message.content
    return text


def reference(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: list[int], seed: int) -> str:
    """The reply of the project's own sampler."""
    replies = Sampler.of(tokenizer, 20, temperature=0.8, batch_size=1).sample(model, [prompt], seed)
    return tokenizer.decode(replies.tokens[0], skip_special_tokens=True)


def test_a_reply_is_that_of_its_seed(
    server: Running, random_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    answer = ask(server, seed=7, temperature=0.8, max_tokens=20)
    prompt = render(tiny_tokenizer, HELLO, reply_next=True)
    assert answer.choices[0].message.content == reference(random_model, tiny_tokenizer, prompt, 7)
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.total_tokens == len(prompt) + answer.usage.completion_tokens
    assert answer.system_fingerprint == "fp_test"
    assert answer.choices[0].logprobs is None


def test_a_developer_is_the_system_under_its_newer_name(server: Running) -> None:
    topic = {"role": "system", "content": "the sea"}
    replies = [
        ask(server, messages=[{**topic, "role": role}, *HELLO], seed=7, max_tokens=20)
        for role in ("system", "developer")
    ]
    assert replies[0].choices == replies[1].choices
    assert replies[0].usage == replies[1].usage
    assert replies[0].usage.prompt_tokens > ask(server, max_tokens=1).usage.prompt_tokens


def test_a_stream_has_the_same_text_as_a_whole_answer(server: Running) -> None:
    whole = ask(server, seed=4, max_tokens=30, n=3)
    parts = list(ask(server, seed=4, max_tokens=30, n=3, stream=True, stream_options={"include_usage": True}))
    assert parts[-1].usage == whole.usage
    assert parts[-1].choices == []
    texts, reasons = ["", "", ""], [None, None, None]
    roles: list[list[str]] = [[], [], []]
    for choice in (choice for part in parts for choice in part.choices):
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        roles[choice.index] += [choice.delta.role] if choice.delta.role else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert roles == [["assistant"]] * 3
    assert len(parts) > 30
    assert {part.id for part in parts} == {parts[0].id}


def test_replies_to_one_request_differ_and_the_first_is_that_of_the_seed(server: Running) -> None:
    def texts(n: int) -> list[str]:
        return [choice.message.content for choice in ask(server, seed=9, max_tokens=20, n=n).choices]

    assert len(set(texts(5))) == 5
    assert texts(5)[:2] == texts(2)
    assert texts(1) == texts(5)[:1]


def test_without_a_seed_replies_differ(server: Running) -> None:
    assert said(server, max_tokens=20) != said(server, max_tokens=20)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_a_reply_before_it(server: Running, stream: bool) -> None:
    text = said(server, seed=4, max_tokens=60)
    stop = text[20:25]
    answer = ask(server, seed=4, max_tokens=60, stop=["never said", stop], stream=stream)
    if stream:
        parts = [part.choices[0] for part in answer]
        stopped, reason = "".join(part.delta.content or "" for part in parts), parts[-1].finish_reason
    else:
        stopped, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert answer.usage.completion_tokens < 60
    assert stopped == text[: text.index(stop)]
    assert reason == "stop"
    assert server.wait_for("groundup_running_replies", 0)


def test_max_tokens_ends_a_reply(server: Running) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(server, seed=4, **{name: 6})  # whose reply does not end earlier
        assert answer.usage.completion_tokens == 6
        assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_chat(server: Running, stream: bool) -> None:
    answer = ask(server, seed=4, max_tokens=12, logprobs=True, top_logprobs=3, stream=stream)
    if stream:
        choices = [part.choices[0] for part in answer]
        text = "".join(choice.delta.content or "" for choice in choices)
        content = [entry for choice in choices for entry in choice.logprobs.content]
    else:
        text, content = answer.choices[0].message.content, answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode(errors="replace") == text
    assert len(content) == 12
    for entry in content:
        assert len(entry.top_logprobs) == 3
        top = [other.logprob for other in entry.top_logprobs]
        assert top == sorted(top, reverse=True)
        assert entry.logprob <= top[0] < 0


def test_greedy_takes_the_likeliest_token(server: Running) -> None:
    answer = ask(server, temperature=0, max_tokens=12, logprobs=True, top_logprobs=1)
    for entry in answer.choices[0].logprobs.content:
        assert entry.token == entry.top_logprobs[0].token


def test_decoding_greedy_is_temperature_zero(server: Running) -> None:
    greedy = {"extra_body": {"decoding": {"method": "greedy"}}}
    assert said(server, max_tokens=12, temperature=0) == said(server, max_tokens=12, seed=5, **greedy)


def test_completions_go_on_from_raw_text(
    server: Running, random_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    answer = server.openai.completions.create(
        model="aligned", prompt=["The river", "<|end|>Hello"], seed=3, temperature=0.8, max_tokens=20, n=2, logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    prompts = [
        [tiny_tokenizer.bos_token_id, *encode_text(tiny_tokenizer, text)] for text in ("The river", "<|end|>Hello")
    ]
    assert answer.choices[0].text == reference(random_model, tiny_tokenizer, prompts[0], 3)
    assert answer.usage.prompt_tokens == sum(map(len, prompts))
    for choice in answer.choices:
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
        assert logprobs.text_offset == sorted(logprobs.text_offset)
        assert all(1 <= len(top) <= 2 for top in logprobs.top_logprobs)
    parts = server.openai.completions.create(
        model="aligned", prompt="The river", seed=3, temperature=0.8, max_tokens=20, stream=True
    )
    assert "".join(part.choices[0].text for part in parts) == answer.choices[0].text


def test_text_may_come_in_parts(server: Running) -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there!"}]
    in_parts = said(server, messages=[{"role": "user", "content": parts}], seed=1, max_tokens=10)
    assert in_parts == said(server, seed=1, max_tokens=10)


def test_models_are_listed_and_told_apart(server: Running) -> None:
    assert [model.id for model in server.openai.models.list()] == ["aligned", "sft"]
    assert server.openai.models.retrieve("sft").id == "sft"
    assert said(server, seed=1) != said(server, seed=1, model="sft")
    with pytest.raises(NotFoundError, match="unknown model 'gpt-4': choose aligned, sft"):
        ask(server, model="gpt-4")


def test_sixteen_clients_get_what_each_would_get_alone(server: Running) -> None:
    def one(seed: int) -> tuple[str, int]:
        answer = ask(
            server,
            model=("aligned", "sft")[seed % 2],
            messages=[{"role": "user", "content": "Hello" + " there" * (seed % 5)}],
            seed=seed,
            temperature=(0.0, 0.7, 1.0)[seed % 3],
            max_tokens=24,
        )
        return answer.choices[0].message.content, answer.usage.completion_tokens

    alone = [one(seed) for seed in range(24)]
    steps = server.metric("groundup_batch_size_count")
    with ThreadPoolExecutor(16) as clients:
        together = list(clients.map(one, range(24)))
    assert together == alone
    assert server.metric("groundup_batch_size_count") - steps < sum(tokens for _, tokens in together) / 2
    assert server.wait_for("groundup_running_replies", 0)


def test_what_is_counted(server: Running) -> None:
    counted = (
        "groundup_generated_tokens_total",
        "groundup_prompt_tokens_total",
        "groundup_time_to_first_token_seconds_count",
    )
    before = {name: server.metric(name) for name in counted}
    usage = ask(server, model="sft", max_tokens=9, seed=2).usage
    after = {name: server.metric(name) for name in counted}
    assert [after[name] - before[name] for name in counted] == [usage.completion_tokens, usage.prompt_tokens, 1]
    text = server.http.get("/metrics").text
    assert 'groundup_requests_total{path="/v1/chat/completions",status="200"}' in text
    server.http.get("/nothing/here")
    assert 'path="other",status="404"' in server.http.get("/metrics").text
