"""`ferkit evaluate`: how good a model is on labelled faces."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.registry import describe
from ferkit.tta import TTA

if TYPE_CHECKING:
    from ferkit.datasets import Dataset

_TTA = " ".join(f"{name}: {describe(views)}" for name, views in TTA.items())


def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder, .keras or .h5 file, or 'default'.")],
    data: Annotated[str, typer.Argument(help="FER-2013 CSV (.csv, .csv.gz), folders, .zip, .tar.gz or Parquet.")],
    split: Annotated[
        str, typer.Option(help="Training, PublicTest, PrivateTest, train, val, test or all. Without a test split: val.")
    ] = "test",
    tta: Annotated[str | None, typer.Option(help=f"Test-time augmentation. {_TTA}")] = None,
    votes: Annotated[Path | None, typer.Option(help="FER+ votes to join to the data.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave unreadable faces out.")] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for a page with figures and plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measure a model on labelled faces: accuracy, calibration, what it confuses.

    Example: ferkit evaluate default fer2013.csv --split PublicTest --report report/
    """
    from ferkit import evaluation
    from ferkit.classifier import EmotionClassifier
    from ferkit.datasets import load_dataset

    if tta is not None:
        TTA[tta]  # a wrong name is said before minutes of loading
    with no_native_chatter():
        classifier = EmotionClassifier.load(model)
    takes = classifier.face_input
    load = partial(
        load_dataset,
        data,
        votes=votes,
        skip_broken=skip_broken,
        size=(takes.height, takes.width),
        channels=takes.channels,
    )
    with notes.status(f"Reading {escape(data)}"):
        dataset = _split_as_trained(load, Path(data).name, classifier.card)
    for note in dataset.notes:
        notes.print(f"Note: {note}", markup=False)
    faces = dataset.split(split)
    with notes.status(f"Looking at {len(faces):,} faces"):
        result = evaluation.evaluate(classifier, faces, tta=tta)
    if as_json:
        if result.note:
            notes.print(f"Note: {result.note}", markup=False)
        print_json(result.to_dict())
    else:
        output.print(result)
    # After the figures, so that a folder that cannot be written does not cost them.
    if report is not None:
        from ferkit.report import read_history, write_report

        # A run's folder is a model folder too, and knows how it was trained.
        epochs = Path(model) / "history.csv"
        history = read_history(epochs) if epochs.is_file() else None
        page = write_report(result, report, history=history, card=classifier.card)
        notes.print(f"Report: {page}", markup=False)


def _split_as_trained(load: "Callable[..., Dataset]", source: str, card: Mapping[str, Any]) -> "Dataset":
    """The data in its published splits; in the random ones if the model was trained on these.

    A model that was trained on a random split has seen most of the published test split.
    """
    dataset = load()
    trained = card.get("training", {}).get("data", {})
    if source != trained.get("source") or dataset.fingerprint == trained["fingerprint"]:
        return dataset
    for drop_duplicates in (False, True):
        at_random = load(split="random", drop_duplicates=drop_duplicates)
        if at_random.fingerprint == trained["fingerprint"]:
            return at_random
    if set(trained["faces"]) != set(dataset.splits):
        notes.print(
            f"Warning: the model was trained on other splits of {source}, so it may have seen the faces it is measured on.",
            markup=False,
        )
    return dataset
