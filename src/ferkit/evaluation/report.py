"""How good a classifier is on labelled faces: run it, measure it, keep what reports need.

`evaluate` does all of it; `Report` holds the result, prints as tables and is written as a page by `write_report`.
"""

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ferkit.data import Dataset, FaceSet
from ferkit.errors import FerkitError, UsageError, count
from ferkit.evaluation import metrics
from ferkit.evaluation.faces import Data, Progress, check_options, faces_for
from ferkit.evaluation.metrics import Answered, ClassScores
from ferkit.models import Classifier, augmented, matched, open_classifier
from ferkit.render import Document, Printed, Section
from ferkit.sources import is_there, missing

if TYPE_CHECKING:
    from ferkit.evaluation.group_table import GroupTable

History = Sequence[Mapping[str, float]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistinctScores:
    """The metrics over faces whose pixels were not seen before, in this split or in one that comes first."""

    n: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, eq=False)
class Report(Printed):
    """How good a classifier is on one set of faces. Shares are fractions, 0 to 1.

    classes: class names in the order of the data, which is that of `per_class`, `confusion` and `probabilities`; after
        them those that only the model knows.
    accuracy_ci95: 95 % Wilson interval.
    nll: log loss in nats. ece: expected calibration error over 15 bins.
    confusion: int64 (K, K), rows true, columns predicted.
    without_duplicates: the metrics over distinct faces; None where duplicates were not looked for or nothing is left.
    faces_per_second: over the whole prediction, including every view of a test-time augmentation.
    probabilities: float32 (N, K), one row per face of `faces`; for galleries and plots, not in the JSON.
    card: what the model says of itself. parts: what else was measured, such as a `Robustness`.
    """

    model: str
    split: str
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    balanced_accuracy: float
    nll: float
    ece: float
    per_class: dict[str, ClassScores]
    confusion: metrics.Confusion
    without_duplicates: DistinctScores | None
    faces_per_second: float
    tta: str | None = None
    faces: FaceSet = field(repr=False, kw_only=True)
    probabilities: npt.NDArray[np.float32] = field(repr=False, kw_only=True)
    card: Mapping[str, Any] = field(default_factory=dict, repr=False, kw_only=True)
    parts: "tuple[Part, ...]" = field(default=(), repr=False, kw_only=True)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.faces.classes

    @property
    def truth(self) -> str:
        """The ground truth: one of `ferkit.data.records.TRUTHS`."""
        return self.faces.truth

    @property
    def note(self) -> str:
        """What a reader must know about classes that no face is labelled with; empty where there are none."""
        absent = ", ".join(name for name, one in self.per_class.items() if not one.n)
        return f"No face is labelled {absent}; such predictions count as wrong." if absent else ""

    def accuracy_at_coverage(self, coverage: float) -> float:
        """Accuracy when only the `coverage` share of faces with the highest confidence is predicted."""
        return metrics.accuracy_at_coverage(self.probabilities, self.faces.labels, coverage)

    @property
    def coverage(self) -> tuple[Answered, ...]:
        """Coverage and accuracy at the confidences in `metrics.CONFIDENCES`."""
        return tuple(metrics.answered(self.probabilities, self.faces.labels, p) for p in metrics.CONFIDENCES)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit evaluate --json`; what cannot be scored for lack of faces is null.

        New keys come at its end; those of `parts` come last.
        """
        distinct = self.without_duplicates
        own = {
            "model": self.model,
            "split": self.split,
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "nll": self.nll,
            "ece": self.ece,
            "per_class": {
                name: {"precision": one.precision, "recall": one.recall, "f1": one.f1, "n": one.n}
                for name, one in self.per_class.items()
            },
            "confusion": self.confusion.tolist(),
            "without_duplicates": distinct
            and {"n": distinct.n, "accuracy": distinct.accuracy, "macro_f1": distinct.macro_f1},
            "faces_per_second": self.faces_per_second,
            "coverage": [
                asdict(one) | {"accuracy_ci95": one.accuracy_ci95 and list(one.accuracy_ci95)} for one in self.coverage
            ],
            "tta": self.tta,
            "truth": self.truth,
        }
        return own | {part.key: part.to_dict() for part in self.parts}

    def document(self, history: History = ()) -> Document:
        """The report as sections. history: the training run, one mapping per epoch as `figures.training_curves` takes it."""
        # Sections bring Matplotlib, which measuring does without.
        from ferkit.evaluation.report_sections import report_document

        return report_document(self, history)


class Part(Protocol):
    """Something else that was measured: a key of its own in the JSON document, and a section of the report."""

    @property
    def key(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...
    def section(self) -> Section: ...


def evaluate(
    model: Classifier | str | Path,
    data: Data,
    *,
    split: str = "test",
    tta: str | None = None,
    truth: str = "labels",
    votes: Path | None = None,
    skip_broken: bool = False,
    label_map: Mapping[str, str] | None = None,
    groups: Path | None = None,
    group_columns: Sequence[str] = (),
    person_column: str | None = None,
    robustness: bool = False,
    limit: int | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Evaluate a model on labelled faces: accuracy, calibration, confusion matrix.

    Args:
        model: a classifier, the path of a model, or the name of a packaged one.
        data: faces, a data set, or the path of one. Of a path, the splits are those that the model was trained with.
        split: the split of a data set to evaluate on. Faces that are given are all taken.
        tta: name of a test-time augmentation in `ferkit.models.TTA`, or None.
        truth: "labels", or "votes": the FER+ majority label, on the faces that have one (`FaceSet.by_votes`).
        votes: FER+ votes to join to data that is given by its path.
        skip_broken: leave unreadable faces out.
        label_map: class of the data -> class of the model, "" to leave it out (`read_label_map`).
        groups: a table of who is in which group, for metrics of each group.
        group_columns: its columns with groups; none takes all.
        person_column: its column with a person's ID, where people have several faces.
        robustness: evaluate on corrupted faces too.
        limit: corrupt at most so many faces, drawn at random.
        classes: names in the order of the outputs of a bare model file; see `EmotionClassifier.load`.
        pixel_scale: pixels that a bare model file was trained on: "0..1", "-1..1", "0..255" or "mean,std".
        progress: called with what is done, how much of it is done, and of how much.

    Returns:
        The report. A class that only the model knows may be predicted, and is wrong; nothing is renormalised.

    Raises:
        UsageError: options that do not fit.
        DatasetError: the data cannot be read, holds no face, or has faces of another size than the model takes.
        ModelError: the model cannot be read, or the data has classes that it does not know.

    Example:
        dataset = ferkit.load_dataset("fer2013.csv")
        print(ferkit.evaluate("my_model", dataset.test, tta="flip"))

    """
    check_options(tta=tta, truth=truth, votes=votes, data=data)
    check_parts(groups, group_columns, person_column, robustness=robustness, limit=limit)
    classifier = open_classifier(model, classes=classes, pixel_scale=pixel_scale)
    (read,) = faces_for(
        [classifier], data, split=split, truth=truth, votes=votes, skip_broken=skip_broken, progress=progress
    )
    if isinstance(data, FaceSet) and label_map is None and groups is None and not robustness:
        return _measured(classifier, read, tta)
    # Here, because they need reports themselves.
    from ferkit.evaluation.cross_dataset import cross_dataset_report, match_classes
    from ferkit.evaluation.groups import group_report
    from ferkit.evaluation.robustness import measure_robustness
    from ferkit.evaluation.sensitivity import sensitivity_curve

    faces, matching = match_classes(classifier.classes, read, label_map, model=f"The model {classifier.name}")
    if matching.note:
        _log.info("Note: %s", matching.note)
    # Before the model is run, so that an error does not cost that time; and with the faces as they were read, for a
    # table knows the classes of the data, not those of the model.
    table = _groups_of(groups, read, data, group_columns, person_column)
    if progress is not None:
        progress(f"Evaluating {count(len(faces), 'face')}", 0, 0)
    report = _measured(classifier, faces, tta)
    parts: list[Part] = [*report.parts, *([] if matching.same else [cross_dataset_report(report, matching)])]
    if (curve := sensitivity_curve(classifier, report)) is not None:
        parts.append(curve)
    if table is not None:
        parts.append(group_report(report, table.select(matching.keeps(read))))
    if robustness:
        tell = None if progress is None else partial(progress, "Corrupting faces")
        parts.append(measure_robustness(classifier, report.faces, tta=tta, limit=limit, progress=tell))
    return replace(report, parts=tuple(parts))


def check_parts(
    groups: Path | None, columns: Sequence[str], person_column: str | None, *, robustness: bool, limit: int | None
) -> None:
    """Raise `UsageError` for options of groups and robustness that do not fit, `DatasetError` where no table is."""
    if columns and groups is None:
        raise UsageError("--group-column names a column of --groups: add --groups FILE.")
    if person_column is not None and groups is None:
        raise UsageError("--person-column names a column of --groups: add --groups FILE.")
    if limit is not None and not robustness:
        raise UsageError("--limit is for --robustness, which evaluates every face dozens of times: add --robustness.")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1 face. Received: {limit}.")
    if groups is not None and not is_there(groups):
        raise missing(groups)


def _groups_of(
    path: Path | None, faces: FaceSet, data: Data, columns: Sequence[str], person_column: str | None
) -> "GroupTable | None":
    if path is None:
        return None
    if isinstance(data, FaceSet):
        raise UsageError("groups needs the source of the faces. Pass the dataset or its path, not a FaceSet.")
    from ferkit.evaluation.group_table import join_groups

    source = data.source if isinstance(data, Dataset) else data
    return join_groups(path, faces, source, columns, person_column)


def _measured(classifier: Classifier, faces: FaceSet, tta: str | None) -> Report:
    faces, ask = matched(augmented(classifier, tta), faces)
    start = time.perf_counter()
    probabilities = ask(faces.images)
    seconds = time.perf_counter() - start
    report = measure(probabilities, faces, model=classifier.name, seconds=seconds, tta=tta)
    # Here, because it renders, which measuring does without.
    from ferkit.evaluation.better_fit import better_fit

    fit = better_fit(classifier, faces, probabilities.argmax(axis=1), tta=tta)
    if fit is not None:
        _log.warning("Warning: %s", fit)
    return replace(report, card=getattr(classifier, "card", None) or {}, parts=() if fit is None else (fit,))


def measure(
    probabilities: npt.NDArray[np.float32], faces: FaceSet, *, model: str, seconds: float, tta: str | None = None
) -> Report:
    """Report on predictions that exist already: float (N, K), columns in the order of `faces.classes`.

    seconds: how long predicting them took.
    """
    labels = faces.labels
    confusion = metrics.confusion_matrix(probabilities, labels)
    n, hits = len(labels), int(np.trace(confusion))
    return Report(
        model=model,
        split=faces.name,
        n=n,
        accuracy=hits / n,
        accuracy_ci95=metrics.wilson_interval(hits, n),
        macro_f1=metrics.macro_f1(confusion),
        balanced_accuracy=metrics.balanced_accuracy(confusion),
        nll=metrics.nll(probabilities, labels),
        ece=metrics.ece(probabilities, labels),
        per_class=dict(zip(faces.classes, metrics.class_scores(confusion), strict=True)),
        confusion=confusion,
        without_duplicates=_without_duplicates(probabilities, faces),
        faces_per_second=n / max(seconds, 1e-9),
        tta=tta,
        faces=faces,
        probabilities=probabilities,
    )


def _without_duplicates(probabilities: npt.NDArray[np.float32], faces: FaceSet) -> DistinctScores | None:
    if faces.duplicate is None or faces.duplicate.all():
        return None
    distinct = ~faces.duplicate
    confusion = metrics.confusion_matrix(probabilities[distinct], faces.labels[distinct])
    n = int(confusion.sum())
    return DistinctScores(n=n, accuracy=int(np.trace(confusion)) / n, macro_f1=metrics.macro_f1(confusion))


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a run from its `history.csv`; empty fields are left out."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as problem:
        raise FerkitError(f"{path} is not the history of a training run: {problem}.") from problem
