"""A model as judge: what it reads, in its own tokens, and the memory that it takes beside the models it judges."""

from dataclasses import replace
from pathlib import Path

import pytest

from groundup.app.plan import workload
from groundup.app.plan.judge import PlannedJudge, planned_judge
from groundup.app.plan.lengths import DEFAULT
from groundup.app.plan.memory import remedy, rooms
from groundup.app.plan.model import shape_of
from groundup.app.plan.seconds import judged_tokens, work_seconds
from groundup.app.plan.workload import Work
from groundup.core.formats.jsonl import write_jsonl
from groundup.runner.params import Params
from tests.app.plan.test_estimate import DATA, OPEN, RATES, changed, small
from tests.families import family_config, family_model
from tests.open_tokenizers import open_tokenizer

CONFIG = family_config("llama-tied", 500)
JUDGE = PlannedJudge(CONFIG, shape_of(CONFIG), conversation=40.0, reply=10.0, longest=90)


def judged(path: str | None = "models/judge", **changes: int) -> Params:
    judge = small().evaluate.model_judge.model_copy(update={"path": path, **changes})
    return changed(small(), "evaluate", judge="model", model_judge=judge)


def count_work(params: Params, judge: PlannedJudge | None) -> Work:
    return workload.count_work(params, DATA, OPEN, judge)


def write_judge(root: Path, family: str) -> None:
    """Without a chat template: conversations are plain text."""
    tokenizer = open_tokenizer("gpt2")
    family_model(family, len(tokenizer)).save_pretrained(root / "models/judge")
    tokenizer.save_pretrained(root / "models/judge")


def test_lengths_are_counted_by_the_judges_tokenizer(tmp_path: Path) -> None:
    write_judge(tmp_path, "llama-tied")
    said = ["Do you like music?", "What do you think about the beach?"]
    replies = ["I like the sea", "it is " + "very " * 30 + "green"]
    write_jsonl(
        tmp_path / "artifacts/data/prompts/val.jsonl",
        [
            {"messages": [{"role": "user", "content": text}], "reply": reply}
            for text, reply in zip([*said, "Hi"], [*replies, None], strict=True)
        ],
    )
    tokenizer = open_tokenizer("gpt2")
    conversations = [1 + len(tokenizer(f"A: {text}\nB:")["input_ids"]) for text in said]  # with bos
    short = len(tokenizer(" " + replies[0])["input_ids"])
    judge = planned_judge(tmp_path, changed(judged(), "evaluate", max_new_tokens=20), DEFAULT)
    assert judge is not None
    assert judge.conversation == sum(conversations) / 2
    assert judge.reply == (short + 20) / 2
    assert judge.longest == conversations[1] + 20
    assert judge.shape.num_parameters == family_model("llama-tied", len(tokenizer)).num_parameters()


def test_without_data_lengths_are_those_of_the_policy(tmp_path: Path) -> None:
    write_judge(tmp_path, "mistral")
    judge = planned_judge(tmp_path, changed(judged(), "evaluate", max_new_tokens=20), DEFAULT)
    assert judge is not None
    assert (judge.conversation, judge.reply, judge.longest) == (55, 7, 62)
    assert not judge.shape.takes_branches
    assert planned_judge(tmp_path, small(), DEFAULT) is None


def test_a_judge_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no model in .*models/judge: `groundup fetch`"):
        planned_judge(tmp_path, judged(), DEFAULT)
    write_judge(tmp_path, "llama-tied")
    (tmp_path / "models/judge/tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"models/judge cannot be used: it has no tokenizer\.json"):
        planned_judge(tmp_path, judged(), DEFAULT)


def test_a_judge_reads_more_with_more_prompts() -> None:
    params = judged()
    more = changed(params, "evaluate", num_prompts=2 * params.evaluate.num_prompts)
    often = changed(params, "align", validation=params.align.validation.model_copy(update={"every": 1}))
    assert judged_tokens(small(), None) == 0
    assert 0 < judged_tokens(params, JUDGE) < judged_tokens(more, JUDGE)
    assert judged_tokens(params, JUDGE) < judged_tokens(often, JUDGE)  # every evaluation point is judged
    assert judged_tokens(params, JUDGE) < judged_tokens(params, replace(JUDGE, reply=12.0))
    alone = replace(JUDGE, shape=replace(JUDGE.shape, takes_branches=False))  # a pass over the conversation per reply
    assert judged_tokens(params, alone) > 2 * judged_tokens(params, JUDGE)
    rates = replace(RATES, judge_token=1e-3)
    work = count_work(params, JUDGE)
    with_judge, without = (work_seconds(params, DATA, work, r)["evaluate"] for r in (rates, RATES))
    assert with_judge - without == pytest.approx(judged_tokens(params, JUDGE) * 1e-3)


def test_the_judge_stands_beside_the_models_that_it_judges() -> None:
    params = judged(batch_size=1)
    larger = replace(JUDGE, shape=replace(JUDGE.shape, num_parameters=10**9))

    def memory(judge: PlannedJudge | None, **changes: int) -> int:
        changed_params = judged(**changes) if changes else params
        return rooms(changed_params, DATA, count_work(changed_params, judge), "cuda")["evaluate"].device

    assert memory(JUDGE) - memory(None) == 4 * JUDGE.shape.num_parameters  # its passes need less than the others
    assert memory(larger) - memory(None) == 4 * 10**9
    # 100,000 replies more at a time: three widths of each token, and no more logits at once.
    more = memory(JUDGE, batch_size=200_000) - memory(JUDGE, batch_size=100_000)
    assert more == 10**5 * 4 * 90 * 3 * (32 + 48)
    assert remedy("evaluate", params, lambda other: False) == (
        "choose a smaller model for evaluate.model_judge.path, or lower model.scratch.num_layers and what follows "
        "from it: `groundup configure --preset ... --depth N`"
    )
    assert remedy("evaluate", judged(batch_size=16), lambda other: other.evaluate.model_judge.batch_size <= 4) == (
        "lower evaluate.model_judge.batch_size to 4"
    )


def test_a_model_that_passes_the_gates_is_copied_for_the_registry() -> None:
    n, adapters = 4 * OPEN.num_parameters, 4 * 4_884_480
    room = rooms(small(), DATA, count_work(small(), None), "cpu")
    assert room["evaluate"].disk == 2 * (n + adapters) + 10 * 2**20
