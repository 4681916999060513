"""docs/images/pipeline.svg: the stages of dvc.yaml, and below them what each makes and which stages read it."""

from groundup.runner.pipeline import StageSpec, producer

COLUMN, ROW, TOP = 142, 24, 96  # pixels: width of a stage, height of a line, start of the first line
STYLE = (
    ".page{fill:#fff}.box{fill:#f4f7fb;stroke:#2f6db3;stroke-width:1.5}.name{font-size:16px;font-weight:600;"
    "fill:#16324f}.title{font-size:11px;fill:#3d5166}.column{stroke:#dbe4ee;stroke-dasharray:2 3}"
    ".flow{stroke:#c2701c;stroke-width:1.5}.made{fill:#c2701c}.read{fill:#fff;stroke:#c2701c;stroke-width:1.5}"
    ".label{font-size:12px;fill:#16324f}"
)


def draw(pipeline: dict[str, StageSpec]) -> str:
    lines = [(out, readers) for out, readers in read_outs(pipeline).items() if readers]
    width, height = COLUMN * len(pipeline) + 16, TOP + ROW * len(lines) + 32
    centre = {name: 8 + COLUMN * (i + 0.5) for i, name in enumerate(pipeline)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
        'role="img" aria-label="The stages, what each makes and which stages read it">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
    ]
    for name, x in centre.items():
        parts += [
            f'<path class="column" d="M{x} 64V{height - 30}"/>',
            f'<rect class="box" x="{x - COLUMN / 2 + 5}" y="12" width="{COLUMN - 10}" height="52" rx="8"/>',
            f'<text class="name" x="{x}" y="35" text-anchor="middle">{name}</text>',
            f'<text class="title" x="{x}" y="53" text-anchor="middle">{pipeline[name].title}</text>',
        ]
    for i, (out, readers) in enumerate(lines):
        y, start = TOP + ROW * i, centre[producer(pipeline, out) or ""]
        parts += [
            f'<path class="flow" d="M{start} {y}H{centre[readers[-1]]}"/>',
            f'<circle class="made" cx="{start}" cy="{y}" r="4.5"/>',
            *(f'<circle class="read" cx="{centre[name]}" cy="{y}" r="4.5"/>' for name in readers),
            f'<text class="label" x="{start + 9}" y="{y - 5}">{out.rpartition("/")[2]}</text>',
        ]
    parts += [
        f'<circle class="made" cx="20" cy="{height - 16}" r="4.5"/>',
        f'<text class="label" x="30" y="{height - 12}">made here</text>',
        f'<circle class="read" cx="110" cy="{height - 16}" r="4.5"/>',
        f'<text class="label" x="120" y="{height - 12}">read here</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def read_outs(pipeline: dict[str, StageSpec]) -> dict[str, list[str]]:
    """Out (reports left out) -> the stages that read it, in pipeline order."""
    outs = [out for stage in pipeline.values() for out in stage.outs if out != stage.report]
    return {out: [name for name, stage in pipeline.items() if out in stage.deps] for out in outs}
