"""The tables and the plot of the comparison, from its result alone."""

from pathlib import Path
from statistics import mean
from typing import Any, get_args

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from groundup.evaluate.controls import TITLES
from groundup.evaluate.gold import HUMAN_WIN_RATE as PEOPLE
from groundup.evaluate.gold import WIN_RATE as WON
from groundup.runner.params.align import Method

Result = dict[str, Any]
SHUFFLED = "ppo_shuffled"  # the control
METHODS = (*get_args(Method), SHUFFLED)
BEST_OF_N = "best_of_n"  # no training
CONTESTANTS = (*METHODS, BEST_OF_N)
SAME_STYLE = f"{WON}_same_style"
REFERENCES = {
    PEOPLE: "people's replies",
    f"{PEOPLE}_moved": "people's, in other conversations",
    **{f"win_rate_{name}_vs_sft_gold": title[0].lower() + title[1:] for name, title in TITLES.items()},
}
STYLES = {f"{name}_rate": name for name in ("greeting", "question", "echo", "repeat")}


def page(result: Result) -> str:
    parts = [comparison, references, styles, cost, best_of_n]
    return "\n\n".join(part(result) for part in parts) + "\n"


def runs_of(result: Result, method: str) -> list[Result]:
    return [run for run in result["runs"] if run["method"] == method]


def comparison(result: Result) -> str:
    """One row a method and seed: what the judge and the reward model say, at what KL and length."""
    lines = [
        f"{result['num_prompts']} test prompts, one reply each; {result['num_samples']:,} replies sampled in "
        f"training by each method; best of n takes the best of {result['num_replies']} replies of the SFT model. "
        "Alike: where both replies greet or neither does, and both ask or neither does. The judge finds the reply "
        f"that a person gave in {result['judge_agreement']:.2f} ({result['judge_agreement_ci_low']:.2f} to "
        f"{result['judge_agreement_ci_high']:.2f}) of {result['judge_num_pairs']:,} held-out pairs "
        f"({result['judge_num_conversations']} conversations; guessing 0.50).",
        "",
        "| method | seed | win rate against SFT | in other conversations | difference | at equal length | alike "
        "| reward | KL | tokens | distinct-2 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {method} | {run['seed']} | {interval(run, WON)} | {run[f'{WON}_moved']:.3f} "
        f"| {interval(run, f'{WON}_above_moved')} | {run[f'{WON}_length_controlled']:.3f} "
        f"| {interval(run, SAME_STYLE)} | {run['reward_difference']:+.3f} | {run['kl_to_sft']:.2f} "
        f"| {run['reply_length']:.1f} | {run['distinct_2']:.3f} |"
        for method in CONTESTANTS
        for run in runs_of(result, method)
    ]
    return "\n".join(lines)


def references(result: Result) -> str:
    """What the win rates are worth: people's, and those of replies that read nothing or little."""
    figures = result["people"] | result["controls"]
    lines = ["| against SFT, by the same judge | win rate |", "|---|---:|"]
    lines += [f"| {title} | {interval(figures, name)} |" for name, title in REFERENCES.items()]
    return "\n".join(lines)


def styles(result: Result) -> str:
    """One row a method, means over seeds: shares of replies."""
    lines = [f"| share of replies | {' | '.join(STYLES.values())} |", "|---|" + "---:|" * len(STYLES)]
    for who, runs in (
        ("people", [result["people"]]),
        ("SFT", [result["sft"]]),
        *((method, runs_of(result, method)) for method in CONTESTANTS),
    ):
        lines.append(f"| {who} | {' | '.join(f'{mean(run[name] for run in runs):.3f}' for name in STYLES)} |")
    return "\n".join(lines)


def interval(values: Result, key: str) -> str:
    return f"{values[key]:.3f} ({values[f'{key}_ci_low']:.3f} to {values[f'{key}_ci_high']:.3f})"


def cost(result: Result) -> str:
    """One row a method, means over seeds."""
    lines = [
        "| method | training, s | whole stage, s | samples/s | kept iterations | stopped early | alarms |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for method in METHODS:
        runs = runs_of(result, method)
        seconds, whole, rate = (
            mean(run[name] for run in runs) for name in ("train_seconds", "cell_seconds", "samples_per_second")
        )
        kept, stopped, alarms = (
            ", ".join(str(run[name]) for run in runs) for name in ("kept_iteration", "stopped_early", "alarms_fired")
        )
        lines.append(f"| {method} | {seconds:.0f} | {whole:.0f} | {rate:.1f} | {kept} | {stopped} | {alarms} |")
    return "\n".join(lines)


def best_of_n(result: Result) -> str:
    """One row an n, means over the reward models of all seeds."""
    lines = [
        "Best of n: gains over one reply, in standard deviations of the SFT model's replies.",
        "",
        "| n | KL, at most | gain in reward | gain under the judge |",
        "|---:|---:|---:|---:|",
    ]
    for points in zip(*result["best_of_n"], strict=True):
        proxy, gold = (mean(point[name] for point in points) for name in ("proxy_gain", "gold_gain"))
        lines.append(f"| {points[0]['n']} | {points[0]['kl']:.2f} | {proxy:.2f} | {gold:.2f} |")
    return "\n".join(lines)


def draw_plot(result: Result, path: Path) -> None:
    """Gold gain against KL: the way of every run on val prompts, a mark with its interval where it was kept."""
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axhline(0, color="#8a919c", linewidth=0.8)
    for color, method in enumerate(METHODS):
        for number, run in enumerate(runs_of(result, method)):
            points = run["points"]
            axes.plot(
                [point["kl"] for point in points],
                [point["gold_gain"] for point in points],
                color=f"C{color}",
                alpha=0.35,
                linewidth=1,
            )
            (kept,) = (point for point in points if point["kept"])
            axes.errorbar(
                kept["kl"],
                kept["gold_gain"],
                yerr=[[kept["gold_gain"] - kept["gold_gain_low"]], [kept["gold_gain_high"] - kept["gold_gain"]]],
                color=f"C{color}",
                fmt="o",
                capsize=3,
                label=method if number == 0 else None,
            )
    curve = list(zip(*result["best_of_n"], strict=True))
    axes.plot(
        [points[0]["kl"] for points in curve],
        [mean(point["gold_gain"] for point in points) for points in curve],
        color="#767d88",
        linestyle="--",
        marker=".",
        label="best of n (KL is a bound)",
    )
    axes.set_xlabel("KL to the SFT model (nats a reply)")
    axes.set_ylabel("gold gain (standard deviations)")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
