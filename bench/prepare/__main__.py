"""python -m bench.prepare --datatrove-python PATH: README.md beside this file."""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.prepare.corpus import write_corpus
from bench.results import ROOT, ratios, row, spread, write_result
from groundup.prepare.clean.dedup import INDEX_BYTES_PER_DOCUMENT, bands
from groundup.runner.files import remove
from groundup.runner.params import load_params
from groundup.runner.params.prepare import PrepareParams

HERE = Path(__file__).parent
SAMPLE_SECONDS = 0.2
NEVER = 1_000_000_000  # characters: nothing is that long, so no language is looked at

logger = logging.getLogger(__name__)


def make_settings(params: PrepareParams) -> dict[str, Any]:
    """Params of prepare with one source of files, and how our index cuts signatures into bands."""
    settings = params.model_dump(mode="json")
    source = {"kind": "files", "name": "corpus", "paths": ["*.jsonl"], "yields": "text", "text_column": "text"}
    settings["sources"] = [source | {"licence": "see the packages"}]
    settings["clean"]["min_language_characters"] = NEVER
    return settings


def run(command: list[str], log: Path) -> dict[str, Any]:
    """What the side says of itself, and the most memory that its processes held together, in bytes."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment()
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
    assert process.stdout is not None
    said = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return {**json.loads(said.splitlines()[-1]), "peak_bytes": peak}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def anonymous_bytes(pid: int) -> int:
    """Of a process and its descendants; pages of files, which the system may take back, are left out."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            info = process.memory_info()
            total += info.rss - info.shared
    except psutil.NoSuchProcess:  # it has just ended; the next sample will do
        return 0
    return total


def table(result: dict[str, Any]) -> str:
    lines = [
        row("corpus", "", "MB/s", "groundup's speed over its", "peak memory, MB", "documents to train on"),
        "|---|---|---:|---:|---:|---:|",
    ]
    for times, found in result["corpora"].items():
        for side, runs in found["runs"].items():
            ours = "" if side == "groundup" else spread(found["times"][side], 2)
            lines.append(
                row(
                    f"{times}x, {found['bytes'] / 1e6:.0f} MB",
                    side,
                    spread(found["megabytes_per_second"][side], 2),
                    ours,
                    f"{max(run['peak_bytes'] for run in runs) / 1e6:.0f}",
                    f"{runs[0]['documents']['train']:,}",
                )
            )
    growth = result["bytes_per_document"]
    lines += [
        "",
        f"groundup's memory grows by {growth['measured']:,.0f} bytes a document of the corpus; the index of "
        f"deduplication takes {growth['index']:,}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datatrove-python", required=True, help="of an environment with requirements.txt")
    parser.add_argument("--times", type=float, nargs=2, default=[1, 10], help="the packages' text, small and large")
    parser.add_argument("--turns", type=int, nargs=2, default=[3, 1], help="with the small corpus and the large one")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    params = load_params(ROOT / "params.yaml").prepare
    num_bands, band_rows = bands(params.dedup)
    settings = make_settings(params)
    corpora: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "groundup.json").write_text(json.dumps(settings))
        (work / "datatrove.json").write_text(json.dumps(settings | {"num_bands": num_bands, "band_rows": band_rows}))
        ours = [sys.executable, str(HERE / "run_groundup.py"), str(work / "groundup.json")]
        theirs = [options.datatrove_python, str(HERE / "run_datatrove.py"), str(work / "datatrove.json")]
        for times, num_turns in zip(options.times, options.turns, strict=True):
            corpus = work / f"corpus-{times:g}"
            num_documents = write_corpus(params, corpus, times)
            num_bytes = sum(path.stat().st_size for path in corpus.iterdir())
            commands = {
                "groundup": [*ours, str(corpus), str(work / "out")],
                "datatrove, 1 worker": [*theirs, str(corpus), str(work / "out"), "1"],
                "datatrove, 2 workers": [*theirs, str(corpus), str(work / "out"), "2"],
            }
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
            for turn in range(num_turns):
                for side, command in commands.items():
                    remove(work / "out")
                    runs[side].append(run(command, work / "log"))
                    seconds = runs[side][-1]["seconds"]
                    logger.info("%gx, turn %d of %d, %s: %.1f s", times, turn + 1, num_turns, side, seconds)
            speeds = {side: [num_bytes / 1e6 / one["seconds"] for one in of_side] for side, of_side in runs.items()}
            corpora[f"{times:g}"] = {
                "documents": num_documents,
                "bytes": num_bytes,
                "megabytes_per_second": speeds,
                "times": {side: ratios(speeds["groundup"], speeds[side]) for side in speeds if side != "groundup"},
                "runs": runs,
            }
    small, large = corpora.values()
    peaks = [statistics.median(run["peak_bytes"] for run in found["runs"]["groundup"]) for found in (small, large)]
    growth = (peaks[1] - peaks[0]) / (large["documents"] - small["documents"])
    per_document = {"measured": growth, "index": INDEX_BYTES_PER_DOCUMENT}
    result = {"corpora": corpora, "bytes_per_document": per_document}
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
