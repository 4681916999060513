"""Pretraining on the tiny model: no attention across documents, exact resume, invariance, clear stops."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.shards import TokenShards
from groundup.core.model.forward import RowAttention, hidden_states
from groundup.core.model.llama import build_llama
from groundup.core.training.cost import Cost, read_cost
from groundup.core.training.runtime import NonFiniteLossError
from groundup.pretrain.data import RowLoader
from groundup.pretrain.pretrain import PretrainModule, pretrain
from groundup.pretrain.row_loss import places_that_predict
from groundup.runner.params.training import ModelParams, PretrainParams
from tests.presets import preset
from tests.resume import Curve

PARAMS = preset("smoke")
MODEL = PARAMS.model.model_copy(
    update={
        "context_length": 32,
        "scratch": PARAMS.model.scratch.model_copy(update={"hidden_size": 16, "intermediate_size": 32}),
    }
)
PRETRAIN = PARAMS.pretrain.model_copy(
    update={
        "num_steps": 8,
        "batch_size": 2,
        "warmup_steps": 1,
        "validate_every": 4,
        "checkpoint_every": 2,
        "log_every": 1,
    }
)


def run(
    inputs: dict[str, Path],
    folder: Path,
    log: Curve,
    params: PretrainParams = PRETRAIN,
    model: ModelParams = MODEL,
    precision: str = "fp32",
    strategy: str = "ddp",
) -> dict[str, Any]:
    return pretrain(
        **inputs,
        out=folder / "out",
        report=folder / "report",
        model_params=model,
        params=params,
        runtime=PARAMS.runtime.model_copy(update={"num_threads": 1, "precision": precision}),
        device="cpu",
        checkpoints=log.checkpoints(folder),
        log=log,
        strategy=strategy,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "out").state_dict()


def test_it_learns_and_saves_a_model_that_loads(inputs: dict[str, Path], tmp_path: Path) -> None:
    log = Curve()
    params = PRETRAIN.model_copy(update={"num_steps": 80, "validate_every": 40, "checkpoint_every": 40})
    metrics = run(inputs, tmp_path, log, params)
    losses = [row["loss"] for row in log.rows.values()]
    assert losses[-1] < 0.7 * losses[0]
    assert metrics["num_tokens"] == 80 * 2 * 32
    assert metrics["num_epochs"] == 80 * 2 / len(TokenShards(inputs["shards"], 32))
    assert 0 < metrics["val_bits_per_byte"] < 8
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.generation_config.use_cache is True
    assert loaded.generation_config.eos_token_id == loaded.config.eos_token_id
    assert (tmp_path / "report/samples.md").read_text(encoding="utf-8").startswith("# Samples")
    assert read_cost(tmp_path / "report") == Cost(metrics["num_parameters"], metrics["num_tokens"], 0)


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_bf16_follows_fp32_and_keeps_its_weights_in_fp32(
    inputs: dict[str, Path], tmp_path: Path, attention: str
) -> None:
    model = MODEL.model_copy(update={"attention": attention})
    curves = {}
    for precision in ("fp32", "bf16"):
        log = Curve()
        run(inputs, tmp_path / precision, log, model=model, precision=precision)
        curves[precision] = torch.tensor([row["loss"] for row in log.rows.values() if "loss" in row])
    assert not torch.equal(curves["fp32"], curves["bf16"])
    torch.testing.assert_close(curves["bf16"], curves["fp32"], rtol=0.01, atol=0)
    saved = weights(tmp_path / "bf16")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    for name, weight in weights(tmp_path / "fp32").items():
        torch.testing.assert_close(saved[name], weight, atol=0.02, rtol=0.1)


def test_batch_and_accumulation_trade_places(inputs: dict[str, Path], tmp_path: Path) -> None:
    run(inputs, tmp_path / "batch", Curve(), PRETRAIN.model_copy(update={"batch_size": 4, "num_steps": 2}))
    split = PRETRAIN.model_copy(update={"batch_size": 2, "accumulate": 2, "num_steps": 2})
    run(inputs, tmp_path / "split", Curve(), split)
    one, two = weights(tmp_path / "batch"), weights(tmp_path / "split")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=0.0)


def test_gradients_of_half_batches_average_to_that_of_the_batch(tiny_model: LlamaForCausalLM) -> None:
    """The basis of accumulation; the halves have equally many labels."""
    ids = torch.randint(10, 290, (4, 16), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(5), torch.arange(11)]).expand(4, 16)
    module = PretrainModule(tiny_model, PRETRAIN, compiled=False)

    def gradients(rows: slice) -> dict[str, torch.Tensor]:
        module.zero_grad()
        module.training_step({"input_ids": ids[rows], "position_ids": positions[rows]}, 0).backward()
        return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}

    whole, one, two = gradients(slice(4)), gradients(slice(2)), gradients(slice(2, 4))
    assert any(not torch.allclose(one[name], two[name], atol=1e-3) for name in whole)
    for name in whole:
        torch.testing.assert_close((one[name] + two[name]) / 2, whole[name], atol=1e-6, rtol=1e-4)


def test_a_row_attends_within_its_documents_only(tiny_model: LlamaForCausalLM, inputs: dict[str, Path]) -> None:
    """Changing the first document of a row does not change the states of the second."""
    tokens, positions = next(
        row for i in range(99) if ((row := TokenShards(inputs["shards"], 64).row(i))[1][1:] == 0).any()
    )
    start = int((positions[1:] == 0).argmax()) + 1
    ids, attention = torch.tensor(tokens), RowAttention(torch.tensor(positions)[None])
    changed = ids.clone()
    changed[1 : start - 1] = 7
    with torch.no_grad():
        before, after = (hidden_states(tiny_model.model, x, attention, torch.arange(64)) for x in (ids, changed))
    assert torch.equal(before[start:], after[start:])
    assert not torch.allclose(before[2:start], after[2:start])


def test_the_start_of_a_document_is_not_predicted() -> None:
    positions = torch.tensor([[3, 4, 0, 1, 2], [0, 1, 2, 3, 4]])
    assert places_that_predict(positions).tolist() == [0, 2, 3, 5, 6, 7, 8]


def test_row_order_is_a_pure_function_of_seed_and_step(inputs: dict[str, Path]) -> None:
    shards = TokenShards(inputs["shards"], 32)

    def batches(seed: int, skip: int) -> list[list[int]]:
        loader = RowLoader(shards, 2, seed, 3 * len(shards))
        loader.load_state_dict({"step": skip})
        return [batch["input_ids"].flatten().tolist() for batch in loader]

    assert batches(1, 0)[7:] == batches(1, 7)
    assert batches(1, 0) != batches(2, 0)
    per_epoch = len(shards) // 2
    assert sorted(batches(1, 0)[:per_epoch]) != batches(1, 0)[:per_epoch]
    assert batches(1, 0)[:per_epoch] != batches(1, 0)[per_epoch : 2 * per_epoch]


def test_an_epoch_holds_every_row_once(inputs: dict[str, Path]) -> None:
    """Except the rows that do not fill a batch, which differ in every epoch."""

    class RowNumbers(RowLoader):
        def batch(self, rows: list[int]) -> list[int]:
            return rows

    num_rows = len(TokenShards(inputs["shards"], 32))
    batch_size = next(size for size in (3, 4, 5, 7) if num_rows % size)
    per_epoch = num_rows // batch_size
    batches = list(RowNumbers(TokenShards(inputs["shards"], 32), batch_size, 1, 3 * per_epoch))
    epochs = [[row for batch in batches[i * per_epoch : (i + 1) * per_epoch] for row in batch] for i in range(3)]
    dropped = []
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == per_epoch * batch_size
        assert set(epoch) <= set(range(num_rows))
        dropped.append(set(range(num_rows)) - set(epoch))
    assert all(len(rows) == num_rows % batch_size for rows in dropped)
    assert len({frozenset(rows) for rows in dropped}) > 1


def test_the_figure_at_the_end_is_on_at_most_max_final_documents(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole, one, many = (
        run(inputs, tmp_path / str(limit), Curve(), PRETRAIN.model_copy(update={"max_final_documents": limit}))
        for limit in (None, 1, 1000)
    )
    assert one["val_bits_per_byte"] != whole["val_bits_per_byte"] == many["val_bits_per_byte"]


def test_a_non_finite_loss_stops_and_names_the_step(tiny_model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        tiny_model.model.norm.weight.fill_(float("nan"))
    module = PretrainModule(tiny_model, PRETRAIN, compiled=False)
    batch = {"input_ids": torch.zeros(1, 8, dtype=torch.long), "position_ids": torch.arange(8)[None]}
    with pytest.raises(NonFiniteLossError, match=r"the loss is nan at step 0.*lower pretrain\.learning_rate"):
        module.training_step(batch, 0)


def test_gradients_that_are_not_finite_stop_before_the_step(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(module: PretrainModule) -> None:
        if module.global_step == 3:
            next(weight.grad for weight in module.parameters() if weight.grad is not None).view(-1)[0] = float("nan")

    monkeypatch.setattr(PretrainModule, "on_after_backward", spoil)
    log = Curve()
    with pytest.raises(NonFiniteLossError, match=r"pretrain: the norm of the gradients is nan at step 3.*precision"):
        run(inputs, tmp_path, log)
    assert max(log.rows) == 3


def test_a_new_model_is_the_identity_in_every_block(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = build_llama(MODEL, tiny_tokenizer)
    ids = torch.tensor([[1, 2, 3]])
    hidden = model.model(ids, use_cache=False, output_hidden_states=True).hidden_states
    assert torch.equal(hidden[0], hidden[1])
    assert model.config.eos_token_id == tiny_tokenizer.eos_token_id


def test_fewer_rows_than_a_batch_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fewer than pretrain\.batch_size 10000"):
        run(inputs, tmp_path, Curve(), PRETRAIN.model_copy(update={"batch_size": 10000}))


def test_compiled_layers_give_the_same_loss_and_gradients(
    tiny_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on cuda, except for the backend: the traced function must keep documents apart."""
    ids = torch.randint(10, 290, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "position_ids": torch.cat([torch.arange(5), torch.arange(11)]).expand(2, 16)}
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = []
    for compiled in (False, True):
        module = PretrainModule(tiny_model, PRETRAIN, compiled=compiled)
        module.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        found.append((loss, {name: parameter.grad.clone() for name, parameter in module.named_parameters()}))
        assert set(module.state_dict()) == {f"loss.model.{name}" for name in tiny_model.state_dict()}
    (eager_loss, eager), (loss, gradients) = found
    torch.testing.assert_close(loss, eager_loss)
    torch.testing.assert_close(gradients, eager, atol=1e-6, rtol=1e-4)
