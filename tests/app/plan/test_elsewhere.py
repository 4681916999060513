"""A plan for devices that are not here, against FSDP2's own shards and literal arithmetic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import LlamaConfig, LlamaForCausalLM

from groundup.app.plan.elsewhere import (
    CARDS,
    Device,
    Fleet,
    misfits_elsewhere,
    named_device,
    of_process,
    plan_elsewhere,
)
from groundup.app.plan.memory import STATES, peaks
from groundup.app.plan.model import planned_model
from groundup.app.plan.workload import count_work
from groundup.pretrain.row_loss import RowLoss
from groundup.runner.params import Params
from groundup.runner.pipeline import read_pipeline
from tests.app.plan.test_estimate import DATA
from tests.conftest import ROOT
from tests.presets import preset

CLUSTER = preset("cluster")
PIPELINE = read_pipeline(ROOT)
NUM_RANKS = 8


def sized(hidden: int, layers: int, inner: int) -> Params:
    shape = {"hidden_size": hidden, "num_layers": layers, "intermediate_size": inner, "tie_embeddings": False}
    scratch = CLUSTER.model.scratch.model_copy(update=shape)
    return CLUSTER.model_copy(update={"model": CLUSTER.model.model_copy(update={"scratch": scratch})})


SIZES = {"1.3 B": sized(2048, 24, 5632), "8 B": sized(4096, 36, 14_336)}


@pytest.fixture
def fake_ranks() -> Iterator[None]:
    """Process 0 of eight that are not there: shapes are those of real ones, and nothing is sent."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=NUM_RANKS)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("size", SIZES)
