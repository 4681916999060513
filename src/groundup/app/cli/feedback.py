"""`groundup feedback`."""

import typer

from groundup.app.cli.checkout import console, fail, feedback_file, find_root, say_wrong

app = typer.Typer(help="Use the thumbs given on the web page.", no_args_is_help=True)


@app.callback()
def feedback() -> None:
    """Thumbs given on the web page."""


@app.command("import")
def import_() -> None:
    """Write preference pairs from the thumbs into data/, for the next `dvc repro`."""
    from groundup.app.chat.feedback import SOURCE, TARGET, import_feedback

    root = find_root()
    try:
        result = import_feedback(feedback_file(root), root / "data" / TARGET)
    except ValueError as error:
        fail(str(error))
    for problem in result.problems:
        say_wrong(problem)
    console.print(
        f"{result.num_ratings} rated replies to {result.num_prompts} prompts gave {result.num_pairs} pairs; "
        f"data/{TARGET} now has {result.num_rows} pairs",
        highlight=False,
        soft_wrap=True,
    )
    if result.num_unpaired:
        console.print(
            f"{result.num_unpaired} rated replies cannot be compared with another: rate another reply to the same "
            "message, or compare two models",
            highlight=False,
            soft_wrap=True,
        )
    if result.num_rows:
        console.print(
            "To train on them, add this to prepare.sources in params.yaml and run `dvc repro`:", highlight=False
        )
        console.print(SOURCE, highlight=False, markup=False)
