"""The code a stage runs: its script and everything of ours that it imports, the frame left out."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRAME = "groundup.runner"


def import_closure(script: Path) -> set[str]:
    """Paths relative to the repository, package files included; imports inside functions count."""
    found: set[Path] = set()
    queue = [script, script.parent / "__init__.py"]
    while queue:
        path = queue.pop()
        if path in found:
            continue
        found.add(path)
        queue += [file for module in imported_modules(path) for file in files_of(module)]
    return {path.relative_to(ROOT).as_posix() for path in found}


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in modules if module.split(".")[0] == "groundup"}


def files_of(module: str) -> list[Path]:
    """The module's file and the __init__.py of each package around it; nothing for the frame or a name in a module."""
    if module == FRAME or module.startswith(FRAME + "."):
        return []
    parts = module.split(".")
    files = [ROOT / "src" / Path(*parts[:i]) / "__init__.py" for i in range(1, len(parts) + 1)]
    files.append((ROOT / "src" / Path(*parts)).with_suffix(".py"))
    return [file for file in files if file.is_file()]
