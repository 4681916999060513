"""Our side: prepare with one source of JSONL files. Arguments: settings, corpus, work."""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    # Here, since every worker runs the top of this file.
    from groundup.prepare.outputs.outputs import OUTPUTS
    from groundup.prepare.prepare import prepare
    from groundup.prepare.processes import available_cores
    from groundup.runner.params.prepare import PrepareParams

    params = PrepareParams.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    corpus, out = Path(sys.argv[2]), Path(sys.argv[3])
    outs = {name: out / name for name in OUTPUTS}
    start = time.perf_counter()
    metrics = prepare(params, corpus, outs, out / "report", out / "work", available_cores())
    seconds = time.perf_counter() - start
    held_out = metrics["num_documents_val"] + metrics["num_documents_test"]
    dropped = {name: count for name, count in metrics.items() if name.startswith("dropped_")}
    documents = {"train": metrics["num_documents_train"], "held out": held_out, **dropped}
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "documents": documents}) + "\n")


if __name__ == "__main__":
    main()
