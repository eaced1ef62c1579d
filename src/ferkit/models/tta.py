"""Test-time augmentation: the mean prediction over several views of a face.

NumPy is not imported at the top, so that the command line can list the choices without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ferkit._support.registry import Registry, describe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferkit.data import Faces
    from ferkit.models.classifier import Classifier
    from ferkit.sources import FaceInput

# Faces whose views are in memory at once: a few batches of a network.
_FACES = 256


def flip(faces: Faces) -> Iterator[Faces]:
    """Mean of each face and its mirror image; takes twice the time."""
    yield faces
    yield faces[:, :, ::-1]


def ten_crop(faces: Faces) -> Iterator[Faces]:
    """Mean of four corners and the centre (44 of 48 pixels) and their mirror images; takes ten times the time.

    Krizhevsky, Sutskever and Hinton 2012. Their network takes crops as they are; ours takes whole faces, so each crop,
    11/12 of either side, is scaled back.
    """
    import cv2
    import numpy as np

    height, width = faces.shape[1:3]
    high, wide = max(1, height * 11 // 12), max(1, width * 11 // 12)
    down, right = height - high, width - wide
    for y, x in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        view = np.empty_like(faces)
        for face, crop in zip(faces[:, y : y + high, x : x + wide], view, strict=True):
            crop[:] = cv2.resize(face, (width, height), interpolation=cv2.INTER_LINEAR).reshape(crop.shape)
        yield view
        yield view[:, :, ::-1]


def shift(faces: Faces) -> Iterator[Faces]:
    """Mean of the face as it is and moved by a 48th towards each corner, and their mirror images; takes ten times the time.

    The edge is repeated. Unlike `ten-crop` it does not enlarge the face, which lowers the accuracy on tight crops such
    as those of FER-2013 (`benchmarks/LEADERBOARD.md`).
    """
    import numpy as np

    height, width = faces.shape[1:3]
    down, right = max(1, height // 48), max(1, width // 48)
    larger = np.pad(faces, ((0, 0), (down, down), (right, right), (0, 0)), mode="edge")
    for y, x in ((down, right), (0, 0), (0, 2 * right), (2 * down, 0), (2 * down, 2 * right)):
        view = larger[:, y : y + height, x : x + width]
        yield view
        yield view[:, :, ::-1]


# uint8 (N, height, width, channels) -> views of the same shape and type, in the same order of faces, one at a time.
TTA: Registry[Callable[[Faces], Iterable[Faces]]] = Registry.of(
    "test-time augmentation", {"flip": flip, "ten-crop": ten_crop, "shift": shift}
)


def help_text() -> str:
    """The help of `--tta`: every choice and its cost."""
    return "Test-time augmentation. " + " ".join(f"{name}: {describe(views)}" for name, views in TTA.items())


class Augmented:
    """A classifier with test-time augmentation: the mean of its calibrated probabilities over several views of a face.

    Args:
        classifier: any classifier.
        tta: a name in `TTA`.

    Raises:
        UsageError: unknown `tta`.

    Example:
        classifier = ferkit.models.Augmented(ferkit.EmotionClassifier.load(), "flip")
        classifier.predict_proba(faces)
    """

    def __init__(self, classifier: Classifier, tta: str) -> None:
        self._views = TTA[tta]
        self.classifier = classifier
        self.tta = tta

    def __repr__(self) -> str:
        return f"Augmented({self.classifier!r}, {self.tta!r})"

    @property
    def name(self) -> str:
        return self.classifier.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def face_input(self) -> FaceInput:
        return self.classifier.face_input

    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.floating[Any]]:
        """Mean probabilities of faces, (N, classes). A few hundred faces are augmented at a time, so memory stays flat."""
        import numpy as np

        parts = [faces[start : start + _FACES] for start in range(0, len(faces), _FACES)]
        if not parts:
            return self.classifier.predict_proba(faces)
        return np.concatenate(
            [np.mean([self.classifier.predict_proba(view) for view in self._views(part)], axis=0) for part in parts]
        )


def augmented(classifier: Classifier, tta: str | None) -> Classifier:
    """The classifier with test-time augmentation, or as it is where `tta` is None."""
    if tta is None:
        return classifier
    # One that knows faces by their pixels must see them before their views.
    if (own := getattr(classifier, "augmented", None)) is not None:
        TTA[tta]
        augmented_itself: Classifier = own(tta)
        return augmented_itself
    return Augmented(classifier, tta)
