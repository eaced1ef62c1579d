"""What `ferkit data --suspects` does: find labels that are likely wrong, print them, write table and page."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferkit.cli.console import no_native_chatter, notes, output
from ferkit.errors import DatasetError, UsageError, count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferkit.data import Dataset, FaceSet
    from ferkit.models import EmotionClassifier
    from ferkit.training import Suspects

_TRAINING = ("Training", "train")
_SHOWN = 20
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_LONGEST = 40  # letters of a path in the table on the terminal

# Why the answers can be taken as another opinion than the label.
_OUT_OF_FOLD = "Every face was looked at by a network that was not trained on it, nor on a copy with the same pixels."
_HELD_OUT = "Every face is of a split held out from training, and none has the pixels of a training face."
_TOLD = "The models were said not to have seen these faces; nothing that they tell of themselves speaks against it."


@dataclass(frozen=True)
class Wanted:
    """The options as they were given.

    suspects: how many, or a CSV for all. predictions: models that have not seen the faces; without them folds are trained.
    among: a split; None is all faces, or with predictions all but those of the training split.
    folds_in: None names the folder after the data.
    """

    suspects: str | None
    predictions: Sequence[str] = ()
    among: str | None = None
    folds_in: Path | None = None
    folds: int | None = None
    epochs: int | None = None
    report: Path | None = None

    @property
    def table(self) -> Path | None:
        """The CSV that was asked for, if one was."""
        return Path(self.suspects) if self.suspects and not _WHOLE_NUMBER.fullmatch(self.suspects) else None

    @property
    def count(self) -> int:
        return int(self.suspects) if self.suspects and self.table is None else _SHOWN

    def check(self) -> None:
        """Say what is wrong with the words before minutes of loading and hours of training."""
        if self.suspects is None:
            others = {
                "--predictions": self.predictions,
                "--among": self.among,
                "--folds-in": self.folds_in,
                "--folds": self.folds,
                "--epochs": self.epochs,
                "--report": self.report,
            }
            for name, value in others.items():
                if value:
                    raise UsageError(f"{name} is for suspects: add --suspects N or --suspects FILE.csv.")
            return
        if self.table is not None and self.table.suffix.lower() != ".csv":
            raise UsageError(f"--suspects takes how many to list, or a file .csv for all. Received: {self.suspects}.")
        if self.count < 1:
            raise UsageError(f"--suspects must be at least 1. Received: {self.suspects}.")
        if self.predictions and (self.folds_in or self.folds or self.epochs):
            raise UsageError("With --predictions nothing is trained: leave --folds-in, --folds and --epochs out.")
        if not self.predictions:
            from ferkit.training.label_issues import Plan

            Plan(self.folds, self.epochs)


def find(wanted: Wanted, dataset: "Dataset", load: "Callable[..., Dataset]") -> "Suspects":
    """The suspects of a data set. load: loads it again, in the `size` and `channels` that a model takes."""
    from ferkit.data import places
    from ferkit.training import find_suspects

    if wanted.predictions:
        faces, probabilities = _predicted(wanted, dataset, load)
        by = " and ".join(wanted.predictions)
        how = _TOLD if _wants_training(dataset, wanted.among) else _HELD_OUT
    else:
        faces = dataset.split(wanted.among or "all")
        probabilities = _out_of_fold(wanted, dataset, faces)
        by = "networks that were trained on the other folds"
        how = _OUT_OF_FOLD
    where = places(dataset.source, faces.rows) if faces.rows is not None else [""] * len(faces)
    found = find_suspects(faces, probabilities, where, by, how=how)
    if found.warning:
        notes.print(f"Warning: {found.warning}", markup=False)
    return found


def show(found: "Suspects", most: int) -> None:
    """The first suspects as a table on standard output."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    output.print(
        f"\n[bold]Labels that are likely wrong[/]: {len(found):,} of {count(len(found.faces), 'face')}", end=""
    )
    output.print(f" of {found.faces.name}, judged by {found.by}", markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for heading in ("face", "label", "suggested"):
        table.add_column(heading, overflow="fold")
    for heading in ("p(label)", "p(suggested)", "margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rank in range(min(most, len(found))):
        row = found.row(rank)
        face = row["face"] if len(row["face"]) <= _LONGEST else "..." + row["face"][3 - _LONGEST :]
        suggested = float(found.probabilities[int(found.indices[rank]), int(found.suggested[rank])])
        # Names come from the data: as Text, their brackets are no markup.
        cells = (Text(face), Text(row["label"]), Text(row["suggested"]))
        table.add_row(*cells, f"{row['self_confidence']:.0%}", f"{suggested:.0%}", f"{row['margin']:+.2f}")
    output.print(table)
    output.print(
        f"It agrees with {found.accuracy:.1%} of the labels; the lower that is, the less its doubts mean. A suspect is not a "
        "mistake: look at each face before you change anything.",
        soft_wrap=True,
    )


def write(found: "Suspects", wanted: Wanted) -> None:
    """The table and the page, where they were asked for."""
    if wanted.table is not None:
        from ferkit.training import write_table

        write_table(found, wanted.table)
        notes.print(f"Suspects: {wanted.table}", markup=False)
    if wanted.report is not None:
        from ferkit.training import write_page

        notes.print(f"Report: {write_page(found, wanted.report)}", markup=False)


def _out_of_fold(wanted: Wanted, dataset: "Dataset", faces: "FaceSet") -> "npt.NDArray[np.float32]":
    from ferkit.training.label_issues import Plan, out_of_fold

    name = Path(dataset.source).name.split(".")[0] or "data"
    folder = wanted.folds_in or Path("runs") / f"suspects-{name}-{dataset.fingerprint[:8]}-{faces.name}"
    notes.print(f"Folds: {folder} (what is done there is not done again)", markup=False)
    with no_native_chatter():
        return out_of_fold(
            faces,
            folder,
            plan=Plan(wanted.folds, wanted.epochs),
            say=lambda text: notes.print(text, markup=False),
        )


def _predicted(
    wanted: Wanted, dataset: "Dataset", load: "Callable[..., Dataset]"
) -> "tuple[FaceSet, npt.NDArray[np.float32]]":
    """The faces that were asked for, and the mean answer of the models, without classes that only models know."""
    import numpy as np

    from ferkit.evaluation import evaluate
    from ferkit.models import EmotionClassifier

    with no_native_chatter():
        models = [EmotionClassifier.load(name) for name in wanted.predictions]
    for model in models:
        _check_unseen(model, dataset, wanted.among)
    wished = _among(dataset, wanted.among)
    everything = _wants_training(dataset, wanted.among)
    unseen = np.ones(len(wished), np.bool_) if everything else ~_copies_of_training(dataset, wished)
    if not unseen.all():
        notes.print(
            f"Note: {count(int((~unseen).sum()), 'face')} left out, with pixels that stand in the training split.",
            markup=False,
        )
    answers = []
    for model in models:
        takes = model.face_input
        faces = _among(load(size=(takes.height, takes.width), channels=takes.channels), wanted.among).select(unseen)
        with notes.status(f"Looking at {count(len(faces), 'face')}"):
            answers.append(evaluate(model, faces).probabilities[:, : len(dataset.classes)])
        if model.card.get("metrics", {}).get("split") == faces.name:
            notes.print(f"Note: {model.name} was chosen on {faces.name}, though not trained on it.", markup=False)
    mean = np.mean(answers, axis=0, dtype=np.float64)
    probabilities = (mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return wished.select(unseen), probabilities


def _among(dataset: "Dataset", among: str | None) -> "FaceSet":
    from ferkit.data import concatenate

    if among is not None:
        return dataset.split(among)
    held_out = [faces for name, faces in dataset.splits.items() if name not in _TRAINING]
    if not held_out:
        raise DatasetError(
            f"{dataset.source} has a training split only. If the models have not seen these faces: --among all."
        )
    return held_out[0] if len(held_out) == 1 else concatenate(held_out, ", ".join(one.name for one in held_out))


def _wants_training(dataset: "Dataset", among: str | None) -> bool:
    """Whether faces of the training split are asked for."""
    return among == "all" or (among is not None and dataset.split(among).name in _TRAINING)


def _copies_of_training(dataset: "Dataset", faces: "FaceSet") -> "npt.NDArray[np.bool_]":
    """Which faces have the pixels of a training face, bool (N,): a model has seen these."""
    import numpy as np

    from ferkit.data import pixel_prints

    training = [pixel_prints(one.images) for name, one in dataset.splits.items() if name in _TRAINING]
    prints = pixel_prints(faces.images)
    return np.isin(prints, np.concatenate(training)) if training else np.zeros(len(prints), np.bool_)


def _check_unseen(model: "EmotionClassifier", dataset: "Dataset", among: str | None) -> None:
    """Refuse a model that was trained on the faces: its answers there are the labels that it has learned."""
    from ferkit.data import are_published
    from ferkit.models import model_folder

    trained = model_folder.trained_on(model.card)
    same = trained.get("fingerprint") == dataset.fingerprint
    if not same and _stem(str(trained.get("source"))) != _stem(dataset.source):
        return
    about = f"{model.name} was trained on"
    if _wants_training(dataset, among):
        raise DatasetError(
            f"{about} the training faces of {Path(dataset.source).name}, so its answers there repeat the labels. Leave "
            "--among out to look at the other splits, or --predictions to train folds."
        )
    # Published splits stay what they are; splits made at random are other ones after every change of the data.
    if not same and not are_published(trained.get("faces", {})):
        raise DatasetError(
            f"{about} other splits of {Path(dataset.source).name}, so it may have seen any of its faces. Give the --split "
            "that it was trained with, or leave --predictions out."
        )


def _stem(source: str) -> str:
    return Path(source).name.split(".")[0]
