"""The options by which `train` and `tune` are told where their runs are done.

The options of every command that recognises faces: which model, which detector, how sure it must be.

The options by which commands take labelled data, and the loading of it for `train` and `tune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import notes

if TYPE_CHECKING:
    from ferkit.data import Dataset

Engine = Annotated[
    str, typer.Option(help="local: one run after the other. ray: several at once, here or on a cluster.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="With ray: how many at once. [default: one per GPU, or where there are none per machine]",
        show_default=False,
    ),
]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster that is there: host:port, or auto.")]


Model = Annotated[
    str, typer.Option(help="Model folder, 'default', 'default-int8', 'voters', or a .onnx, .tflite, .keras, .h5 file.")
]
Detector = Annotated[str, typer.Option(help="How faces are found; see: ferkit detectors.")]
MinConfidence = Annotated[
    float, typer.Option(min=0, max=1, help="Below this probability a face is labelled 'uncertain'.")
]


# In words for people: `ferkit.data.readers.READERS` knows them to the letter, but takes a while to import.
FORMATS = "FER-2013 CSV (.csv, .csv.gz), folders, .zip, .tar.gz or Parquet; s3://... too."
Data = Annotated[str, typer.Argument(metavar="DATA", help=FORMATS)]
Split = Annotated[str, typer.Option(help="official, or random (80/20, as the tutorial does).")]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Leave out training faces that also stand in a held-out split.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Go on without rows that cannot be read.")]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes (CSV), as targets for training.")]


@dataclass(frozen=True)
class TrainingData:
    """What those options said."""

    source: str
    split: str
    drop_duplicates: bool
    skip_broken: bool
    votes: Path | None

    def load(self) -> "Dataset":
        """The faces; what there is to know about them goes to standard error."""
        from ferkit.data import load_dataset

        dataset = load_dataset(
            self.source,
            split=self.split,
            drop_duplicates=self.drop_duplicates,
            votes=self.votes,
            skip_broken=self.skip_broken,
        )
        for note in dataset.notes:
            notes.print(f"Note: {note}", markup=False)
        return dataset

    def words(self) -> list[str]:
        """The same as words of a command line."""
        words = [self.source]
        if self.split != "official":
            words += ["--split", self.split]
        if self.votes is not None:
            words += ["--votes", str(self.votes)]
        flags = {"--drop-duplicates": self.drop_duplicates, "--skip-broken": self.skip_broken}
        return words + [name for name, given in flags.items() if given]
