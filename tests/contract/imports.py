"""Imports within src/groundup, from the syntax tree; imports inside functions count."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
STAGES = {path.stem for path in ROOT.glob("stages/[a-z]*.py")}


def imported_modules(path: Path) -> set[str]:
    """Modules of groundup, and names in them, that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in modules if module.split(".")[0] == "groundup"}


def imported_files(path: Path, src: Path = SRC) -> set[Path]:
    """Files that an import runs; a package's __init__.py only if a name of it is imported."""
    files = set()
    modules = imported_modules(path)
    for module in modules:
        place = src / Path(*module.split("."))
        if place.with_suffix(".py").is_file():
            files.add(place.with_suffix(".py"))
        elif (place / "__init__.py").is_file() and not any(other.startswith(module + ".") for other in modules):
            files.add(place / "__init__.py")
    for module in modules:  # a name that a package itself defines
        *packages, name = module.split(".")
        package = src / Path(*packages)
        if (
            (package / "__init__.py").is_file()
            and not (package / name).exists()
            and not (package / f"{name}.py").exists()
        ):
            files.add(package / "__init__.py")
    return files


def reached_files(script: Path, src: Path = SRC) -> set[Path]:
    """All files that an import of the script runs, without the script."""
    found: set[Path] = set()
    queue = [script]
    while queue:
        new = imported_files(queue.pop(), src) - found
        found |= new
        queue += new
    return found


def folder_of(path: Path, src: Path = SRC) -> str:
    """The unit for dvc.yaml and the import rules: a stage, runner, app, or a folder of core."""
    parts = path.relative_to(src / "groundup").parts
    return "/".join(parts[:2]) if parts[0] == "core" and len(parts) > 2 else parts[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one folder may import another."""
    if importer == imported or importer == "app" or imported in ("runner", "__init__.py"):
        return True
    return imported.startswith("core/") and importer != "runner"


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of one cycle in order; empty without a cycle."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        for other in sorted(graph.get(node, set())):
            if found := visit(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])
