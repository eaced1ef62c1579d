"""Labels that are likely wrong, by confident learning: what a model that never saw a face says against its label.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels". A class has a threshold
of its own: the mean probability that faces with its label get for it. A face that reaches the threshold of another class
than its label's is counted off the diagonal of the confident joint, and is a suspect. Thresholds make up for classes that
a model is surer or less sure of; it must not have been trained on the faces, or it repeats their labels.

Probabilities of faces by networks that never saw them: each fold is answered by one trained on the others.

The folds live in one folder: `folds.json` says of which faces, `fold-1/` and so on are ordinary training runs, and
`fold-1.npy` is what the first network says of its fold. Killed at any moment it goes on where it was, and what is done
is not done again.
"""

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.files import blame, write_atomically
from ferkit.data import HELD_OUT_OF_TRAINING, SPLITTER, Dataset, FaceSet, assign_folds, hold_out, pixel_prints
from ferkit.errors import DatasetError, TrainingError, UsageError, count
from ferkit.evaluation import accuracy
from ferkit.models import Labels, Probabilities
from ferkit.training import run_folder
from ferkit.training.config import RECIPES, TrainConfig
from ferkit.training.loop import train

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


FOLDS = 3
FOLDS_FILE = "folds.json"
# Few epochs: the question is which labels the other faces speak against, not what could be reached in the end. AdamW, for
# it learns from a few hundred faces as well, where an average of the weights would still hold the first of them.
RECIPE = RECIPES["better"].config.changed(model="compact", epochs=12, label_smoothing=0.05)


@dataclass(frozen=True)
class Plan:
    """How the folds are made. None keeps what the folds have that are there already, else takes the defaults.

    epochs: in place of the recipe's.
    """

    folds: int | None = None
    epochs: int | None = None
    recipe: TrainConfig | None = None

    def __post_init__(self) -> None:
        if self.folds is not None and self.folds < 2:
            raise UsageError(f"folds must be at least 2. Received: {self.folds}.")
        _ = self.full_recipe  # says what is wrong with the epochs

    @property
    def full_recipe(self) -> TrainConfig:
        """What networks are trained by if there is no fold yet. Raises `UsageError` for epochs that cannot be."""
        return (self.recipe or RECIPE).changed(epochs=self.epochs)


def out_of_fold(
    faces: FaceSet,
    folder: Path,
    *,
    plan: Plan | None = None,
    quiet: bool = False,
    say: Callable[[str], object] | None = None,
) -> npt.NDArray[np.float32]:
    """Calibrated probabilities of all faces, float32 (N, K), each by a network that saw neither it nor a copy of it.

    The network of a fold is chosen, and its temperature fitted, on a tenth of the other folds, so the labels of its own
    fold play no part. Faces with identical pixels are in the same fold; copies that were scaled or cut otherwise are not
    found.

    Args:
        faces: labelled faces, votes are not used.
        folder: where networks and answers are kept. A second call takes them from there.
        plan: how many folds, by which recipe; None takes what is there, or the defaults.
        quiet: no progress on standard error.
        say: told what happens.

    Raises:
        TrainingError: the folder holds folds of other faces or other values, or is in use. DatasetError: too few faces.
    """
    say = say or (lambda _: None)
    faces = replace(faces, votes=None, voted=None)  # the labels are in question, so it is they that are learned
    plan = plan or Plan()
    if not (folder / FOLDS_FILE).is_file():  # so that what is refused leaves no folder
        _check(faces, plan.folds or FOLDS)
    with run_folder.alone(folder, "search for suspects"):
        recipe, folds = _agreed(folder, faces, plan)
        if recipe.changed(epochs=RECIPE.epochs) != RECIPE and plan.recipe is None:
            say(f"The folds in {folder} were begun with another recipe than the usual one, and go on with it.")
        fold_of = assign_folds(pixel_prints(faces.images), faces.labels, folds, recipe.seed)
        probabilities = np.zeros((len(faces), len(faces.classes)), np.float32)
        for fold in range(folds):
            members = fold_of == fold
            kept = folder / f"fold-{fold + 1}.npy"
            answers = _stored(kept, (int(members.sum()), len(faces.classes)))
            if answers is None:
                say(
                    f"Fold {fold + 1} of {folds}: {count(int(members.sum()), 'face')}, by a network trained on the others."
                )
                answers = _answers(faces, fold_of, fold, recipe, folder / f"fold-{fold + 1}", quiet)
                with write_atomically(kept, TrainingError) as draft:
                    np.save(draft, answers)
            probabilities[members] = answers
    return probabilities


