"""The decoding methods as a table, two claims about them, and a JSON file with all replies."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.evaluate.measures.decoding import Decoded
from groundup.evaluate.replies import Prompt
from groundup.evaluate.report.sentences import interval, number, percent
from groundup.evaluate.report.table import Cell, Row
from groundup.runner.params.decoding import DecodingParams

FILE = "decoding.json"
COLUMNS = ("Reward", "Gold score", "Log-probability", "Tokens generated", "Tokens of the reply")
TITLES = {
    "greedy": "Greedy",
    "sample": "Sampling",
    "beam": "Beam search",
    "best_of_n": "Best of n",
    "tree": "Tree of thoughts",
}


def decoding_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """What beam search and the tree are there for, said either way."""
    return [_beam(metrics), _tree(metrics)]


def decoding_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """A row a method, by COLUMNS. What a clock measured stands in the metrics and not here."""
    return [
        Row(
            title,
            "",
            [
                *(_cell(metrics, f"decoding_{method}_{figure}") for figure in ("reward", "gold", "log_prob")),
                Cell(f"{metrics[f'decoding_{method}_tokens']:.0f}", "", None),
                Cell(f"{metrics[f'decoding_{method}_reply_length']:.1f}", "", None),
            ],
        )
        for method, title in TITLES.items()
    ]


def decoding_hint(metrics: Mapping[str, Any], params: DecodingParams) -> str:
    return (
        f"The aligned model on {metrics['decoding_num_prompts']} test prompts, drawn at random: the reward model's "
        "score, the gold judge's, the log-probability of the whole reply under the model at temperature 1, the tokens "
        f"generated for it (at most {params.budget_tokens}) and those of the reply. Temperature "
        f"{params.temperature:g}. Best of n and tree choose by the reward model's mean score less "
        f"{params.pessimism:g} times its standard deviation, which is 0 with the linear head. Small figures or "
        "brackets are 95 % intervals. The seconds of a reply are decoding_METHOD_seconds in metrics/evaluate.json."
    )


def write_decoding(
    path: Path, metrics: Mapping[str, Any], prompts: Sequence[Prompt], decoded: Mapping[str, Decoded]
) -> None:
    """{figures, sentences, replies}, without what a clock measured."""
    replies = [
        {
            "conversation_id": prompt.conversation_id,
            "messages": prompt.messages,
            "replies": {
                method: {"text": d["texts"][i], "ended": d["ended"][i], "reward": d["rewards"][i]}
                for method, d in decoded.items()
            },
        }
        for i, prompt in enumerate(prompts)
    ]
    figures = {
        name: value
        for name, value in metrics.items()
        if name.startswith("decoding_") and not name.endswith("_seconds")
    }
    values = {"figures": figures, "sentences": decoding_sentences(metrics), "replies": replies}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _beam(metrics: Mapping[str, Any]) -> str:
    share = metrics["decoding_beam_at_least_greedy"]
    figures = (
        f"its mean log-probability is {number(metrics['decoding_beam_log_prob'])} against "
        f"{number(metrics['decoding_greedy_log_prob'])}"
    )
    if share == 1:
        return (
            f"Beam search finds a reply at least as likely as greedy's on all {metrics['decoding_num_prompts']} "
            f"prompts: {figures}."
        )
    return (
        f"Beam search does not find a reply as likely as greedy's on {percent(1 - share)} of "
        f"{metrics['decoding_num_prompts']} prompts: {figures}."
    )


def _tree(metrics: Mapping[str, Any]) -> str:
    name = "decoding_tree_reward_over_best_of_n"
    if metrics[f"{name}_ci_low"] > 0:
        verdict = "finds replies of a higher reward than best of n"
    elif metrics[f"{name}_ci_high"] < 0:
        verdict = "finds replies of a lower reward than best of n"
    else:
        verdict = "cannot be told apart in reward from best of n"
    return (
        f"At the same budget of tokens tree of thoughts {verdict}: {number(metrics['decoding_tree_reward'])} against "
        f"{number(metrics['decoding_best_of_n_reward'])}, difference {number(metrics[name])} "
        f"({interval(metrics, name)})."
    )


def _cell(metrics: Mapping[str, Any], name: str) -> Cell:
    if name not in metrics:
        return Cell("-", "", None)  # there is no judge
    return Cell(number(metrics[name]), interval(metrics, name), None)
