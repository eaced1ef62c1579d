"""Probabilities of faces by networks that never saw them: each fold is answered by one trained on the others.

The folds live in one folder: `folds.json` says of which faces, `fold-1/` and so on are ordinary training runs, and
`fold-1.npy` is what the first network says of its fold. Killed at any moment it goes on where it was, and what is done
is not done again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import Dataset, FaceSet
from ferkit.datasets.splits import HELD_OUT_OF_TRAINING
from ferkit.datasets.table import pixel_prints
from ferkit.errors import DatasetError, TrainingError, UsageError
from ferkit.files import blame, write_atomically
from ferkit.recipes import RECIPES, TrainConfig
from ferkit.training import run_folder, train
from ferkit.wording import count

FOLDS = 3
FOLDS_FILE = "folds.json"
# Few epochs: the question is which labels the other faces speak against, not what could be reached in the end. AdamW, for
# it learns from a few hundred faces as well, where an average of the weights would still hold the first of them.
RECIPE = RECIPES["better"].config.changed(model="compact", epochs=12, label_smoothing=0.05)

Prints = npt.NDArray[np.uint64]


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


def assign_folds(prints: Prints, labels: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each face, int64 (N,), 0 to folds - 1: every class spread evenly, copies of a face together."""
    _, first, copy_of = np.unique(prints, return_index=True, return_inverse=True)
    fold = np.zeros(len(first), np.int64)
    rng = np.random.default_rng(seed)
    start = 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels[first] == label))
        # Classes do not all begin at the first fold, which would then be the largest.
        fold[members] = (np.arange(len(members)) + start) % folds
        start += len(members)
    return fold[copy_of]


def _answers(
    faces: FaceSet, fold_of: npt.NDArray[np.int64], fold: int, recipe: TrainConfig, folder: Path, quiet: bool
) -> npt.NDArray[np.float32]:
    """What a network trained on the other folds says of a fold."""
    others = faces.select(np.flatnonzero(fold_of != fold))
    # The tenth on which the epoch is chosen holds no copy of what is trained on.
    tenth = _tenth(pixel_prints(others.images), others.labels, recipe.seed)
    splits = {"train": others.select(~tenth, "train"), "val": others.select(tenth, "val")}
    dataset = Dataset(splits, faces.classes, f"{faces.name} without fold {fold + 1}", _print_of(faces, str(fold)))
    begun = (folder / run_folder.CONFIG_FILE).is_file()
    run = train(dataset, recipe, out=folder, resume=begun, quiet=quiet)
    return run.classifier.predict_proba(np.ascontiguousarray(faces.images[fold_of == fold]))


def _tenth(prints: Prints, labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.bool_]:
    """Which faces the epoch is chosen on, bool (N,): no copy of any is outside, and no class is inside as a whole.

    A class of less than ten faces may be missing here, which costs nothing; its only face is trained on.
    """
    _, first, copy_of = np.unique(prints, return_index=True, return_inverse=True)
    seen = labels[first]
    several = (np.bincount(seen) > 1)[seen][copy_of]
    chosen = np.zeros(len(prints), np.bool_)
    chosen[several] = assign_folds(prints[several], labels[several], round(1 / HELD_OUT_OF_TRAINING), seed) == 0
    return chosen


def _agreed(folder: Path, faces: FaceSet, plan: Plan) -> tuple[TrainConfig, int]:
    """Recipe and number of folds: those of the folds that are there, else as planned, which is written down."""
    path, data = folder / FOLDS_FILE, _print_of(faces)
    if not path.is_file():
        recipe, folds = plan.full_recipe, plan.folds or FOLDS
        run_folder.write_json(path, {"data": data, "folds": folds, "recipe": recipe.to_dict()})
        return recipe, folds
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        recipe, folds = TrainConfig.from_dict(stored["recipe"]), int(stored["folds"])
        same = stored["data"] == data
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
