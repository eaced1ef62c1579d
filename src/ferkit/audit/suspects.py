"""Labels that are likely wrong, by confident learning: what a model that never saw a face says against its label.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels". A class has a threshold
of its own: the mean probability that faces with its label get for it. A face that reaches the threshold of another class
than its label's is counted off the diagonal of the confident joint, and is a suspect. Thresholds make up for classes that
a model is surer or less sure of; it must not have been trained on the faces, or it repeats their labels.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import FaceSet
from ferkit.errors import DatasetError
from ferkit.files import write_atomically
from ferkit.metrics import Labels, Probabilities, accuracy

Joint = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Suspects:
    """The faces whose labels are in doubt, most suspicious first: M of N that were looked at.

    faces: all that were looked at. probabilities: float32 (N, K), of a model that was not trained on them.
    places: N words that lead to each face in its source, such as a path or "row 17".
    indices: int64 (M,), into `faces`. suggested: int64 (M,), the class that each seems to be.
    margins: float64 (M,), -1 to 1: the label's probability less that of the best other class; the lower, the more
        suspicious (the normalised margin of the paper).
    joint: int64 (K, K), the confident joint: faces by label (row) and by the class that they seem to be (column); those
        that reach no threshold are not counted.
    by: who gave the probabilities, in words. how: a sentence on why the labels did not shape them.
    """

    faces: FaceSet
    probabilities: npt.NDArray[np.float32]
    places: list[str]
    indices: npt.NDArray[np.int64]
    suggested: npt.NDArray[np.int64]
    margins: npt.NDArray[np.float64]
    joint: Joint
    by: str
    how: str = ""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def accuracy(self) -> float:
        """Share of faces whose most probable class is their label: how far the probabilities can be believed at all."""
        return accuracy(self.probabilities, self.faces.labels)

    @property
    def warning(self) -> str:
        """Why the suspects are worth nothing, in a sentence; empty where they may be worth something."""
        counts = self.faces.counts
        commonest = max(counts, key=lambda name: counts[name])
        if self.accuracy > counts[commonest] / len(self.faces):
            return ""
        return (
            f"The answers agree with {self.accuracy:.1%} of the labels, no more than always answering {commonest}, so these "
            "suspects mean nothing. Train longer, gather more faces, or name a better model."
        )

    @property
    def wrong_share(self) -> float:
        """Estimated share of wrong labels in all: the confident joint, brought to the counts of the labels.

        It takes every confident mistake of the model for one of the labels, so it is too high, with a weak model by far.
        """
        return wrong_share(self.joint, np.bincount(self.faces.labels, minlength=len(self.faces.classes)))

    def row(self, rank: int) -> dict[str, Any]:
        """One suspect, by its place in the order, as the table and the JSON have it."""
        index, classes = int(self.indices[rank]), self.faces.classes
        given = int(self.faces.labels[index])
        row = None if self.faces.rows is None else int(self.faces.rows[index])
        return {
            "face": self.places[index],
            "row": row,
            "label": classes[given],
            "suggested": classes[int(self.suggested[rank])],
            "margin": round(float(self.margins[rank]), 6),
            "self_confidence": round(float(self.probabilities[index, given]), 6),
            **{name: round(float(p), 6) for name, p in zip(classes, self.probabilities[index], strict=True)},
        }

    def to_dict(self, count: int | None = None) -> dict[str, Any]:
        """What the JSON holds: the figures, and the first `count` suspects (None: all)."""
        classes = self.faces.classes
        return {
            "among": self.faces.name,
            "n": len(self.faces),
            "by": self.by,
            "accuracy": self.accuracy,
            "suspects": len(self),
            "wrong_share": self.wrong_share,
            "confident_joint": self.joint.tolist(),
            "classes": list(classes),
            "faces": [self.row(rank) for rank in range(len(self) if count is None else min(count, len(self)))],
        }


def find_suspects(
    faces: FaceSet, probabilities: npt.NDArray[np.float32], places: list[str], by: str, *, how: str = ""
) -> Suspects:
    """The faces that seem to be of another class than their label's, most suspicious first.

    probabilities: float32 (N, K) in the order of `faces.classes`, of a model that was not trained on these faces.
    Raises `DatasetError` if there is no face.
    """
    if not len(faces):
        raise DatasetError(f"{faces.name} holds no face to look at. Expected at least one.")
    labels = faces.labels
    seems = confident_classes(probabilities, labels)
    counted = seems >= 0
    k = probabilities.shape[1]
    joint = np.bincount(labels[counted] * k + seems[counted], minlength=k * k).reshape(k, k)
    margins = label_margins(probabilities, labels)
    doubted = np.flatnonzero(counted & (seems != labels))
    order = doubted[np.argsort(margins[doubted], kind="stable")]
    return Suspects(
        faces=faces,
        probabilities=probabilities,
        places=places,
        indices=order,
        suggested=seems[order],
        margins=margins[order],
        joint=joint.astype(np.int64),
        by=by,
        how=how,
    )


def confident_classes(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.int64]:
    """The class that each face confidently seems to be, int64 (N,): the likeliest of those whose threshold it reaches.

    -1 where it reaches none. A class without a face has no threshold and is reached by nobody.

    >>> sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.95, 0.05]])
    >>> confident_classes(sure, np.array([0, 0, 1, 1])).tolist()
    [0, -1, 1, 0]
    """
    k = probabilities.shape[1]
    thresholds = np.full(k, np.inf)
    for label in np.unique(labels):
        thresholds[label] = probabilities[labels == label, label].mean(dtype=np.float64)
    # Equal to a threshold up to rounding counts as reached: of a class with one face, its own.
    reached = np.where(probabilities >= thresholds - 1e-7, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1).astype(np.int64)


def label_margins(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.float64]:
    """The label's probability less that of the best other class, float64 (N,), -1 to 1.

    >>> label_margins(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0])).tolist()
    [0.5, -0.5]
    """
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    given = others[rows, labels]
    others[rows, labels] = -1
    return np.asarray(given - others.max(axis=1))


def wrong_share(joint: Joint, counts: npt.NDArray[np.int64]) -> float:
    """Estimated share of wrong labels, 0 to 1: off the diagonal of the joint, each row scaled to its label's faces.

    Section 3.1 of the paper. Labels of which no face reaches a threshold are taken to be right.

    >>> wrong_share(np.array([[9, 1], [0, 5]]), np.array([20, 20]))
    0.05
    """
    rows = joint.sum(axis=1)
    off = (rows - np.diag(joint)) / np.maximum(rows, 1)
    return float((off * counts).sum() / counts.sum())


def write_table(suspects: Suspects, path: Path) -> None:
    """All suspects as CSV, most suspicious first: face, row, label, suggested, margin, self_confidence, probabilities."""
    names = ["face", "row", "label", "suggested", "margin", "self_confidence", *suspects.faces.classes]
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        # Not a DictWriter: a class may be named as a column is.
        writer = csv.writer(file)
        writer.writerow(names)
        for rank in range(len(suspects)):
            row = suspects.row(rank)
            probabilities = suspects.probabilities[int(suspects.indices[rank])]
            writer.writerow([*(row[name] for name in names[:6]), *(f"{p:.6f}" for p in probabilities)])


def write_figures(suspects: Suspects, path: Path) -> None:
    """The JSON of `Suspects.to_dict`, in a file."""
    with write_atomically(path) as draft:
        draft.write_text(json.dumps(suspects.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
