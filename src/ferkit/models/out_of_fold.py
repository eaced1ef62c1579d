"""Answers to training faces by who did not learn them: networks of which each was trained without a fold, or a file.

Both are classifiers that know faces by their pixels, so they are evaluated, compared and asked as teachers like any
other model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.files import write_atomically
from ferkit.data import Faces, FaceSet, pixel_prints
from ferkit.errors import DatasetError, ModelError, UsageError
from ferkit.models.classifier import Classifier, EmotionClassifier
from ferkit.models.ensemble import Ensemble
from ferkit.models.foreign import Contradiction
from ferkit.models.tta import augmented
from ferkit.sources import FaceInput

# In the folder of the folds: who is in which. It is written when all of them are trained.
FOLDS_FILE = "out-of-fold.npz"

_Array = npt.NDArray[Any]


class OutOfFold:
    """A classifier of networks of which each was trained without one fold of the faces.

    A face of a fold is answered by the network that saw neither it nor a copy of it, any other face by the mean of all.

    Args:
        members: One classifier for each fold.
        prints: `pixel_prints` of the faces of all folds, uint64 (N,).
        folds: The fold of each, int64 (N,), 0 to folds - 1.
        name: How the whole is called.
    """

    def __init__(self, members: Sequence[Classifier], prints: _Array, folds: _Array, name: str) -> None:
        self.members, self.name = tuple(members), name
        self._prints, first = np.unique(prints, return_index=True)
        self._folds = folds[first]
        self._all = Ensemble(self.members)

    @classmethod
    def load(cls, folder: str | Path, **how: Any) -> "OutOfFold":
        """Load what `ferkit train --folds` left, its networks as `EmotionClassifier.load` does.

        Raises `ModelError` where it is not finished or damaged.
        """
        folder = Path(folder)
        stored = _read(folder / FOLDS_FILE, ("prints", "folds", "members"))
        members = [EmotionClassifier.load(folder / str(one), **how) for one in stored["members"]]
        return cls(members, stored["prints"], stored["folds"], str(folder))

    @property
    def classes(self) -> tuple[str, ...]:
        return self._all.classes

    @property
    def face_input(self) -> FaceInput:
        return self._all.face_input

    def augmented(self, tta: str) -> "OutOfFold":
        """With test-time augmentation of each network: views of a face are answered by who answers the face."""
        return OutOfFold([augmented(one, tta) for one in self.members], self._prints, self._folds, self.name)

    def fold_of(self, faces: Faces) -> npt.NDArray[np.int64]:
        """The fold of each face, int64 (N,); -1 of those that no network was trained on."""
        where = _places(pixel_prints(faces), self._prints)
        return np.where(where < 0, -1, self._folds[where]).astype(np.int64)

    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.float32]:
        """Calibrated probabilities, float32 (N, classes), of faces uint8 (N, height, width, channels)."""
        return self.answers(faces, faces)

    def answers(self, views: Faces, faces: Faces) -> npt.NDArray[np.float32]:
        """Probabilities of views, such as augmented ones, of faces: by who did not see the face itself."""
        fold_of = self.fold_of(faces)
        found = np.empty((len(faces), len(self.classes)), np.float32)
        for fold in np.unique(fold_of):
            which = fold_of == fold
            asked = self._all if fold < 0 else self.members[fold]
            found[which] = asked.predict_proba(np.ascontiguousarray(views[which]))
        return found


class StoredAnswers:
    """A classifier that reads its answers to known faces from a file, which `write_answers` wrote.

    Raises:
        ModelError: The file cannot be read, or is not such a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        stored = _read(Path(path), ("prints", "probabilities", "classes", "shape"))
        self.classes = tuple(str(name) for name in stored["classes"])
        self._prints, self._probabilities = (
            stored["prints"],
            _checked(stored["probabilities"], len(stored["prints"]), self.classes, str(path)),
        )
        self.face_input = FaceInput(*stored["shape"].tolist())

    def augmented(self, tta: str) -> "StoredAnswers":
        """Itself: views of a face have the answer to the face."""
        return self

    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.float32]:
        """The answers to these faces, float32 (N, classes). Raises `ModelError` for faces that are not in the file."""
        prints = pixel_prints(faces)
        if np.array_equal(prints, self._prints):  # copies may have answers of their own
            return self._probabilities
        known, first = np.unique(self._prints, return_index=True)
        where = _places(prints, known)
        if (missing := int((where < 0).sum())) > 0:
            raise ModelError(
                f"{self.name} has no answer to {missing:,} of {len(faces):,} faces. Make it for these faces."
            )
        return np.asarray(self._probabilities[first[where]])

    def answers(self, views: Faces, faces: Faces) -> npt.NDArray[np.float32]:
        """As `OutOfFold.answers`: the answers to the faces, whatever view is shown."""
        return self.predict_proba(faces)


def write_answers(path: str | Path, faces: FaceSet, probabilities: _Array) -> None:
    """Write answers to faces, (N, classes) in their order, as a file that `--teacher` and `ferkit compare` take.

    Raises `ModelError` for another shape, or rows that are not probabilities.
    """
    answers = _checked(np.asarray(probabilities, np.float32), len(faces), faces.classes, "probabilities")
    prints, classes, shape = pixel_prints(faces.images), np.array(faces.classes), np.array(faces.images.shape[1:])
    with write_atomically(path, ModelError) as draft, draft.open("wb") as file:
        np.savez(file, probabilities=answers, prints=prints, classes=classes, shape=shape)


