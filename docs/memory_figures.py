"""Tables of what `groundup plan` predicts: for open models of other sizes, and for the preset cluster."""

from pathlib import Path

from reliability_figures import table

from groundup.app.plan.elsewhere import Fleet, plan_elsewhere
from groundup.app.plan.memory import in_mb, model_outs, rooms
from groundup.app.plan.model import LORA_STAGES, PlannedModel, loras, planned_model
from groundup.app.plan.sizing import count_parameters
from groundup.app.plan.workload import count_work, read_data
from groundup.runner.params import Params
from groundup.runner.params.presets import load_preset
from groundup.runner.params.training import ScratchModelParams
from groundup.runner.pipeline import read_pipeline

PRESET, CLUSTER = "open", "cluster"
DEVICE, UTILIZATION = "h100", 0.3
NUM_PROCESSES = (1, 8, 16, 64)
STAGES = ("pretrain", "sft", "reward", "align", "evaluate")
# hidden, layers, heads, heads of keys and values, inner width, vocabulary, whether the head is the embedding
SHAPES = {
    "SmolLM2-135M": (576, 30, 9, 3, 1536, 49_152, True),
    "SmolLM2-360M": (960, 32, 15, 5, 2560, 49_152, True),
    "SmolLM2-1.7B": (2048, 24, 32, 32, 8192, 49_152, True),
    "Llama 3.1 8B": (4096, 32, 32, 8, 14_336, 128_256, False),
}


def memory_by_size(root: Path) -> str:
    preset = load_preset(root, PRESET)
    data = read_data(root, preset, prepare_runs=False)
    rows = []
    for name in SHAPES:
        model = planned(name, preset)
        for precision in ("fp32", "bf16"):
            params = preset.model_copy(update={"runtime": preset.runtime.model_copy(update={"precision": precision})})
            room = rooms(params, data, count_work(params, data, model), "cpu")
            kept = sum(model_outs(data, model)[stage] for stage in LORA_STAGES)
            memory = (in_gib(room[stage].host) for stage in STAGES)
            rows.append((name, f"{model.num_parameters / 1e6:,.0f} M", precision, *memory, in_gib(kept)))
    return table(("GiB", "parameters", "precision", *STAGES, "DVC's cache"), rows)


def cluster_plan(root: Path) -> str:
    params = load_preset(root, CLUSTER)
    data = read_data(root, params, prepare_runs=True)
    work, pipeline = count_work(params, data, planned_model(root, params)), read_pipeline(root)
    rows = []
    for processes in NUM_PROCESSES:
        by_strategy = [
            plan_elsewhere(params, data, work, pipeline, Fleet(DEVICE, processes, strategy, UTILIZATION))
            for strategy in ("ddp", "fsdp2")
        ]
        minutes = (f"{by_strategy[0][stage].seconds / 60:,.1f}" for stage in STAGES)
        memory = (in_mb(found["pretrain"].room.device) for found in by_strategy)
        rows.append((str(processes), *minutes, *memory))
    return table(("processes", *STAGES, "pretrain, MB by DDP", "by FSDP2"), rows)


def planned(name: str, params: Params) -> PlannedModel:
    """A Llama of this shape, with the preset's adapters on all linear layers."""
    hidden, num_layers, num_heads, num_kv_heads, inner, vocab_size, is_tied = SHAPES[name]
    scratch = ScratchModelParams.model_validate(
        params.model.scratch.model_dump()
        | {
            "hidden_size": hidden,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "num_kv_heads": num_kv_heads,
            "intermediate_size": inner,
            "tie_embeddings": is_tied,
        }
    )
    key_values = hidden * num_kv_heads // num_heads
    # Inputs and outputs of the queries' and the output layer, of keys and values, of the three inner layers.
    ends = num_layers * (2 * 2 * hidden + 2 * (hidden + key_values) + 3 * (hidden + inner))
    return PlannedModel(
        num_parameters=count_parameters(scratch, vocab_size),
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=inner,
        num_key_values=2 * key_values,
        is_open=True,
        num_adapted={stage: getattr(params, stage).lora.rank * ends for stage in loras(params)},
    )


def in_gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f}"
