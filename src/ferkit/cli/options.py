"""Options that several commands share: models and detectors, labelled data, engines, the values of a recipe."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ferkit.cli.console import no_native_chatter, say
from ferkit.models import help_text
from ferkit.training import Declared, TrainConfig, declared

if TYPE_CHECKING:
    from ferkit.data import Dataset

Engine = Annotated[
    str,
    typer.Option(help="Engine of the runs. local: one after the other. ray: several at once, here or on a cluster."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Number of runs at once, with ray. [default: one per GPU, or one per machine without GPUs]",
        show_default=False,
    ),
]
Address = Annotated[str | None, typer.Option(help="Address of an existing Ray cluster: host:port, or auto.")]


Model = Annotated[
    str,
    typer.Option(
        help="Model folder, 'default', 'fer2013', either with '-int8', or a .onnx, .tflite, .keras, .h5 file."
    ),
]
Detector = Annotated[str, typer.Option(help="Face detector (see `ferkit detectors`).")]
Sensitivity = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Correction for class imbalance: 0 expects each class as often as in training, 1 all classes equally "
        "often. [default: the model's]",
        show_default=False,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Classes of a model file without a card, in the order of its outputs. [default: those of FER-2013]",
        show_default=False,
    ),
]
PixelScaleOption = Annotated[
    str | None,
    typer.Option(
        "--pixel-scale",
        metavar="SCALE",
        help="Pixel scale that a model file without a card was trained on: 0..1, -1..1, 0..255, or mean,std. [default: 0..1, or 0..255 "
        "if it scales them itself]",
        show_default=False,
    ),
]
Orientation = Annotated[
    Literal["upright", "any"],
    typer.Option(help="any: also detect faces upside down or on a side; takes four times as long."),
]
Tta = Annotated[str | None, typer.Option(help=help_text())]
MinConfidence = Annotated[
    float, typer.Option(min=0, max=1, help="Label a face 'uncertain' if its confidence is below this.")
]


# Of videos.
Every = Annotated[str, typer.Option(metavar="N", help="Process every Nth frame (5) or one frame per interval (0.5s).")]
DetectEvery = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        min=0,
        help="Run the detector every S seconds and track faces in between. [default: 0.2; with --blur-faces 0]",
        show_default=False,
    ),
]
Smooth = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        min=0,
        help="Time constant of the smoothing in seconds; 0 turns it off. [default: 0.3]",
        show_default=False,
    ),
]
Start = Annotated[str | None, typer.Option(metavar="T", help="Begin at this time of the video: seconds, or 1:30.")]
End = Annotated[str | None, typer.Option(metavar="T", help="End before this time: seconds, or 1:30.")]


# In words for people: `ferkit.data.readers.READERS` knows them to the letter, but takes a while to import.
FORMATS = "FER-2013 CSV (.csv, .csv.gz), folders (also as published: RAF-DB, AffectNet, ...), .zip, .tar.gz or Parquet; s3://... too."
Data = Annotated[str, typer.Argument(metavar="DATA", help=FORMATS)]
Split = Annotated[str, typer.Option(help="official, or random (80/20, as the tutorial does).")]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Exclude training faces that are also in a held-out split.")
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Keep text in CSV files as it is, even what a spreadsheet runs as a formula.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Skip unreadable rows instead of stopping.")]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes (CSV), as targets for training.")]
EvaluatedSplit = Annotated[
    str, typer.Option(help="Training, PublicTest, PrivateTest, train, val, test or all. Without a test split: val.")
]
EvaluatedVotes = Annotated[Path | None, typer.Option(metavar="FILE", help="FER+ votes to join to the data.")]
LabelMap = Annotated[
    str | None,
    typer.Option(
        "--label-map",
        metavar="MAP",
        help="Map dataset classes to model classes, e.g. anger=angry,contempt= (empty drops a class), or a file.",
    ),
]
Truth = Annotated[
    str,
    typer.Option(
        help="Ground truth: `labels`; `votes` (FER+ majority label; ties are excluded); `ferplus` (majority of FER+'s eight "
        "classes, as in the literature)."
    ),
]
LearntTruth = Annotated[
    str,
    typer.Option(
        "--truth", help="Classes to train on: `labels`, or `ferplus` (the eight classes of FER+; needs --votes)."
    ),
]


ReportFolder = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", help="Folder for a page with metrics, plots and faces.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@dataclass(frozen=True)
class TrainingData:
    """What those options said."""

    source: str
    split: str
    drop_duplicates: bool
    skip_broken: bool
    votes: Path | None
    truth: str = "labels"

    def load(self) -> "Dataset":
        """The faces; what there is to know about them goes to standard error. Keras is loaded after them, quietly."""
        from ferkit._support.keras_backend import load_keras
        from ferkit.data import load_dataset

        dataset = load_dataset(
            self.source,
            split=self.split,
            drop_duplicates=self.drop_duplicates,
            votes=self.votes,
            truth=self.truth,
            skip_broken=self.skip_broken,
        )
        for note in dataset.notes:
            say(f"Note: {note}")
        with no_native_chatter():
            load_keras()
        return dataset

    def to_args(self) -> list[str]:
        """The same as arguments of a command line."""
        words = [self.source]
        if self.split != "official":
            words += ["--split", self.split]
        if self.votes is not None:
            words += ["--votes", str(self.votes)]
        if self.truth != "labels":
            words += ["--truth", self.truth]
        flags = {"--drop-duplicates": self.drop_duplicates, "--skip-broken": self.skip_broken}
        return words + [name for name, given in flags.items() if given]


@contextmanager
def epochs_are_kept(how: str = "Run the same command with --resume to continue.") -> Iterator[None]:
    """Say so where training is interrupted. how: it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"Complete epochs are kept. {how}")
        raise


Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other value of the recipe, e.g. mixup=0.2 or patience=none. May be repeated.",
    ),
]


def recipe_values(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each value of a recipe that declares one; it gets those that were given as `values`.

    names: of the values, where not all are wanted.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = [one for one in declared(TrainConfig).values() if one.options and one.name in (names or [one.name])]
        own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "values"]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            values = {one.name: given.pop(one.name) for one in options}
            command(**given, values={name: one for name, one in values.items() if one not in (None, [])})

        shown = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(one))
            for one in options
        ]
        # Behind data and recipe.
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own[:2], *shown, *own[2:]]]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapper

    return decorate


def _option(one: Declared) -> Any:
    kind = list[str] if one.kind is tuple else one.kind
    choices = one.value.choices or ()
    listed = f" One of: {', '.join(choices)}." if 0 < len(choices) < 8 else ""
    return Annotated[kind | None, typer.Option(*one.options, help=one.value.help + listed)]
