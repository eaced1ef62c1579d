"""Whether a model's outputs fit the labels far better in another order, or its network pixels in another scale.

A file from elsewhere says neither. Its figures then look like those of a weak model, and a weak model must not be taken
for a wrong order: however weak, each of its outputs comes more often for faces of its own class than for others, so that
the best assignment of outputs to classes, by the share of each class's faces, is the one it has. Only a gain that is
large, in accuracy as in balanced accuracy, and far beyond chance is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data import FaceSet
from ferkit.evaluation.metrics import counted
from ferkit.labels import canonical
from ferkit.models import SCALES, Classifier, EmotionClassifier, PixelScale, augmented, matched
from ferkit.render import Section, Text, percent

Indices = npt.NDArray[np.int64]

# A gain below it is no sign of a mistake; standard errors, so many that the best of 40,320 orders is not there by chance.
_LEAST_GAIN, _LEAST_Z = 0.05, 6.0
# Faces that the other scales are tried on.
_FACES = 2000


@dataclass(frozen=True)
class BetterFit:
    """The order of classes or the pixel scale with which a model is far better.

    Attributes:
        model: Its name.
        classes: The order of its outputs that fits; None where its own does.
        label_map: The same for a model with a card: class of the data -> class of the model.
        pixel_scale: The scale that fits; None where its own does.
        accuracy: As it is, on the faces that were compared.
        better: With what fits.
        faces: How many were compared.
    """

    model: str
    classes: tuple[str, ...] | None
    label_map: dict[str, str] | None
    pixel_scale: PixelScale | None
    accuracy: float
    better: float
    faces: int
    key: str = field(default="better_fit", init=False)

    @property
    def options(self) -> str:
        """What to paste."""
        parts = [f"--classes {','.join(self.classes)}"] if self.classes else []
        if self.label_map:
            parts.append(f"--label-map {','.join(f'{name}={one}' for name, one in self.label_map.items())}")
        return " ".join([*parts, *([f"--pixel-scale {self.pixel_scale}"] if self.pixel_scale else [])])

    def __str__(self) -> str:
        what = [
            "another order of classes"
            if self.classes
            else "another order of the data's labels"
            if self.label_map
            else "",
            "another pixel scale" if self.pixel_scale else "",
        ]
        return (
            f"{self.model} fits far better with {' and '.join(filter(None, what))}: {percent(self.better)} instead of "
            f"{percent(self.accuracy)} of {self.faces:,} faces. Try: {self.options}"
        )

    def to_dict(self) -> dict[str, Any]:
        """What stands under `better_fit` in the JSON of `ferkit evaluate`."""
        return {
            "classes": self.classes and list(self.classes),
            "label_map": self.label_map,
            "pixel_scale": self.pixel_scale and str(self.pixel_scale),
            "accuracy": self.accuracy,
            "accuracy_with_it": self.better,
            "faces": self.faces,
            "options": self.options,
        }

    def section(self) -> Section:
        return Section("Order of classes and pixel scale", (Text(f"{self}"),), key=self.key, data=self.to_dict())


def better_fit(
    classifier: Classifier, faces: FaceSet, predicted: Indices, *, tta: str | None = None
) -> BetterFit | None:
    """Find an order of classes, and of a bare file a pixel scale, that fits far better; None if there is none.

    Args:
        classifier: The model.
        faces: Labelled faces, matched to it.
        predicted: The class that it predicts for each, int64 (N,), by its place in `faces.classes`.
        tta: The test-time augmentation that it was run with.
    """
    labels, k = faces.labels, len(faces.classes)
    scale, chosen = None, predicted
    if isinstance(classifier, EmotionClassifier) and classifier.bare and not classifier.bare.opened.takes_bytes:
        some = np.sort(np.random.default_rng(0).permutation(len(faces))[:_FACES])
        best = predicted[some]
        for other in set(SCALES.values()) - {classifier.bare.scale}:
            ask = matched(augmented(classifier.with_pixel_scale(other), tta), faces)[1]
            tried = ask(faces.images[some]).argmax(axis=1)
            if _far_better(labels[some], _hits(labels[some], best, k), _hits(labels[some], tried, k)):
                scale, best = other, tried
        if scale is not None:
            labels, predicted, chosen = labels[some], predicted[some], best
    order = best_order(counted(labels, chosen, k))
    before, after = chosen == labels, chosen == order[labels]
    if not _far_better(labels, before, after):
        order, after = np.arange(k), before
    moved = bool((order != np.arange(k)).any())
    if scale is None and not moved:
        return None
    bare = isinstance(classifier, EmotionClassifier) and classifier.bare is not None
    return BetterFit(
        classifier.name,
        _renamed(classifier.classes, faces.classes, order) if moved and bare else None,
        {faces.classes[one]: faces.classes[order[one]] for one in range(k)} if moved and not bare else None,
        scale,
        float(np.mean(predicted == labels)),
        float(np.mean(after)),
        len(labels),
    )


def _renamed(outputs: Sequence[str], classes: Sequence[str], order: Indices) -> tuple[str, ...]:
    """The names of a model's outputs, in their order, where class i is answered by the output of class order[i]."""
    named = {canonical(classes[column]): classes[one] for one, column in enumerate(order)}
    return tuple(named[canonical(name)] for name in outputs)


