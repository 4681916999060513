"""A stage's body in a separate process, which gets only the pickled context."""

import pickle
import subprocess
import sys
from typing import Any

from groundup.runner.context import StageContext

PYTHON = sys.executable
CALL_BODY = """
import importlib, pickle, sys
from pathlib import Path
module, name = sys.argv[1:]
body = getattr(importlib.import_module(module), name)
context = pickle.loads(sys.stdin.buffer.read())
Path(context.work / "metrics").write_bytes(pickle.dumps(body(context)))
"""


def in_another_process(context: StageContext, module: str, name: str = "main") -> dict[str, Any]:
    subprocess.run([PYTHON, "-c", CALL_BODY, module, name], input=pickle.dumps(context), check=True)
    metrics: dict[str, Any] = pickle.loads((context.work / "metrics").read_bytes())
    return metrics
