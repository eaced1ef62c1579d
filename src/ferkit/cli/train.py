"""`ferkit train`: labelled faces in, a model folder out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ferkit.cli.console import no_native_chatter, notes
from ferkit.cli.train_seeds import SeveralRuns, parse_seeds, show
from ferkit.cli.training_data import Data, DropDuplicates, SkipBroken, Split, TrainingData, Votes
from ferkit.cli.where import Address, Engine, Workers
from ferkit.devices import parse as parse_devices
from ferkit.errors import UsageError
from ferkit.recipes import OPTIMIZERS, RECIPES
from ferkit.schedules import SCHEDULES


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
    from ferkit.runs import Where
    from ferkit.settings import changes_of

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

    from ferkit.keras_backend import load_keras
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
        from ferkit import evaluation
        from ferkit.report import write_report

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