def test_shards_are_as_large_as_fsdp2_makes_them(size: str, fake_ranks: None) -> None:
    params = SIZES[size]
    it = params.model.scratch
    config = LlamaConfig(
        vocab_size=params.tokenizer.scratch.vocab_size,
        hidden_size=it.hidden_size,
        intermediate_size=it.intermediate_size,
        num_hidden_layers=it.num_layers,
        num_attention_heads=it.num_heads,
        num_key_value_heads=it.num_kv_heads,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        module = RowLoss(LlamaForCausalLM(config), compiled=False)
    whole = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    fully_shard(module, mesh=init_device_mesh("cpu", (NUM_RANKS,)))
    own = sum(weight.to_local().numel() * weight.element_size() for weight in module.parameters())
    work = count_work(params, DATA, planned_model(ROOT, params))
    assert work.model.num_parameters * 4 == whole
    assert whole / 4 == pytest.approx({"1.3 B": 1.37e9, "8 B": 8.98e9}[size], rel=0.01)
    alone, sharded = (peaks(params, DATA, work, "cuda", shards)["pretrain"] for shards in (1, NUM_RANKS))
    # Alone: the weights and their states. Of shards: own ones, and weights and gradients that are whole in a pass.
    expected = (1 + STATES) * whole - ((1 + STATES) * own + 2 * whole)
    assert alone - sharded == pytest.approx(expected, rel=1e-3)


def test_minutes_are_arithmetic() -> None:
    work = count_work(CLUSTER, DATA, planned_model(ROOT, CLUSTER))
    planned = plan_elsewhere(CLUSTER, DATA, work, PIPELINE, Fleet("h100", 16, "fsdp2", 0.5))
    tokens = 19_000 * 64 * 4 * 2048
    assert planned["pretrain"].seconds == pytest.approx(6 * work.model.num_parameters * tokens / (16 * 989e12 * 0.5))
    assert {stage: (it.processes, it.strategy) for stage, it in planned.items()} == {
        "pretrain": (16, "fsdp2"),
        "sft": (16, "ddp"),
        "reward": (16, "ddp"),
        "align": (16, "ddp"),
        "evaluate": (16, "ddp"),
    }
    sampling = 200 * 256 * 2 * work.model.num_parameters / (3350e9 * 0.5)  # each token reads all weights in bf16
    align = planned["align"]
    assert align.seconds == pytest.approx(align.cost.flops / (16 * 989e12 * 0.5) + sampling)
    weights = 4 * work.model.num_parameters  # SFT's replies and those of evaluate are sampled in fp32
    reward = planned["reward"]
    sampling = -(-work.num_sampled // (16 * 256)) * 256 * weights / (3350e9 * 0.5)
    assert work.num_sampled == DATA.num_train_prompts
    assert reward.seconds == pytest.approx(reward.cost.flops / (16 * 989e12 * 0.5) + sampling)
    evaluate = planned["evaluate"]
    num_batches = -(
        -(
            3 * CLUSTER.evaluate.num_prompts
            + CLUSTER.evaluate.best_of_n.num_prompts * CLUSTER.evaluate.best_of_n.num_replies
        )
        // (16 * 64)
    )
    sampling = num_batches * 256 * weights / (3350e9 * 0.5)
    assert evaluate.seconds == pytest.approx(evaluate.cost.flops / (16 * 67e12 * 0.5) + sampling)
    fp32 = CLUSTER.model_copy(update={"runtime": CLUSTER.runtime.model_copy(update={"precision": "fp32"})})
    slower = plan_elsewhere(fp32, DATA, work, PIPELINE, Fleet("h100", 16, "ddp", 0.5))
    assert slower["sft"].seconds / planned["sft"].seconds == pytest.approx(989 / 67)


def test_a_process_has_its_share_of_each_batch() -> None:
    share = of_process(CLUSTER, 16)
    assert (share.pretrain.batch_size, share.pretrain.accumulate) == (4, 4)
    assert (share.sft.batch_size, share.sft.accumulate) == (4, 1)
    assert share.align.minibatch_size == 16
    assert share.align.rollout.batch_size == 64
    with pytest.raises(ValueError, match=r"pretrain\.batch_size 64 cannot") as refused:
        of_process(CLUSTER, 12)
    assert [line.partition(" cannot be divided among 12 ")[0] for line in str(refused.value).splitlines()] == [
        "pretrain.batch_size 64",
        "sft.batch_size 64 with sft.accumulate 1",
        "reward.batch_size 64 with reward.accumulate 1",
        "align.minibatch_size 256",
        "align.rollout.batch_size 1024",
    ]


def test_what_does_not_fit_is_named_with_what_to_change() -> None:
    work = count_work(CLUSTER, DATA, planned_model(ROOT, CLUSTER))

    def problems(device: str) -> list[str]:
        fleet = Fleet(device, 16, "ddp", 0.3)
        return misfits_elsewhere(CLUSTER, DATA, work, plan_elsewhere(CLUSTER, DATA, work, PIPELINE, fleet), fleet)

    assert problems("h100") == []
    longer = CLUSTER.model_copy(update={"reward": CLUSTER.reward.model_copy(update={"max_length": 2048})})
    fleet = Fleet("h100", 16, "ddp", 0.3)
    (said,) = misfits_elsewhere(longer, DATA, work, plan_elsewhere(longer, DATA, work, PIPELINE, fleet), fleet)
    assert said.endswith(
        "lower reward.batch_size to 2 and raise reward.accumulate to 32"
    )  # of each process two passes of two pairs
    lines = problems("4090")
    assert lines[0].startswith("pretrain cannot fit: about ")
    assert lines[-1].endswith(" are usable; lower evaluate.batch_size to 8")


def test_a_device_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("memory_gb: 48\nfp32_tflops: 91\nbf16_tflops: 181\ngb_per_second: 864\n")
    assert named_device(str(path)) == Device(48, 91, 181, 864)
    assert named_device("a100") == CARDS["a100"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory_gb: 48\n", "has to hold memory_gb, fp32_tflops, bf16_tflops, gb_per_second, a number each"),
        ("memory_gb: 48\nfp32_tflops: 0\nbf16_tflops: fast\ngb_per_second: 1\n", "fp32_tflops, bf16_tflops: a number"),
        ("[48]", "has to hold memory_gb"),
        (None, "use h100, a100, 4090 or a YAML file with memory_gb, "),
    ],
)
def test_what_is_no_device_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "card.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        named_device(str(path))
