"""Label issues: labels that are likely wrong, by what a model that never saw a face says against its label.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels". A class has a
threshold of its own: the mean probability that faces with its label get for it. A face that reaches the threshold of
another class than its label's is counted off the diagonal of the confident joint, and its label is an issue. Thresholds
make up for classes that a model is surer or less sure of; it must not have been trained on the faces, or it repeats
their labels.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.files import write_atomically
from ferkit.data import (
    Dataset,
    FaceSet,
    concatenate,
    is_of,
    load_dataset,
    may_share_faces,
    pixel_prints,
    places,
)
from ferkit.errors import DatasetError, UsageError, count
from ferkit.evaluation import accuracy, evaluate, metrics
from ferkit.models import EmotionClassifier, Labels, Probabilities, model_folder
from ferkit.render import csv_cell
from ferkit.training.experiments import HERE, Say, Where
from ferkit.training.folds import FoldPlan, out_of_fold
from ferkit.training.start import Data, load_data

Joint = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelIssues:
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
        """Why the issues found mean nothing, in a sentence; empty where they may mean something."""
        counts = self.faces.counts
        commonest = max(counts, key=lambda name: counts[name])
        if self.accuracy > counts[commonest] / len(self.faces):
            return ""
        return (
            f"The predictions agree with {self.accuracy:.1%} of the labels, no more than always predicting {commonest}, so these "
            "label issues are meaningless. Train longer, collect more faces, or use a better model."
        )

    @property
    def wrong_share(self) -> float:
        """Estimated share of wrong labels in all: the confident joint, brought to the counts of the labels.

        It takes every confident mistake of the model for one of the labels, so it is too high, with a weak model by
        far.
        """
        return wrong_share(self.joint, np.bincount(self.faces.labels, minlength=len(self.faces.classes)))

    def row(self, rank: int) -> dict[str, Any]:
        """One issue, by its place in the order, as the table and the JSON have it."""
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
        """What the JSON holds: the figures, and the first `count` issues (None: all)."""
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


def confident_learning(
    faces: FaceSet, probabilities: npt.NDArray[np.float32], places: list[str], by: str, *, how: str = ""
) -> LabelIssues:
    """The faces that seem to be of another class than their label's, most suspicious first, by confident learning.

    probabilities: float32 (N, K) in the order of `faces.classes`, of a model that was not trained on these faces.
    Raises `DatasetError` if there is no face.
    """
    if not len(faces):
        raise DatasetError(f"{faces.name} contains no face. Expected at least one.")
    labels = faces.labels
    seems = confident_classes(probabilities, labels)
    counted = seems >= 0
    joint = metrics.counted(labels[counted], seems[counted], probabilities.shape[1])
    margins = label_margins(probabilities, labels)
    doubted = np.flatnonzero(counted & (seems != labels))
    order = doubted[np.argsort(margins[doubted], kind="stable")]
    return LabelIssues(
        faces=faces,
        probabilities=probabilities,
        places=places,
        indices=order,
        suggested=seems[order],
        margins=margins[order],
        joint=joint,
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


def write_table(issues: LabelIssues, path: Path, *, raw: bool = False) -> None:
    """All label issues as CSV, most suspicious first: face, row, label, suggested, margin, self_confidence, probabilities.

    raw: whether text stays as it is, even what a spreadsheet runs as a formula.
    """
    names = ["face", "row", "label", "suggested", "margin", "self_confidence", *issues.faces.classes]
    with write_atomically(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        # Not a DictWriter: a class may be named as a column is.
        writer = csv.writer(file)
        writer.writerow(csv_cell(name, raw=raw) for name in names)
        for rank in range(len(issues)):
            row = issues.row(rank)
            probabilities = issues.probabilities[int(issues.indices[rank])]
            writer.writerow(
                [*(csv_cell(row[name], raw=raw) for name in names[:6]), *(f"{p:.6f}" for p in probabilities)]
            )


_TRAINING = ("Training", "train")
# Why the answers can be taken as another opinion than the label.
_OUT_OF_FOLD = "Every face was evaluated by a network that was not trained on it, nor on a copy with the same pixels."
_HELD_OUT = "Every face is of a split held out from training, and none has the pixels of a training face."
_TOLD = "The models were said not to have seen these faces; nothing that they tell of themselves speaks against it."


def find_label_issues(
    data: Data,
    models: Sequence[str | Path] = (),
    *,
    among: str | None = None,
    out: str | Path | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    load: Callable[..., Dataset] | None = None,
    where: Where = HERE,
    say: Say | None = None,
) -> LabelIssues:
    """Find labels that are likely wrong: by models that have not seen the faces, or by networks that are trained for it.

    Args:
        data: Labelled faces, or their path.
        models: Models that have not seen the faces; their mean answer counts. None at all trains networks, each on the
            other folds' faces.
        among: A split, or "all". By default all faces, with models all but those of the training split.
        out: Folder of the networks that are trained; by default one in `runs/`, named after the data. What is done
            there is not done again.
        folds: How many networks are trained; by default 3, or as `out` has them.
        epochs: For how long each; by default 12, or as `out` has them.
        load: Loads the data again in the `size` and `channels` that a model takes. By default what reads the path.
        where: Where networks are trained.
        say: Told what happens; None works without a word.

    Raises:
        DatasetError: a model has seen the faces, or there are too few of a class.
        UsageError, TrainingError, ModelError: as from `train` and `EmotionClassifier.load`.
    """
    say = say or (lambda text: None)
    plan = FoldPlan(folds, epochs)
    if models and (out or folds or epochs):
        raise UsageError("With models nothing is trained: leave the folder, folds and epochs out.")
    if load is None and isinstance(data, str | Path):
        load = partial(load_dataset, data)
    dataset = load_data(data)
    if models:
        faces, probabilities = _predicted(dataset, models, among, load, say)
        by, how = " and ".join(map(str, models)), _TOLD if _wants_training(dataset, among) else _HELD_OUT
    else:
        faces = dataset.split(among or "all")
        name = Path(dataset.source).name.split(".")[0] or "data"
        folder = Path(out or Path("runs") / f"label-issues-{name}-{dataset.fingerprint[:8]}-{faces.name}")
        say(f"Folds: {folder} (finished folds are reused)")
        probabilities = out_of_fold(faces, folder, plan=plan, where=where, say=say)
        by, how = "networks that were trained on the other folds", _OUT_OF_FOLD
    found = places(dataset.source, faces.rows) if faces.rows is not None else [""] * len(faces)
    issues = confident_learning(faces, probabilities, found, by, how=how)
    if issues.warning:
        say(f"Warning: {issues.warning}")
    return issues


def _predicted(
    dataset: Dataset, names: Sequence[str | Path], among: str | None, load: Callable[..., Dataset] | None, say: Say
) -> tuple[FaceSet, npt.NDArray[np.float32]]:
    """The faces that were asked for, and the mean answer of the models, without classes that only models know."""
    models = [EmotionClassifier.load(name) for name in names]
    for model in models:
        _check_unseen(model, dataset, among)
    wished = _among(dataset, among)
    everything = _wants_training(dataset, among)
    unseen = np.ones(len(wished), np.bool_) if everything else ~_copies_of_training(dataset, wished)
    if not unseen.all():
        say(f"Note: {count(int((~unseen).sum()), 'face')} left out, with pixels that are also in the training split.")
    answers = []
    for model in models:
        takes = model.face_input
        again = load(size=(takes.height, takes.width), channels=takes.channels) if load else dataset
        faces = _among(again, among).select(unseen)
        answers.append(evaluate(model, faces).probabilities[:, : len(dataset.classes)])
        if model.card.get("metrics", {}).get("split") == faces.name:
            say(f"Note: {model.name} was chosen on {faces.name}, though not trained on it.")
    mean = np.mean(answers, axis=0, dtype=np.float64)
    return wished.select(unseen), (mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _among(dataset: Dataset, among: str | None) -> FaceSet:
    if among is not None:
        return dataset.split(among)
    held_out = [faces for name, faces in dataset.splits.items() if name not in _TRAINING]
    if not held_out:
        raise DatasetError(
            f"{dataset.source} has a training split only. If the models have not seen these faces: --among all."
        )
    return held_out[0] if len(held_out) == 1 else concatenate(held_out, ", ".join(one.name for one in held_out))


def _wants_training(dataset: Dataset, among: str | None) -> bool:
    """Whether faces of the training split are asked for."""
    return among == "all" or (among is not None and dataset.split(among).name in _TRAINING)


def _copies_of_training(dataset: Dataset, faces: FaceSet) -> npt.NDArray[np.bool_]:
    """Which faces have the pixels of a training face, bool (N,): a model has seen these."""
    training = [pixel_prints(one.images) for name, one in dataset.splits.items() if name in _TRAINING]
    prints = pixel_prints(faces.images)
    return np.isin(prints, np.concatenate(training)) if training else np.zeros(len(prints), np.bool_)


def _check_unseen(model: EmotionClassifier, dataset: Dataset, among: str | None) -> None:
    """Refuse a model that was trained on the faces: its answers there are the labels that it has learned."""
    trained = model_folder.trained_on(model.card)
    source = Path(dataset.source).name
    if trained and _wants_training(dataset, among) and is_of(trained, dataset):
        raise DatasetError(
            f"{model.name} was trained on the training faces of {source}, so its predictions there repeat the labels. Omit --among "
            "to search the other splits, or omit --predictions to train folds."
        )
    if trained and may_share_faces(trained, dataset):
        raise DatasetError(
            f"{model.name} was trained on other splits of {source}, so it may have seen any of its faces. Give the --split that it "
            "was trained with, or leave --predictions out."
        )