def _answers(
    faces: FaceSet, fold_of: npt.NDArray[np.int64], fold: int, recipe: TrainConfig, folder: Path, quiet: bool
) -> npt.NDArray[np.float32]:
    """What a network trained on the other folds says of a fold."""
    others = faces.select(np.flatnonzero(fold_of != fold))
    # The tenth on which the epoch is chosen holds no copy of what is trained on.
    tenth = hold_out(pixel_prints(others.images), others.labels, HELD_OUT_OF_TRAINING, recipe.seed)
    splits = {"train": others.select(~tenth, "train"), "val": others.select(tenth, "val")}
    dataset = Dataset(splits, faces.classes, f"{faces.name} without fold {fold + 1}", _print_of(faces, str(fold)))
    begun = (folder / run_folder.CONFIG_FILE).is_file()
    run = train(dataset, recipe, out=folder, resume=begun, quiet=quiet)
    return run.classifier.predict_proba(np.ascontiguousarray(faces.images[fold_of == fold]))


def _agreed(folder: Path, faces: FaceSet, plan: Plan) -> tuple[TrainConfig, int]:
    """Recipe and number of folds: those of the folds that are there, else as planned, which is written down."""
    path, data = folder / FOLDS_FILE, _print_of(faces)
    if not path.is_file():
        recipe, folds = plan.full_recipe, plan.folds or FOLDS
        run_folder.write_json(path, {"data": data, "folds": folds, "splitter": SPLITTER, "recipe": recipe.to_dict()})
        return recipe, folds
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        recipe, folds = TrainConfig.from_dict(stored["recipe"]), int(stored["folds"])
        same = stored["data"] == data
        if stored.get("splitter") != SPLITTER:
            raise ValueError("its faces were assigned to folds in another way")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TrainingError(
            f"{path} cannot be read ({problem}). Remove {folder}, or choose another --folds-in."
        ) from problem
    if not same:
        raise TrainingError(f"{folder} holds folds of other faces. Choose another --folds-in, or remove it.")
    asked: dict[str, Any] = {"folds": plan.folds, "epochs": plan.epochs}
    there = {"folds": folds, "epochs": recipe.epochs}
    if differing := [name for name, value in asked.items() if value is not None and value != there[name]]:
        raise TrainingError(
            f"{folder} was begun with other values: {', '.join(f'--{n} {there[n]}' for n in differing)}. "
            "Ask without them, or choose another --folds-in."
        )
    if plan.recipe is not None and plan.full_recipe != recipe:
        raise TrainingError(f"{folder} was begun with another recipe. Choose another --folds-in, or remove it.")
    return recipe, folds


def _check(faces: FaceSet, folds: int) -> None:
    """Refuse faces of which a class would be missing from what a network is trained on."""
    different = np.unique(pixel_prints(faces.images), return_index=True)[1]
    counts = np.bincount(faces.labels[different], minlength=len(faces.classes))
    few = [name for name, n in zip(faces.classes, counts, strict=True) if 0 < n < max(folds, 3)]
    if few or len(faces) == 0:
        raise DatasetError(
            f"{folds} folds need at least {max(folds, 3)} different faces of every class. Too few have: "
            f"{', '.join(few) or 'all, for there is no face'}. Name models that have not seen the faces with --predictions, or gather more."
        )


def _stored(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Answers that were written down, if they are whole."""
    try:
        with blame(path, TrainingError):
            answers: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (TrainingError, ValueError, EOFError):
        return None
    return answers if answers.shape == shape and answers.dtype == np.float32 else None


def _print_of(faces: FaceSet, more: str = "") -> str:
    """SHA-256 over pixels, labels and classes, hex."""
    digest = hashlib.sha256(repr((faces.images.shape[1:], faces.classes, more)).encode())
    digest.update(pixel_prints(faces.images).astype("<u8").tobytes())
    digest.update(faces.labels.astype("<i8").tobytes())
    return digest.hexdigest()
