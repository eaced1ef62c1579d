"""`ferkit train`: labelled faces in, a model folder out; with `--seeds` or `--folds` several, and how good they are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import command, notes, output, print_json, say
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
from ferkit.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from ferkit.training import FoldRun, Run, Sweep


@recipe_values()
def train(
    data: Data,
    recipe: Annotated[str, typer.Option(help="Recipe (see `ferkit recipes`).")] = "tutorial",
    settings: Settings = None,
    split: Split = "official",
    drop_duplicates: DropDuplicates = False,
    skip_broken: SkipBroken = False,
    votes: Votes = None,
    truth: LearntTruth = "labels",
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Train once with each seed, into OUT/seed-N, and print a table of the runs."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Train once without each of K folds of the training split, into OUT/fold-N: an out-of-fold "
            "teacher, and an input for `ferkit compare`.",
        ),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/RECIPE, numbered if taken.")] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="N|all", help="Number of devices for data-parallel training; several need JAX. [default: 1]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write the report page into the run folder.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the card of the finished model as JSON.")] = False,
    *,
    values: dict[str, Any],
) -> None:
    """Train a model on a labelled dataset.

    Writes a model folder that `ferkit predict` and `ferkit evaluate` accept.

    An interrupted run, even by kill -9, resumes from its last complete epoch with --resume.

    Example: ferkit train fer2013.csv --recipe better --out runs/better
    """
    import ferkit
    from ferkit.training import Where, changes_of, train_folds

    changes = values | changes_of(settings or [])
    given = TrainingData(data, split, drop_duplicates, skip_broken, votes, truth)
    where = Where(engine, workers, address)
    if seeds is not None and folds is not None:
        raise UsageError("--seeds and --folds each train several times. Use one of them; --folds takes --seed.")
    several = "--seeds" if seeds is not None else "--folds"
    if (seeds is not None or folds is not None) and (report or devices is not None):
        raise UsageError(f"--report and --devices are for one run. Leave them out, or {several}.")
    if folds is not None:
        with epochs_are_kept():
            run = train_folds(given.load, recipe, folds, out=out, resume=resume, where=where, say=say, **changes)
        _show_folds(run, data, json_=json_)
        return
    if seeds is not None:
        if "seed" in changes:
            raise UsageError("--seed is for one run. Leave it out, or --seeds.")
        with epochs_are_kept():
            sweep = ferkit.train_seeds(
                given.load, recipe, _numbers(seeds), out=out, resume=resume, where=where, say=say, **changes
            )
        _show_seeds(sweep, data, json_=json_)
        return
    if where != Where():
        raise UsageError("--engine, --workers and --address need several runs: use them with --seeds or --folds.")
    with epochs_are_kept():
        one = ferkit.train(given.load, recipe, out=out, resume=resume, devices=devices, **changes)
    if report:
        _report(one, given.load)
    if json_:
        print_json({"folder": str(one.folder), **one.classifier.card})
        return
    scores = one.classifier.card["metrics"]
    low, high = scores["accuracy_ci95"]
    notes.print(
        f"Best epoch: {100 * scores['accuracy']:.2f} % of {scores['split']} right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), macro-F1 {scores['macro_f1']:.3f}."
    )
    if warning := no_better_than_one_class(scores):
        notes.print(warning, style="yellow", markup=False)
    asked = () if truth == "labels" else ("--votes", votes, "--truth", truth)
    say(f"Model folder: {one.folder}\nNext: {command('evaluate', one.folder, data, *asked)}")


def no_better_than_one_class(scores: Mapping[str, Any]) -> str | None:
    """What to say of a model that is right no more often than the most frequent class would be as the only answer.

    >>> no_better_than_one_class({"accuracy": 0.25, "per_class": {"happy": {"n": 3}, "sad": {"n": 1}}})
    'Warning: the model is no better than a constant prediction. Always predicting happy would score 75.0%. Train longer, or check the labels.'
    """
    counts = {name: one["n"] for name, one in scores["per_class"].items()}
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / sum(counts.values())
    if scores["accuracy"] > share:
        return None
    return (
        f"Warning: the model is no better than a constant prediction. Always predicting {largest} would score {share:.1%}. "
        "Train longer, or check the labels."
    )


def _show_folds(run: "FoldRun", data: str, *, json_: bool) -> None:
    found = run.report
    if json_:
        print_json({"folder": str(run.folder), **found.to_dict()})
        return
    low, high = found.accuracy_ci95
    output.print(
        f"Out of fold: {found.accuracy:.2%} of {found.n:,} faces of {found.split} right (95% interval {low:.1%} to {high:.1%}), "
        f"macro-F1 {found.macro_f1:.3f}.",
        soft_wrap=True,
    )
    say(
        f"Next: {command('compare', run.folder, 'OTHER', data, '--split', found.split)}\n"
        f"or:   {command('train', data, '--teacher', run.folder)}"
    )


def _report(run: "Run", load: "Callable[[], Any]") -> None:
    from ferkit.evaluation import evaluate, write_report

    measured = evaluate(run.classifier, load().val)
    page = write_report(measured, run.folder / "report", run.history)
    say(f"Report: {page}")


def _numbers(text: str) -> list[int]:
    """`42,43,44` as numbers.

    >>> _numbers("42, 43")
    [42, 43]
    """
    try:
        return [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UsageError(f"seeds are different whole numbers from 0, as in 42,43,44. Received: {text}.") from None


def _show_seeds(sweep: "Sweep", data: str, *, json_: bool) -> None:
    """The table, or all of it as JSON; `TrainingError` where a seed failed."""
    if json_:
        print_json({"folder": str(sweep.folder), **sweep.to_dict()})
    else:
        output.print(sweep, soft_wrap=True)
        next_command = command("evaluate", *(sweep.folder / run.folder for run in sweep.done), data, "--ensemble")
        say(
            f"\nThe interval is that of the mean over seeds, on the {sweep.n:,} faces of {sweep.split}, on which each run's "
            f"best epoch was chosen.\nNext: {next_command}"
        )
    failed = [run for run in sweep.runs if not run.figures]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(sweep.runs)} seeds failed; {failed[-1].folder}: {failed[-1].why}")
