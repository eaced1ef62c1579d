"""Say how good a classifier is on labelled faces: run it, measure it, keep what pictures and pages need."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ferkit import metrics
from ferkit.datasets.records import Faces, FaceSet
from ferkit.errors import DatasetError, ModelError
from ferkit.images import FaceInput
from ferkit.labels import canonical
from ferkit.metrics import ClassScores
from ferkit.registry import Registry

# A view is one look at the same faces; the answer is the mean over the views.
TTA: Registry[Callable[[Faces], Sequence[Faces]]] = Registry("test-time augmentation")


@TTA.register("flip")
def flip(faces: Faces) -> Sequence[Faces]:
    """Mean of each face and its mirror image; twice the work."""
    return faces, faces[:, :, ::-1]


class Classifier(Protocol):
    """What is needed of a model to measure it; `EmotionClassifier` fits."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def face_input(self) -> FaceInput: ...
    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class DistinctScores:
    """The figures over faces whose pixels were not seen before, in this split or in one that comes first."""

    n: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, eq=False)
class Report:
    """What a classifier got right and wrong on one set of faces. Shares are fractions, 0 to 1.

    classes: class names in the order of the data, which is that of `per_class`, `confusion` and `probabilities`.
    accuracy_ci95: 95 % Wilson interval.
    nll: log loss in nats. ece: expected calibration error over 15 bins.
    confusion: int64 (K, K), rows true, columns predicted.
    without_duplicates: the figures over distinct faces; None where duplicates were not looked for or nothing is left.
    faces_per_second: over the whole prediction, including every view of a test-time augmentation.
    probabilities: float32 (N, K), one row per face of `faces`; for galleries and plots, not in the JSON.
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

    @property
    def classes(self) -> tuple[str, ...]:
        return self.faces.classes

    def accuracy_at_coverage(self, coverage: float) -> float:
        """Accuracy when only the `coverage` share of faces with the highest confidence is answered."""
        return metrics.accuracy_at_coverage(self.probabilities, self.faces.labels, coverage)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit evaluate --json`; scores of a class without faces are null."""
        distinct = self.without_duplicates
        return {
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
        }

    def __str__(self) -> str:
        low, high = self.accuracy_ci95
        return (
            f"{self.model} on {self.n:,} faces of {self.split}: accuracy {self.accuracy:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}), macro-F1 {self.macro_f1:.3f}"
        )


def evaluate(classifier: Classifier | str | Path, faces: FaceSet, *, tta: str | None = None) -> Report:
    """Run a classifier (or the model at a path, or "default") on labelled faces and measure the answers.

    tta: name of a test-time augmentation in `TTA`, or None. Calibrated confidences are averaged over its views.
    Raises `ModelError` if the model's classes are not those of the data, `DatasetError` if there is no face or the faces
    have another size than the model takes, `UsageError` for an unknown `tta`.

        dataset = ferkit.load_dataset("fer2013.csv")
        print(ferkit.evaluate("my_model", dataset.test, tta="flip"))
    """
    views = TTA[tta] if tta else lambda images: (images,)
    if isinstance(classifier, (str, Path)):
        from ferkit.classifier import EmotionClassifier

        classifier = EmotionClassifier.load(classifier)
    columns = _columns(classifier, faces)
    _check_faces(classifier, faces)

    start = time.perf_counter()
    predicted = [classifier.predict_proba(view) for view in views(faces.images)]
    seconds = time.perf_counter() - start
    probabilities = np.mean(predicted, axis=0, dtype=np.float32)[:, columns]
    return measure(probabilities, faces, model=classifier.name, seconds=seconds, tta=tta)


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


def _columns(classifier: Classifier, faces: FaceSet) -> list[int]:
    """Which output of the model belongs to each class of the data."""
    outputs = [canonical(name) for name in classifier.classes]
    wanted = [canonical(name) for name in faces.classes]
    if sorted(outputs) != sorted(wanted):
        raise ModelError(
            f"The model {classifier.name} knows {', '.join(outputs)}; the data has {', '.join(wanted)}. "
            "Both must have the same classes: choose another model or train one on this data."
        )
    return [outputs.index(name) for name in wanted]


def _check_faces(classifier: Classifier, faces: FaceSet) -> None:
    if not len(faces):
        raise DatasetError(f"The split {faces.name} holds no face, so there is nothing to measure.")
    takes = classifier.face_input
    if faces.images.shape[1:] != (takes.height, takes.width, takes.channels):
        height, width, channels = faces.images.shape[1:]
        raise DatasetError(
            f"The model {classifier.name} takes faces of {takes.height}x{takes.width}x{takes.channels}; "
            f"the data has {height}x{width}x{channels}. Load it with load_dataset(..., size=, channels=)."
        )
