"""The command line: parse, call, print. Each command is a thin module of this package."""

from typing import Annotated

import typer

import ferkit
from ferkit.cli import console
from ferkit.cli.batch import batch
from ferkit.cli.compare import compare
from ferkit.cli.data import data
from ferkit.cli.evaluate import evaluate
from ferkit.cli.explain import explain
from ferkit.cli.export import export
from ferkit.cli.lists import detectors, models, recipes
from ferkit.cli.live import live
from ferkit.cli.predict import predict
from ferkit.cli.serve import serve
from ferkit.cli.summarize import summarize
from ferkit.cli.train import train
from ferkit.cli.tune import tune
from ferkit.cli.video import video

app = typer.Typer(
    name="ferkit",
    cls=console.OneLineErrors,
    help="Facial emotion recognition: predict, train, evaluate. Perceived expression, not what a person feels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    predict,
    video,
    batch,
    train,
    tune,
    evaluate,
    compare,
    explain,
    data,
    summarize,
    export,
    serve,
    live,
    models,
    detectors,
    recipes,
):
    app.command(cls=console.OneOfEach)(command)


def _version(asked: bool) -> None:
    if asked:
        console.output.print(f"ferkit {ferkit.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point of the `ferkit` command."""
    console.run(app)
