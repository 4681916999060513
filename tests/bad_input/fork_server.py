"""A script that imports the runner, and no more, and then runs stages as forks of itself; forks.py talks to it."""

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import groundup.runner.stage  # noqa: F401  what every stage imports first


def serve() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if child == 0:
                become_stage(json.loads(line), Path(folder))
            _, status = os.waitpid(child, 0)
            answer = {
                "code": os.waitstatus_to_exitcode(status),
                "message": Path(folder, "output").read_text(encoding="utf-8", errors="replace"),
                "heavy": Path(folder, "heavy").exists(),
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def become_stage(request: dict[str, Any], folder: Path) -> None:
    """Like `python -m stages.STAGE`; leaves its output and whether torch was imported in `folder`."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    code = 0
    try:
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        runpy.run_module(f"stages.{request['stage']}", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    if "torch" in sys.modules:
        (folder / "heavy").touch()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
