"""The tables of a result."""

from typing import Any

from bench.results import row, spread

NAMES = {
    "groundup": "groundup (Lightning, documents apart)",
    "loop": "hand-written loop (attention crosses documents, as in nanoGPT)",
    "loop_documents": "hand-written loop, documents apart",
}


def table(result: dict[str, Any]) -> str:
    rates = [rate / 1e9 for rate in result["matmul_flops_per_second"]]
    speeds, utilisation = result["tokens_per_second"], result["model_flops_utilisation"]
    lines = [
        row("", "tokens/s", "model FLOPs / matmul rate", "groundup's speed over its"),
        "|---|---:|---:|---:|",
    ]
    for side, name in NAMES.items():
        times = "" if side == "groundup" else spread(result["times_loop"][side], 2)
        lines.append(row(name, spread(speeds[side], 0), spread(utilisation[side], 2), times))
    lines += [
        "",
        f"Medians over turns (least to greatest). The step's own matrix products: {spread(rates, 1)} GFLOP/s.",
        f"Model FLOPs of a step: {result['model_flops_per_step'] / 1e9:.2f} G, tokens x (6 N + 12 L H T): N weights "
        "of linear layers with the head, attention over the whole context.",
        "",
        row("part of our step", "ms", "share"),
        "|---|---:|---:|",
    ]
    parts = result["step_milliseconds"]
    total = sum(parts.values())
    lines += [row(name, f"{value:.1f}", f"{value / total:.1%}") for name, value in parts.items()]
    lines += ["", row("operator", "share of CPU time"), "|---|---:|"]
    lines += [row(f"`{name}`", f"{share:.1%}") for name, share in result["operator_shares"].items()]
    lines += ["", row("product", "batch, rows, inner, columns", "a step", "GFLOP/s"), "|---|---|---:|---:|"]
    lines += [
        row(
            product["name"],
            ", ".join(map(str, product["shape"])),
            str(product["count"]),
            f"{product['flops_per_second'] / 1e9:.1f}",
        )
        for product in result["products"]
    ]
    return "\n".join(lines) + "\n"
