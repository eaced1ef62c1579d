"""`ferkit tune`: better values for a recipe, found by trying."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ferkit.cli.console import output, print_json, say
from ferkit.cli.options import (
    Address,
    Data,
    DropDuplicates,
    Engine,
    LearntTruth,
    Settings,
    SkipBroken,
    Split,
    TrainingData,
    Votes,
    Workers,
    epochs_are_kept,
    recipe_values,
)
from ferkit.training import SPACE, USUAL_SEARCH


@recipe_values("epochs", "model", "precision", "seed")
def tune(
    data: Data,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe to start from (see `ferkit recipes`). [default: better]")
    ] = None,
    settings: Settings = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help=f"Comma-separated hyperparameters to search: {', '.join(SPACE)}. [default: {','.join(USUAL_SEARCH)}]",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Total number of trials, including those of earlier sessions.")] = 20,
    split: Split = "official",
    drop_duplicates: DropDuplicates = False,
    skip_broken: SkipBroken = False,
    votes: Votes = None,
    truth: LearntTruth = "labels",
    out: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("runs/tune"),
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted search, or add trials.")] = False,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what best.json holds as JSON.")] = False,
    *,
    values: dict[str, Any],
) -> None:
    """Search hyperparameters with Optuna.

    Trains short runs on the training split and compares them on the validation split.

    Each trial has 5 epochs unless --epochs says otherwise; trials that fall behind are stopped. An interrupted
    search, even by kill -9, resumes with --resume.

    Example: ferkit tune fer2013.csv --trials 20 --epochs 3 --out runs/tune
    """
    import ferkit
    from ferkit.training import Where, changes_of

    given = TrainingData(data, split, drop_duplicates, skip_broken, votes, truth)
    names = None if search is None else [name.strip() for name in search.split(",") if name.strip()]
    words = given.to_args()
    with epochs_are_kept():
        result = ferkit.tune(
            given.load,
            recipe,
            names,
            out=out,
            trials=trials,
            resume=resume,
            data_args=words,
            where=Where(engine, workers, address),
            say=say,
            **values | changes_of(settings or []),
        )
    if json_:
        print_json({"folder": str(result.folder), **result.to_dict(words)})
        return
    output.print(result, soft_wrap=True)
    say(f"\nTo train with the best values:\n{result.plan.command(result.ranked[0].values, words)}")
    say(f"\n{result.caveat}")
