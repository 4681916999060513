"""New places of keys of older versions, for the error that names them and for `configure --migrate`."""

from collections.abc import Callable
from typing import Any

MODEL = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "intermediate_size",
    "position",
    "attention",
    "rope_theta",
    "tie_embeddings",
    "initializer_range",
)
TOKENIZER = ("vocab_size", "min_frequency", "curve_vocab_sizes")
# Section of align -> its keys: the name, or (old name, new name).
ALIGN: dict[str, tuple[str | tuple[str, str], ...]] = {
    "rollout": ("max_prompt_tokens", "max_new_tokens", "temperature", ("rollout_batch_size", "batch_size")),
    "budgets": (("kl_budget", "kl"), ("length_budget", "length"), ("diversity_budget", "diversity")),
    "alarms": ("kl_stop",),
    "validation": (
        ("validate_every", "every"),
        ("num_validation_prompts", "num_prompts"),
        "sample_every",
        "num_samples",
    ),
    "test": (("num_test_prompts", "num_prompts"), "bootstrap_samples"),
    "ppo": (
        "learning_rate",
        "value_trunk",
        "value_learning_rate",
        "value_clip_range",
        "discount",
        "gae_lambda",
        "entropy_coefficient",
        "entropy_floor",
        "entropy_floor_rate",
        "kl_coefficient",
        "kl_target",
        "kl_horizon",
        ("alarms.rollback_after", "rollback_after"),
        ("alarms.rollback_kl_factor", "rollback_kl_factor"),
        ("alarms.max_rollbacks", "max_rollbacks"),
    ),
}
OF_EACH_METHOD = ("clip_range", "length_control_gain", "length_control_rate")

# Old key -> its new places; a value that several sections now read goes to each.
MOVED: dict[str, tuple[str, ...]] = {
    **{f"model.{name}": (f"model.scratch.{name}",) for name in MODEL},
    **{f"tokenizer.{name}": (f"tokenizer.scratch.{name}",) for name in TOKENIZER},
    **{
        f"align.{old}": (f"align.{section}.{new}",)
        for section, names in ALIGN.items()
        for old, new in ((name, name) if isinstance(name, str) else name for name in names)
    },
    **{f"align.{name}": tuple(f"align.{m}.{name}" for m in ("ppo", "rloo", "grpo")) for name in OF_EACH_METHOD},
}


def rewards(pessimism: float, length: float, repetition: float, missing_end: float) -> list[dict[str, Any]]:
    """The reward terms that replace the four penalties."""
    return [
        {"kind": "reward_model", "weight": 1.0, "pessimism": pessimism},
        {"kind": "length", "weight": length},
        {"kind": "repetition", "weight": repetition},
        {"kind": "missing_end_of_turn", "weight": missing_end},
    ]


PENALTIES = ("align.pessimism", "align.length_penalty", "align.repetition_penalty", "align.missing_eos_penalty")

# New key -> the old keys that it replaces, and the function that computes its value from theirs.
MADE: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {"align.rewards": (PENALTIES, rewards)}
# New key -> the value with which the older version's behaviour stays, as far as there is one.
ADDED: dict[str, Any] = {
    "model.base": None,
    "model.chat_template": "own",
    "pretrain.max_final_documents": None,
    "pretrain.lora": None,
    "prepare.preferences.relevance.pairs_per_reply": 1,
    "prepare.preferences.relevance.same_opening_fraction": 0.0,
    "reward.max_heldout_pairs": None,
    "reward.relevance_alone_fraction": 0.0,
    "reward.accumulate": 1,
    "reward.gates": [],
    "align.rollout.num_elsewhere": 0,
    "align.budgets.style": 1.0,
    "align.alarms.style": 1.0,
    "evaluate.model_judge.path": None,
    "evaluate.model_judge.digest": None,
    "evaluate.model_judge.max_length": 512,
    "evaluate.model_judge.batch_size": 16,
    "evaluate.model_judge.num_others": 4,
    "evaluate.model_judge.num_pairs": 400,
    "evaluate.model_judge.num_control_prompts": 200,
    **{f"{judge}.common_words": 0.05 for judge in ("align.monitor_judge", "evaluate.gold_judge")},
}


def new_places(key: str) -> tuple[str, ...]:
    """Empty unless `key` is a key of an older version."""
    return MOVED.get(key) or tuple(made for made, (olds, _) in MADE.items() if key in olds)
