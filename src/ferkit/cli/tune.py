"""`ferkit tune`: better values for a recipe, found by trying."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.options import Address, Data, DropDuplicates, Engine, SkipBroken, Split, TrainingData, Votes, Workers
from ferkit.training import SPACE, USUAL_EPOCHS, USUAL_SEARCH

if TYPE_CHECKING:
    from ferkit.training import Tuning

_SHOWN = 10


def tune(
    data: Data,
    recipe: Annotated[str | None, typer.Option(help="Where to start; see: ferkit recipes. [default: better]")] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", help=f"Of: {', '.join(SPACE)}. [default: {','.join(USUAL_SEARCH)}]", show_default=False
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="How many in all, those of earlier sittings included.")] = 20,
    epochs: Annotated[int | None, typer.Option(help=f"Of each trial. [default: {USUAL_EPOCHS}]")] = None,
    model: Annotated[str | None, typer.Option(help="Architecture; see: ferkit models.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16: faster where the processor has it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other value of all trials, e.g. mixup=0.2."),
    ] = None,
    split: Split = "official",
    drop_duplicates: DropDuplicates = False,
    skip_broken: SkipBroken = False,
    votes: Votes = None,
    seed: Annotated[int | None, typer.Option(help="Of the search and of each trial.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("runs/tune"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption, or with more trials.")] = False,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what best.json holds as JSON.")] = False,
) -> None:
    """Search for better values of a recipe: short runs on the training split, compared on the validation split.

    Trials that fall behind are stopped. Interrupted, even by kill -9, it goes on with --resume.

    Example: ferkit tune fer2013.csv --trials 20 --epochs 3 --out runs/tune
    """
    from ferkit.training import RECIPES, Where, changes_of, check_free, check_trials, load_optuna, stored_plan
    from ferkit.training.search import Plan

    # All choices are checked before minutes are spent on data.
    check_trials(trials)
    where = Where(engine, workers, address)
    where.check()
    names = None if search is None else [name.strip() for name in search.split(",") if name.strip()]
    changes: dict[str, Any] = {"epochs": epochs, "model": model, "precision": precision, "seed": seed}
    if resume:
        plan = stored_plan(out)
        plan.check(recipe, names, **changes | changes_of(settings or [], plan.config.augmentation))
    else:
        base = RECIPES[recipe or "better"].config
        changes |= changes_of(settings or [], base.augmentation)
        plan = Plan.of(recipe or "better", USUAL_SEARCH if names is None else names, **changes)
        check_free(out)
    load_optuna()

    given = TrainingData(data, split, drop_duplicates, skip_broken, votes)
    dataset = given.load()

    from ferkit._support.keras_backend import load_keras
    from ferkit.training import tune as run_search

    with no_native_chatter():
        load_keras()
    words = given.words()
    try:
        result = run_search(
            dataset,
            plan,
            out=out,
            trials=trials,
            resume=resume,
            data=words,
            where=where,
            say=lambda text: notes.print(text, markup=False),
        )
    except KeyboardInterrupt:
        notes.print("Trials and whole epochs are kept. To go on: the same command with --resume.")
        raise
    if json_:
        print_json({"folder": str(result.folder), **result.to_dict(words)})
        return
    _show(result)
    notes.print(f"\nTo train with the best values:\n{plan.command(result.ranked[0].values, words)}", markup=False)
    notes.print(f"\n{result.caveat}", markup=False)


def _show(result: "Tuning") -> None:
    """The best trials, and the first wherever it stands: it has the recipe's own values."""
    from rich.table import Table

    ranked = result.ranked
    shown = ranked[:_SHOWN] + [trial for trial in ranked[_SHOWN:] if trial.number == 1]
    table = Table("trial", "accuracy", *(name.removeprefix("augmentation.") for name in result.plan.search), box=None)
    for column in table.columns:
        column.justify = "right"
    for trial in shown:
        first = " (recipe)" if trial.number == 1 else ""
        values = [str(trial.values[name]) for name in result.plan.search]
        table.add_row(f"{trial.number}{first}", f"{trial.accuracy:.2%}", *values)
    output.print(table)
    states = [trial.state for trial in result.trials]
    output.print(
        f"{len(states)} trials: {states.count('done')} done, {states.count('stopped')} stopped early, "
        f"{states.count('failed')} failed."
    )
