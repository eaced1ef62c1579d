"""Ensembles: the mean of the probabilities of several classifiers."""

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
    """A classifier that averages the calibrated probabilities of its members.

    Args:
        members: Model folders or files, "default", or classifiers. They must have the same classes, in any order and
            under any alias. Classes and `face_input` of the ensemble are those of the first; faces are resized and
            converted for members with another `face_input`.
        temperature: Divides the log of the mean probabilities. The mean of members that disagree is underconfident even
            if each is calibrated (Wu and Gales 2021), so a temperature below 1 fits; `calibrated` finds it. 1 leaves
            the mean unchanged.

    Raises:
        UsageError: There are no members.
        ModelError: A model cannot be read or has other classes.

    Example:
        ensemble = ferkit.Ensemble(["runs/a", "runs/b"]).calibrated(dataset.val)
        print(ferkit.evaluate(ensemble, dataset.test))
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
        """Predict probabilities, float32 (N, classes); rows sum to 1.

        Args:
            faces: uint8 (N, height, width, channels) of the size in `face_input`.
        """
        answers = [_predict(one, faces)[:, columns] for one, columns in zip(self.members, self._columns, strict=True)]
        mean = np.mean(answers, axis=0)
        return mean if self.temperature == 1 else apply_temperature(mean, self.temperature)

    def calibrated(self, faces: FaceSet) -> "Ensemble":
        """The ensemble with the temperature fitted to these faces: a validation split, never the one reported."""
        known, ask = matched(Ensemble(self.members), faces)
        return Ensemble(self.members, temperature=fit_temperature(ask(known.images), known.labels))


def _columns(first: Classifier, other: Classifier) -> list[int]:
    """Index of the output of `other` for each class of `first`."""
    wanted, known = ([canonical(name) for name in one.classes] for one in (first, other))
    if sorted(wanted) != sorted(known):
        raise ModelError(
            f"An ensemble needs models of the same classes: {first.name} knows {', '.join(wanted)}; {other.name} knows "
            f"{', '.join(known)}. Leave one of them out."
        )
    return [known.index(name) for name in wanted]


def _predict(classifier: Classifier, faces: Faces) -> npt.NDArray[np.float32]:
    """Predictions of a member, which may take another size or other channels."""
    takes = classifier.face_input
    if faces.shape[1:] == (takes.height, takes.width, takes.channels) or not len(faces):
        return classifier.predict_proba(faces) if len(faces) else np.empty((0, len(classifier.classes)), np.float32)
    parts = (faces[start : start + _FACES] for start in range(0, len(faces), _FACES))
    return np.concatenate(
        [classifier.predict_proba(np.stack([_resized(one, takes) for one in part])) for part in parts]
    )


def _resized(face: Faces, takes: FaceInput) -> Faces:
    return resize_face(np.repeat(face, 3, axis=2) if face.shape[2] == 1 else face, takes)
