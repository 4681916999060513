"""Build the page from artifacts and metrics; missing parts are left out."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from groundup.app.report.cards import read_card
from groundup.app.report.curves import data_uri, draw_charts, draw_panel, read_panels
from groundup.app.report.lineage import cost_notes, picture, time_note
from groundup.core.judging.gates import failed_gates
from groundup.core.training.cost import Cost, in_short, read_cost
from groundup.evaluate.shown import PAGE, Chart, Line
from groundup.runner.candidate import REPORT
from groundup.runner.clock import stage_seconds
from groundup.runner.figures import REPORTED
from groundup.runner.files import DamagedFileError, hash_file, read_object
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.pipeline import StageSpec, ancestry, read_pipeline


def build_page(root: Path, params: EvaluateParams) -> str:
    """HTML in a single file; params give the watts for the energy estimate."""
    pipeline = read_pipeline(root)
    cards = {spec.title: read_card(root / f"artifacts/reports/{name}") for name, spec in pipeline.items()}
    curves = {}
    for spec in pipeline.values():
        panels = [panel for plot in spec.plots if (root / plot).exists() for panel in read_panels(root / plot)]
        curves[spec.title] = [(panel.title, data_uri(draw_panel(panel))) for panel in panels]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["picture"] = _picture
    try:
        return environment.get_template("report.html.j2").render(
            evaluated=read_evaluated(root),
            failed_reward_gates=failed_gates(root / "artifacts/reward"),
            lineage=_lineage(root, pipeline, params),
            curves={name: panels for name, panels in curves.items() if panels},
            cards={name: card for name, card in cards.items() if card},
        )
    except UndefinedError as error:
        raise DamagedFileError(
            f"{root / REPORT / PAGE} does not match this version of evaluate ({error}): `dvc repro evaluate` "
            "writes it again"
        ) from None


def read_evaluated(root: Path) -> dict[str, Any] | None:
    """Tiles, sentences, sections and method from evaluate's report; None before its first run."""
    path = root / REPORT / PAGE
    return read_object(path) if path.exists() else None


def read_costs(root: Path) -> dict[str, Cost]:
    """The cost of each stage that trains."""
    costs = {name: read_cost(root / f"artifacts/reports/{name}") for name in read_pipeline(root)}
    return {name: cost for name, cost in costs.items() if cost}


def _lineage(root: Path, pipeline: dict[str, StageSpec], params: EvaluateParams) -> dict[str, Any]:
    family = ancestry(pipeline, list(pipeline)[-1])
    costs, seconds = read_costs(root), stage_seconds(root)
    rows = []
    for stage in family:
        time = [time_note(seconds[stage], params.watts)] if stage in seconds else []
        notes = [*_made(root, stage), *cost_notes(costs.get(stage)), *time]
        rows.append({"title": pipeline[stage].title, "notes": notes, "weights": _weights(root, pipeline[stage])})
    return {
        "rows": rows,
        "picture": picture(family),
        "flops": f"{in_short(sum(cost.flops for cost in costs.values()))}FLOP" if costs else None,
        "time": time_note(sum(seconds.values()), params.watts) if seconds else None,
        "watts": params.watts,
    }


def _made(root: Path, stage: str) -> list[str]:
    """Outputs of a stage that trains no model, and what align had to do without, in words."""
    if stage == "align":
        figures = root / f"artifacts/reports/{stage}/{REPORTED}"
        is_watched = not figures.exists() or "monitor_agreement" in read_object(figures)
        return [] if is_watched else ["no monitor judge, so over-optimization could not be detected"]
    path = root / f"artifacts/reports/{stage}/report.json"
    if stage not in ("prepare", "tokenizer") or not path.exists():
        return []
    report = read_object(path)
    if stage == "tokenizer":
        return [f"{report['vocab_size']:,} tokens"]
    return ["text of " + ", ".join(sorted(source["name"] for source in report["sources"]))]


def _weights(root: Path, spec: StageSpec) -> str | None:
    """The start of the SHA-256 of the stage's model."""
    files = [root / out / "model.safetensors" for out in spec.outs]
    return next((hash_file(file)[:12] for file in files if file.exists()), None)


def _picture(chart: dict[str, Any]) -> str:
    lines = [Line(**line) for line in chart["lines"]]
    return data_uri(draw_charts([Chart(chart["title"], chart["x_label"], lines)]))
