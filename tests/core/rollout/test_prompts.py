"""The prompts of each iteration."""

from groundup.core.rollout.prompts import Prompt, PromptBatches

PROMPTS = [Prompt(f"c{i}", [], [i]) for i in range(10)]


def batches(iterations: range, batch_size: int = 4, seed: int = 1) -> list[list[int]]:
    return [[ids[0] for ids in batch] for batch in PromptBatches(PROMPTS, batch_size, seed, iterations)]


def test_every_epoch_sees_every_prompt_once_in_another_order() -> None:
    flat = [i for batch in batches(range(1, 6)) for i in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]


def test_an_iteration_does_not_depend_on_where_one_starts() -> None:
    assert batches(range(4, 8)) == batches(range(1, 8))[3:]
    assert batches(range(1, 8)) != batches(range(1, 8), seed=2)


def test_a_batch_may_span_several_epochs() -> None:
    (batch,) = batches(range(1, 2), batch_size=25)
    assert [batch.count(i) for i in range(10)] in ([[2, 3][i in batch[20:]] for i in range(10)],)
