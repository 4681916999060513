import pytest
import torch

from groundup.core.decoding import METHODS, reply, reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from tests.core.decoding.conftest import KnownScorer, decoding, no_std

HELLO = [{"role": "user", "content": "Hello there!"}]


@pytest.mark.parametrize("method", METHODS)
def test_a_reply_tells_what_it_is_worth(assistant: Assistant, method: str) -> None:
    scored = Assistant(assistant.model, assistant.tokenizer, KnownScorer(len, no_std))
    prompt = scored.fit(HELLO, 12).ids
    found = reply(scored, HELLO, decoding(method, temperature=0.7, top_k=20))
    assert found == reply_to_prompt(scored, prompt, decoding(method, temperature=0.7, top_k=20))
    with torch.no_grad():
        logits = assistant.model(torch.tensor([[*prompt, *found.token_ids]])).logits[0]
    nats = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(found.token_ids)[:, None])
    assert found.log_prob == pytest.approx(nats.sum().item(), abs=1e-3)
    ended = found.token_ids[-1] == assistant.tokenizer.eos_token_id
    assert found.finish_reason == ("stop" if ended else "length")
    assert found.reward == len(prompt) + len(found.token_ids) + (not ended)  # ended for the reward model
    assert found.text == assistant.tokenizer.decode(found.token_ids, skip_special_tokens=True).strip()
    assert len(found.token_ids) <= 12
    assert found.num_generated >= len(found.token_ids)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_reward_model(assistant: Assistant, method: str) -> None:
    if method in ("best_of_n", "tree"):
        with pytest.raises(ValueError, match=f"{method} needs a reward model, and none is loaded"):
            reply(assistant, HELLO, decoding(method))
    else:
        assert reply(assistant, HELLO, decoding(method)).reward is None


def test_the_oldest_part_of_a_long_conversation_is_left_out(assistant: Assistant) -> None:
    turns = [
        {"role": role, "content": f"{i} the river flows through the old town"}
        for i in range(20)
        for role in ("user", "assistant")
    ]
    long = [*turns, *HELLO]
    kept = assistant.fit(long, 12)
    assert kept.num_dropped > 0
    assert reply(assistant, long, decoding("sample")) == reply_to_prompt(assistant, kept.ids, decoding("sample"))


def test_no_room_for_a_prompt(assistant: Assistant) -> None:
    with pytest.raises(ValueError, match="max_new_tokens is 65: choose 1 to 64, half of the model's context"):
        reply(assistant, HELLO, decoding("sample", max_new_tokens=65))


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "hi"}]])
def test_a_prompt_ends_on_a_user_message(assistant: Assistant, messages: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="ends on a user message"):
        reply(assistant, messages, decoding("greedy"))


def test_an_unknown_role(assistant: Assistant) -> None:
    with pytest.raises(ValueError, match="unknown role robot: use system, user or assistant"):
        reply(assistant, [{"role": "robot", "content": "hi"}, *HELLO], decoding("greedy"))