def _hits(labels: Indices, predicted: Indices, k: int) -> npt.NDArray[np.bool_]:
    """Which faces are right in the order that suits the predictions best, so that a scale is judged whatever the order."""
    return np.asarray(predicted == best_order(counted(labels, predicted, k))[labels])


def _far_better(labels: Indices, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> bool:
    """Whether more faces are right, over all and over the classes alike, by much and far beyond chance."""
    difference = after.astype(np.float64) - before
    counts = np.bincount(labels)
    known = counts > 0
    counts = counts[known]
    means = np.bincount(labels, difference)[known] / counts
    squares = np.bincount(labels, difference**2)[known]
    # One more face that differs in each class: few faces are no proof.
    error = np.sqrt(np.sum((squares + 1) / counts**2)) / len(counts)
    gain = means.mean()
    return bool(min(gain, difference.mean()) >= _LEAST_GAIN and gain >= _LEAST_Z * error)


def best_order(confusion: npt.NDArray[np.int64]) -> Indices:
    """Which output suits each class best, int64 (K,): the assignment with the largest mean recall.

    Recall counts beyond the share of all classes with faces that an output takes, so that one that is always there
    suits none of them, also where some classes have no faces. The order stays where little is gained.

    It is found as the cheapest one of a square of costs, one row after the other along shortest paths (Jonker and
    Volgenant 1987). Where nothing speaks for another output, a class keeps its own.
    """
    k = len(confusion)
    counts = confusion.sum(axis=1, keepdims=True)
    recall = confusion / np.maximum(counts, 1)
    beyond = np.where(counts > 0, recall - recall.sum(axis=0) / max(1, np.count_nonzero(counts)), 0.0)
    cost = -(beyond + 1e-9 * np.eye(k))
    # Row 0 and column 0 stand for nothing; row_of[j] is the row that column j belongs to.
    of_rows, of_columns, row_of = np.zeros(k + 1), np.zeros(k + 1), np.zeros(k + 1, np.int64)
    for row in range(1, k + 1):
        row_of[0], column = row, 0
        least, way, done = np.full(k + 1, np.inf), np.zeros(k + 1, np.int64), np.zeros(k + 1, bool)
        while row_of[column]:
            done[column] = True
            reduced = cost[row_of[column] - 1] - of_rows[row_of[column]] - of_columns[1:]
            nearer = ~done[1:] & (reduced < least[1:])
            least[1:][nearer], way[1:][nearer] = reduced[nearer], column
            following = int(np.where(done, np.inf, least)[1:].argmin()) + 1
            step = least[following]
            of_rows[row_of[done]] += step
            of_columns[done] -= step
            least[~done] -= step
            column = following
        while column:
            row_of[column] = row_of[way[column]]
            column = way[column]
    order = np.empty(k, np.int64)
    order[row_of[1:] - 1] = np.arange(k)
    own = np.arange(k)
    gain = (beyond[own, order] - beyond[own, own]).sum() / max(1, np.count_nonzero(counts))
    return order if gain >= _LEAST_GAIN else own