def write_folds(folder: Path, faces: FaceSet, folds: npt.NDArray[np.int64], members: Sequence[str]) -> None:
    """Write who is in which fold, and the networks' folders as seen from this one: what `OutOfFold.load` takes."""
    with write_atomically(folder / FOLDS_FILE, ModelError) as draft, draft.open("wb") as file:
        np.savez(file, prints=pixel_prints(faces.images), folds=folds, members=np.array(members))


def open_classifier(
    model: str | Path | Classifier,
    *,
    engine: str = "auto",
    threads: int | None = None,
    sensitivity: float | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
) -> Classifier:
    """Any model by its path or name, folds of `ferkit train --folds` and a file of answers too; a classifier as it is.

    The options are those of `EmotionClassifier.load`.

    Raises:
        UsageError: `classes` or a `pixel_scale` for what has its own, or a sensitivity that it has not.
        ModelError: The model cannot be read.
    """
    if isinstance(model, str | Path) and Path(model).suffix != ".npz" and not (Path(model) / FOLDS_FILE).is_file():
        options = {"threads": threads, "sensitivity": sensitivity, "classes": classes, "pixel_scale": pixel_scale}
        given = {name: value for name, value in options.items() if value is not None}
        return EmotionClassifier.load(model, **given, **({} if engine == "auto" else {"engine": engine}))  # type: ignore[arg-type]
    if classes is not None or pixel_scale is not None:
        what = f"an object of {type(model).__name__}" if not isinstance(model, str | Path) else str(model)
        raise Contradiction(f"classes and pixel_scale are told of a model file without a card. Received: {what}.")
    if isinstance(model, EmotionClassifier):
        return model if sensitivity is None else model.with_sensitivity(sensitivity)
    if sensitivity is not None:
        name = model if isinstance(model, str | Path) else f"An object of {type(model).__name__}"
        raise UsageError(f"{name} has no sensitivity. Leave it out, or give one model by name.")
    if not isinstance(model, str | Path):
        return model
    return StoredAnswers(model) if Path(model).suffix == ".npz" else OutOfFold.load(model, engine=engine)


def open_classifiers(
    models: Sequence[str | Path | Classifier],
    *,
    sensitivity: float | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
) -> list[Classifier]:
    """Several models; `classes` and `pixel_scale` are told of the bare files among them, of which there must be one."""
    found: list[Classifier] = []
    contradictions = []
    for one in models:
        try:
            found.append(open_classifier(one, sensitivity=sensitivity, classes=classes, pixel_scale=pixel_scale))
        except Contradiction as problem:
            contradictions.append(problem)
            found.append(open_classifier(one, sensitivity=sensitivity))
    if contradictions and len(contradictions) == len(models):
        raise contradictions[0]
    return found


def members_of(model: str | Path) -> list[str]:
    """The models that a path stands for: itself, the networks of its folds, none for a file of answers."""
    path = Path(model)
    if path.suffix == ".npz":
        return []
    if not (path / FOLDS_FILE).is_file():
        return [str(model)]
    return [str(path / str(one)) for one in _read(path / FOLDS_FILE, ("members",))["members"]]


def check_unseen(classifiers: Sequence[Classifier], faces: FaceSet) -> None:
    """Raise `DatasetError` if some know these faces out of fold and another may have learnt them: that is no comparison."""
    folded = [one for one in classifiers if isinstance(one, OutOfFold)]
    others = [one for one in classifiers if isinstance(one, EmotionClassifier | Ensemble)]
    if others and any((one.fold_of(faces.images) >= 0).any() for one in folded):
        raise DatasetError(
            f"{folded[0].name} answers {faces.name} out of fold, and {others[0].name} may have learnt it. Compare it with "
            "other folds, or both on faces that neither was trained on."
        )


def _places(prints: _Array, known: _Array) -> npt.NDArray[np.int64]:
    """Where each print stands among sorted ones, int64 (N,); -1 where it does not."""
    where = np.minimum(np.searchsorted(known, prints), len(known) - 1)
    return np.where(known[where] == prints, where, -1).astype(np.int64)


def _read(path: Path, names: Sequence[str]) -> dict[str, _Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as problem:
        raise ModelError(f"{path} cannot be read ({problem}). Expected an .npz with {', '.join(names)}.") from problem
    return found


def _checked(answers: _Array, n: int, classes: Sequence[str], what: str) -> npt.NDArray[np.float32]:
    if answers.shape != (n, len(classes)):
        raise ModelError(f"{what}: expected answers of shape ({n}, {len(classes)}). Received: {answers.shape}.")
    if not (np.isfinite(answers).all() and (answers >= 0).all() and np.allclose(answers.sum(axis=1), 1, atol=1e-3)):
        raise ModelError(f"{what}: each row must be probabilities, from 0 to 1 with a sum of 1.")
    return np.asarray(answers, np.float32)
