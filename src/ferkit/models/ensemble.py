"""Several classifiers that answer as one: the mean of their probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit.data import Faces, FaceSet
from ferkit.detection import resize_face
from ferkit.errors import ModelError, UsageError
from ferkit.labels import canonical
from ferkit.models.calibration import apply_temperature, fit_temperature
from ferkit.models.classifier import Classifier, EmotionClassifier, matched
from ferkit.sources import FaceInput

# Faces that are resized for a member at once.
_FACES = 256


class Ensemble:
    """A classifier whose answer is the mean of its members' calibrated probabilities.

    members: model folders or files, "default", or classifiers. They must know the same classes, in any order and under
        any alias; those of the first are the ensemble's. So is its `face_input`: members that take another size or
        other channels get each face resized and its colours changed.
    temperature: divides the logarithm of the mean. Members that disagree make a mean that is less sure than right, even
        if each is calibrated (Wu and Gales 2021), so a temperature below 1 fits; `calibrated` finds it. 1 leaves it.

        ensemble = ferkit.Ensemble(["runs/a", "runs/b"]).calibrated(dataset.val)
        print(ferkit.evaluate(ensemble, dataset.test))

    Raises `UsageError` for no member, `ModelError` for a model that cannot be read or knows other classes.
    """

    def __init__(self, members: Sequence[Classifier | str | Path], *, temperature: float = 1.0) -> None:
        if not members:
            raise UsageError("An ensemble needs at least one model. Received: none.")
        self.members: tuple[Classifier, ...] = tuple(
            EmotionClassifier.load(one) if isinstance(one, str | Path) else one for one in members
        )
        self.temperature = temperature
        self._columns = [_columns(self.members[0], one) for one in self.members]

    def __repr__(self) -> str:
        return f"Ensemble({[one.name for one in self.members]}, temperature={self.temperature:g})"

    @property
    def name(self) -> str:
        return " + ".join(one.name for one in self.members)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.members[0].classes

    @property
    def face_input(self) -> FaceInput:
        return self.members[0].face_input

    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.float32]:
        """Probabilities of faces, float32 (N, classes), rows sum to 1.

        faces: uint8 (N, height, width, channels) as `face_input` says.
        """
        answers = [_predict(one, faces)[:, columns] for one, columns in zip(self.members, self._columns, strict=True)]
        mean = np.mean(answers, axis=0)
        return mean if self.temperature == 1 else apply_temperature(mean, self.temperature)

    def calibrated(self, faces: FaceSet) -> "Ensemble":
        """The same ensemble with the temperature that fits these faces: a validation split, never the one reported."""
        known, ask = matched(Ensemble(self.members), faces)
        return Ensemble(self.members, temperature=fit_temperature(ask(known.images), known.labels))


def _columns(first: Classifier, other: Classifier) -> list[int]:
    """Which output of `other` belongs to each class of `first`."""
    wanted, known = ([canonical(name) for name in one.classes] for one in (first, other))
    if sorted(wanted) != sorted(known):
        raise ModelError(
            f"An ensemble needs models of the same classes: {first.name} knows {', '.join(wanted)}; {other.name} knows "
            f"{', '.join(known)}. Leave one of them out."
        )
    return [known.index(name) for name in wanted]


def _predict(classifier: Classifier, faces: Faces) -> npt.NDArray[np.float32]:
    """The answers of a member, which may take another size or other channels than the faces have."""
    takes = classifier.face_input
    if faces.shape[1:] == (takes.height, takes.width, takes.channels) or not len(faces):
        return classifier.predict_proba(faces) if len(faces) else np.empty((0, len(classifier.classes)), np.float32)
    parts = (faces[start : start + _FACES] for start in range(0, len(faces), _FACES))
    return np.concatenate(
        [classifier.predict_proba(np.stack([_resized(one, takes) for one in part])) for part in parts]
    )


def _resized(face: Faces, takes: FaceInput) -> Faces:
    return resize_face(np.repeat(face, 3, axis=2) if face.shape[2] == 1 else face, takes)
