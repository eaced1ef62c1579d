"""`ferkit train --seeds`: several runs of one recipe, and a table of how they differ.

`ferkit train`: labelled faces in, a model folder out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit._support.devices import parse as parse_devices
from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.options import Address, Data, DropDuplicates, Engine, SkipBroken, Split, TrainingData, Votes, Workers
from ferkit.errors import TrainingError, UsageError
from ferkit.training import OPTIMIZERS, RECIPES, SCHEDULES

if TYPE_CHECKING:
    from ferkit.data import Dataset
    from ferkit.training import Spread, Sweep, Where


@dataclass(frozen=True)
class SeveralRuns:
    """What `--seeds` and its company ask for; `check` before minutes are spent on data."""

    recipe: str
    seeds: list[int]
    out: Path
    resume: bool
    where: "Where"

    def check(self) -> None:
        from ferkit.training import check_folder

        self.where.check()
        check_folder(self.out, self.seeds, resume=self.resume)

    def train(self, dataset: "Dataset", changes: dict[str, Any]) -> "Sweep":
        """Train, telling on standard error what happens."""
        from ferkit.training import train_seeds

        options: dict[str, Any] = {"out": self.out, "resume": self.resume, "where": self.where}
        try:
            return train_seeds(dataset, self.recipe, self.seeds, say=_say, **options, **changes)
        except KeyboardInterrupt:
            notes.print("Whole epochs are kept. To go on: the same command with --resume.")
            raise


def parse_seeds(text: str) -> list[int]:
    """`42,43,44` as numbers.

    >>> parse_seeds("42, 43")
    [42, 43]
    """
    from ferkit.training import check_seeds

    try:
        seeds = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UsageError(f"seeds are different whole numbers from 0, as in 42,43,44. Received: {text}.") from None
    check_seeds(seeds)
    return seeds


def show(sweep: "Sweep", data: str, *, json_: bool) -> None:
    """The table, or all of it as JSON; `TrainingError` where a seed failed."""
    if json_:
        print_json({"folder": str(sweep.folder), **sweep.to_dict()})
    else:
        _table(sweep)
        folders = " ".join(str(sweep.folder / run.folder) for run in sweep.done)
        _say(
            f"\nThe interval is that of the mean over seeds, on the {sweep.n:,} faces of {sweep.split}, on which each run's "
            f"best epoch was chosen.\nNext: ferkit evaluate {folders} {data} --ensemble"
        )
    failed = [run for run in sweep.runs if not run.figures]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(sweep.runs)} seeds failed; {failed[-1].folder}: {failed[-1].why}")


def _say(text: str) -> None:
    notes.print(text, markup=False)


def _table(sweep: "Sweep") -> None:
    from rich.table import Table

    from ferkit.training import FIGURES

    table = Table("seed", *(_HEADINGS[name] for name in FIGURES), box=None)
    for column in table.columns:
        column.justify = "right"
    for run in sweep.runs:
        figures = run.figures
        table.add_row(str(run.seed), *(_text(name, figures[name]) if figures else "failed" for name in FIGURES))
    table.add_section()
    for heading, part in _PARTS.items():
        table.add_row(heading, *(part(name, sweep.spreads[name]) for name in FIGURES))
    output.print(table)


_HEADINGS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "log loss", "ece": "ECE"}


def _text(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.3f}"


def _interval(name: str, spread: "Spread") -> str:
    if spread.ci95 is None:
        return "-"
    low, high = (_text(name, end).removesuffix(" %") for end in spread.ci95)
    return f"{low} to {high}"


_PARTS: "dict[str, Callable[[str, Spread], str]]" = {
    "mean": lambda name, spread: _text(name, spread.mean),
    "sd": lambda name, spread: "-" if spread.sd is None else _text(name, spread.sd),
    "95 % interval": _interval,
}


def train(
    data: Data,
    recipe: Annotated[str, typer.Option(help="How to train; see: ferkit recipes.")] = "tutorial",
    model: Annotated[str | None, typer.Option(help="Architecture; see: ferkit models.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training faces.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Faces per step.")] = None,
    optimizer: Annotated[str | None, typer.Option(help=f"One of: {', '.join(OPTIMIZERS)}.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"One of: {', '.join(SCHEDULES)}.")] = None,
    activation: Annotated[str | None, typer.Option(help="relu, leaky_relu, gelu, or any other of Keras.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16: faster where the processor has it.")
    ] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better one.")] = None,
    split: Split = "official",
    drop_duplicates: DropDuplicates = False,
    skip_broken: SkipBroken = False,
    votes: Votes = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")] = None,
    init: Annotated[str | None, typer.Option(help="A model to start from.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of a keras.applications network: imagenet, none, or a file.")
    ] = None,
    head_epochs: Annotated[
        int | None, typer.Option(help="Epochs at the start in which only the last layer learns.")
    ] = None,
    thaw: Annotated[
        int | None, typer.Option(help="How many of the base's last layers learn after that; default: all.")
    ] = None,
    thaw_rate: Annotated[
        float | None, typer.Option(help="Their learning rate; default: a tenth of the head's.")
    ] = None,
    teachers: Annotated[
        list[str] | None, typer.Option("--teacher", help="A model whose answers are learnt too; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other value, e.g. mixup=0.2, augmentation.erase=0.5."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Several runs, one with each seed, into OUT/seed-N, and a table of them."),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/RECIPE, numbered if taken.")] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="N|all", help="How many devices share each batch. [default: 1]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write the report page into the run folder.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the card of the finished model as JSON.")] = False,
) -> None:
    """Train a network on labelled faces; ends with a model folder that predict and evaluate take.

    Interrupted, even by kill -9, it goes on with --resume from its last whole epoch.

    Example: ferkit train fer2013.csv --recipe better --out runs/better
    """
    from ferkit.training import Where, changes_of

    # Values are checked before minutes are spent on data.
    changes: dict[str, Any] = {
        "model": model,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "activation": activation,
        "precision": precision,
        "patience": patience,
        "init": init,
        "weights": weights,
        "head_epochs": head_epochs,
        "thaw": thaw,
        "thaw_rate": thaw_rate,
        "teachers": tuple(teachers) if teachers else None,
        "seed": seed,
    }
    usual = RECIPES[recipe].config
    changes |= changes_of(settings or [], usual.augmentation)
    usual.changed(**changes)
    where, several = Where(engine, workers, address), None
    if seeds is None and where != Where():
        raise UsageError("One run has one place. --engine, --workers and --address are for several, with --seeds.")
    if devices is not None:
        parse_devices(devices)
    if seeds is not None:
        if seed is not None or report or devices is not None:
            raise UsageError("--seed, --report and --devices are for one run. Leave them out, or --seeds.")
        several = SeveralRuns(recipe, parse_seeds(seeds), out or Path("runs") / f"{recipe}-seeds", resume, where)
        several.check()

    dataset = TrainingData(data, split, drop_duplicates, skip_broken, votes).load()

    from ferkit._support.keras_backend import load_keras
    from ferkit.training import train as run_training

    with no_native_chatter():
        load_keras()
    if several is not None:
        show(several.train(dataset, changes), data, json_=json_)
        return
    try:
        run = run_training(dataset, recipe, out=out, resume=resume, devices=devices, **changes)
    except KeyboardInterrupt:
        notes.print("Whole epochs are kept. To go on: the same command with --resume.")
        raise
    if report:
        from ferkit.evaluation import report as evaluation
        from ferkit.evaluation import write_report

        page = write_report(
            evaluation.evaluate(run.classifier, dataset.val), run.folder / "report", run.history, run.classifier.card
        )
        notes.print(f"Report: {page}", markup=False)
    if json_:
        from ferkit.cli.console import print_json

        print_json({"folder": str(run.folder), **run.classifier.card})
        return
    scores = run.classifier.card["metrics"]
    low, high = scores["accuracy_ci95"]
    notes.print(
        f"Best epoch: {100 * scores['accuracy']:.2f} % of {scores['split']} right "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), macro-F1 {scores['macro_f1']:.3f}."
    )
    notes.print(f"Model folder: {run.folder}\nNext: ferkit evaluate {run.folder} {data}", markup=False)
