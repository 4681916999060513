"""Over-optimisation of two align runs in one picture, for example with and without pessimism.

    python bench/overoptimization.py --judge artifacts/data/judge --out docs/images/overoptimization.png \
        "without pessimism=runs/a/evaluation_points.jsonl" "with pessimism=runs/b/evaluation_points.jsonl"
"""

import argparse
from pathlib import Path

from groundup.app.report.curves import draw_charts
from groundup.evaluate.gold import Absent, load_gold_judge
from groundup.evaluate.measures.overoptimization import read_points, study, study_chart
from groundup.runner.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--judge", type=Path, required=True, help="directory of the judge's conversations")
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    parser.add_argument("runs", nargs="+", metavar="NAME=POINTS", help="name and evaluation_points.jsonl of a run")
    arguments = parser.parse_args()
    params = load_params(arguments.params).evaluate
    judge = load_gold_judge(arguments.judge, params.gold_judge)
    if isinstance(judge, Absent):
        parser.error(judge.reason)
    named = [run.partition("=") for run in arguments.runs]
    charts = [
        study_chart(study(read_points(Path(path)), judge, params.bootstrap_samples, params.seed), name)
        for name, _, path in named
    ]
    arguments.out.write_bytes(draw_charts(charts))


if __name__ == "__main__":
    main()
