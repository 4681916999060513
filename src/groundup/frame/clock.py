"""What stages took, as their metrics files say. No stage may depend on it: a clock never says the same twice."""

from pathlib import Path

from groundup.frame.files import read_object
from groundup.frame.pipeline import read_pipeline


def stage_seconds(root: Path) -> dict[str, float]:
    """By stage, of its last process; in pipeline order. A stage that has not run is left out."""
    files = {name: root / f"metrics/{name}.json" for name in read_pipeline(root)}
    records = {name: read_object(path) for name, path in files.items() if path.exists()}
    return {name: float(record["stage_seconds"]) for name, record in records.items() if "stage_seconds" in record}
