"""The metrics that docs/metrics.md names for a stage."""

import re

from tests.contract.imports import ROOT

PAGE = ROOT / "docs/metrics.md"
# evaluate has a group of figures for each of these and for each baseline.
MODELS = ("base", "sft", "aligned", "untrained", "unigram", "ngram")
INTERVAL = re.compile(r"_ci_(low|high)$")


def names_on_page(stage: str) -> set[str]:
    """First cells of the tables under every heading that names the stage; `<...>` and `*` stand for any text."""
    names: set[str] = set()
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        if heading == "Every stage" or stage in re.findall(r"\w+", heading):
            rows = re.findall(r"^\| (`[^|]*) \|", body, flags=re.MULTILINE)
            names |= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    return names


def is_pattern(name: str) -> bool:
    return "<" in name or "*" in name


def unnamed(stage: str, metrics: set[str]) -> set[str]:
    """The metrics that the page does not name; an interval belongs to its figure."""
    patterns = [re.sub(r"<\w+>|\\\*", ".+", re.escape(name)) for name in names_on_page(stage)]
    return {name for name in metrics if not any(re.fullmatch(pattern, INTERVAL.sub("", name)) for pattern in patterns)}


def unreported(stage: str, metrics: set[str]) -> set[str]:
    """Names on the page that no metric has; patterns may match nothing."""
    return {name for name in names_on_page(stage) if not is_pattern(name)} - metrics


def metric_names(record: dict, columns: list[str]) -> set[str]:
    """Keys of a metrics file, keys of each model inside its group, and the columns of the curve."""
    groups = [record[model] for model in MODELS if isinstance(record.get(model), dict)]
    flat = {key for key, value in record.items() if not any(value is group for group in groups)}
    return flat.union(*groups, columns) - {"step"}
