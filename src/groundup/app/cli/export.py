"""`groundup export`."""

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from groundup.app.cli.checkout import console, fail, find_root


class Format(StrEnum):
    gguf = "gguf"
    hf = "hf"
    adapter = "adapter"


class Model(StrEnum):
    base = "base"
    sft = "sft"
    aligned = "aligned"
    champion = "champion"


def export(
    to: Annotated[Format, typer.Option(help="A GGUF file, a Hugging Face directory, or only the LoRA adapter.")],
    model: Annotated[Model | None, typer.Option(help="The model to export; default: aligned.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint-N of pretrain below .work, instead of a published model."),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Of an adapter: weights in bf16, in half the bytes.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: exports/ in the checkout.")] = None,
) -> None:
    """Export a model for other programs."""
    root = find_root()
    if bf16 and to != Format.adapter:
        fail("--bf16 is for `--to adapter`: the other formats have the precision of the weights")
    ending = {Format.gguf: ".gguf", Format.hf: "", Format.adapter: "-adapter"}[to]
    if checkpoint and model:
        fail("--checkpoint exports a model of its own: leave out --model")
    chosen = model or (Model.base if checkpoint else Model.aligned)
    exported = checkpoint.name if checkpoint else chosen.value
    target = out or root / "exports" / f"{exported}{ending}"
    from groundup.app.chat.loading import model_path
    from groundup.app.export.gguf import export_gguf
    from groundup.app.export.hf import export_adapter, export_hf

    with TemporaryDirectory() as folder:
        try:
            if checkpoint:
                # With pretrain's trainer, which takes seconds.
                from groundup.app.export.checkpoint import write_model_of_checkpoint

                path = Path(folder)
                write_model_of_checkpoint(root, checkpoint, path)
            else:
                path = model_path(root, chosen)
            if not (path / "config.json").is_file():
                fail(f"there is no model in {path}: train one with `dvc repro`")
            is_of_checkout = not checkpoint and chosen != Model.champion  # else it may be of other data
            prepared = root / "artifacts/reports/prepare/report.json" if is_of_checkout else None
            if to == Format.gguf:
                export_gguf(path, target)
            elif to == Format.hf:
                export_hf(path, target, prepared)
            else:
                export_adapter(path, chosen, target, prepared, bf16=bf16)
        except ValueError as error:
            fail(str(error))
    console.print(f"{exported} is in {target}", highlight=False, soft_wrap=True)
