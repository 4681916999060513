"""The blocks about runs that started from an open model: what bench/open holds of them."""

from pathlib import Path
from typing import Any

from reliability_figures import table

from bench.results import MODELS
from groundup.runner.files import read_object

RUNS = {"lunch": "open-lunch", "open": "open"}  # folder of bench/open -> preset
SHOWN = "open"  # the run whose replies are shown
# Of the base, SFT and the aligned model: figure -> title.
BEFORE_AND_AFTER = {
    "bits_per_byte": "bits per byte of test documents",
    "topic_accuracy": "topic of a text among four",
    "definition_accuracy": "definition of a thing among four",
    "which_entity_accuracy": "thing of a definition among four",
    "next_reply_accuracy": "next reply among four",
    "reply_length": "tokens per reply",
    "distinct_2": "distinct pairs of words per reply",
}
SEEDS = {  # figure -> title
    "win_rate_vs_sft_gold": "wins against SFT",
    "win_rate_vs_sft_gold_moved": "in other conversations",
    "win_rate_vs_sft_gold_moved_within_opening": "in others with the same first question",
    "win_rate_vs_sft_gold_length_controlled": "with length held constant",
}


def blocks(root: Path) -> dict[str, str]:
    """By name; only for runs that are there."""
    contents = {}
    for name in RUNS:
        folder = root / "bench/open" / name
        if not folder.is_dir():
            continue
        result = read_object(folder / "result.json")
        figures = result["figures"]
        contents |= {
            f"open-{name}-models": models(figures["evaluate"]),
            f"open-{name}-figures": compared(figures),
            f"open-{name}-times": times(result),
        }
        if name == SHOWN:
            contents[f"open-{name}-replies"] = replies(figures["samples"])
            contents[f"open-{name}-seeds"] = seeds(read_object(folder / "seeds/result.json"))
    return contents


def interval(values: dict[str, Any], key: str) -> str:
    """With the interval, where the figure has one."""
    parts = [f"{values[name]:.3f}" for name in (key, f"{key}_ci_low", f"{key}_ci_high") if name in values]
    return parts[0] if len(parts) == 1 else f"{parts[0]} ({parts[1]} to {parts[2]})"


def models(evaluate: dict[str, Any]) -> str:
    rows = [
        (title, *(interval(evaluate[model], key) for model in MODELS))
        for key, title in BEFORE_AND_AFTER.items()
        if key in evaluate["base"]
    ]
    return table(("figure", "base", "SFT", "aligned"), rows)


def compared(figures: dict[str, dict[str, Any]]) -> str:
    reward, align, evaluate = figures["reward"], figures["align"], figures["evaluate"]
    rows = [
        ("SFT, nats per assistant token of val chats", f"{figures['sft']['val_loss']:.3f}",
         f"base {figures['sft']['val_loss_before']:.3f}"),
        ("reward model, a person's reply against another person's from elsewhere",
         interval(reward, "heldout_relevance_accuracy"),
         f"after other prompts {reward['heldout_relevance_moved_accuracy']:.3f}"),
        ("the same, the other reply being an earlier turn", interval(reward, "heldout_repeat_accuracy"),
         f"after other prompts {reward['heldout_repeat_moved_accuracy']:.3f}"),
        ("reward model, a person's reply against SFT's", interval(reward, "heldout_sampled_accuracy"),
         f"words of the reply alone {reward['heldout_sampled_bag_of_words_accuracy']:.3f}"),
        *aligned_rows(align, evaluate),
        ("the base's replies against SFT's, by the same judge", interval(evaluate, "win_rate_base_vs_sft_gold"), ""),
    ]  # fmt: skip
    return table(("result", "value", "compare with"), rows)


def aligned_rows(align: dict[str, Any], evaluate: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("reward of aligned replies to test prompts", f"{align['heldout_reward_after']:.3f}",
         f"SFT model {align['heldout_reward_before']:.3f}"),
        ("KL of the aligned model to the SFT model, nats per reply", f"{align['kl_to_reference']:.2f}",
         f"budget {align['kl_budget']:.1f}"),
        ("aligned replies against SFT's, share of wins under a judge that no model was trained on",
         interval(evaluate, "win_rate_vs_sft_gold"),
         f"in other conversations {evaluate['win_rate_vs_sft_gold_moved']:.3f}, people "
         f"{evaluate['win_rate_human_vs_sft_gold']:.3f}, best constant reply "
         f"{evaluate['win_rate_constant_vs_sft_gold']:.3f}"),
    ]  # fmt: skip


def seeds(result: dict[str, Any]) -> str:
    runs = [(str(run["seed"]), run) for run in result["runs"]] + [("all", result["all"])]
    rows = [(name, *(interval(run, key) if key in run else "" for key in SEEDS)) for name, run in runs]
    return table(("seed", *SEEDS.values()), rows)


def times(result: dict[str, Any]) -> str:
    together, cores = result["together"], result["machine"]["cores"]
    return (
        f"The stages took {together['seconds'] / 60:.0f} minutes on {cores} CPU cores in {result['precision']}, "
        f"and at most {together['peak_memory_mb']:,.0f} MB of memory."
    )


def replies(samples: list[dict[str, Any]]) -> str:
    """What was said last, and what each model replied."""
    rows = [
        tuple(in_cell(text) for text in (row["messages"][-1]["content"], *(row[model] for model in MODELS)))
        for row in samples
    ]
    return table(("the user's last message", "base", "SFT", "aligned"), rows)


def in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def sample(row: dict[str, Any]) -> str:
    """A prompt and each model's reply."""
    lines = [f"> **{message['role']}** {message['content']}" for message in row["messages"]]
    lines += [f"> *{model}:* {' '.join(row[model].split())}" for model in MODELS]
    return "  \n".join(lines)
