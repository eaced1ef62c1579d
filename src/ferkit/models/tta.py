"""Test-time augmentation: look at a face in several ways and take the mean of the answers.

Apart from `evaluation` and `recognizer`, which both predict with it, so that they cannot disagree; and without numpy at
the top, so that the command line can list the choices without loading it.
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

# uint8 (N, height, width, channels) -> views of the same shape and type, in the same order of faces, one at a time.
TTA: Registry[Callable[[Faces], Iterable[Faces]]] = Registry("test-time augmentation")

# Faces whose views are in memory at once: a few batches of a network.
_FACES = 256


@TTA.register("flip")
def flip(faces: Faces) -> Iterator[Faces]:
    """Mean of each face and its mirror image; takes twice the time."""
    yield faces
    yield faces[:, :, ::-1]


@TTA.register("ten-crop")
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


@TTA.register("shift")
def shift(faces: Faces) -> Iterator[Faces]:
    """Mean of the face as it is and moved by a 48th towards each corner, and their mirror images; takes ten times the time.

    What comes in from outside repeats the edge. Unlike `ten-crop` it does not enlarge the face, which faces that are cut
    as tightly as those of FER-2013 do not bear (`benchmarks/LEADERBOARD.md`).
    """
    import numpy as np

    height, width = faces.shape[1:3]
    down, right = max(1, height // 48), max(1, width // 48)
    larger = np.pad(faces, ((0, 0), (down, down), (right, right), (0, 0)), mode="edge")
    for y, x in ((down, right), (0, 0), (0, 2 * right), (2 * down, 0), (2 * down, 2 * right)):
        view = larger[:, y : y + height, x : x + width]
        yield view
        yield view[:, :, ::-1]


def help_text() -> str:
    """What the help of commands says of the choices, their cost included."""
    return "Test-time augmentation. " + " ".join(f"{name}: {describe(views)}" for name, views in TTA.items())


def predict_proba(classifier: Classifier, faces: Faces, tta: str | None = None) -> npt.NDArray[np.floating[Any]]:
    """Probabilities of faces, (N, classes): the mean over the views of `tta` of what the classifier answers, calibrated.

    None looks once. A few hundred faces are varied at a time, so memory stays flat however many there are. Raises
    `UsageError` for an unknown `tta`.
    """
    if tta is None:
        return classifier.predict_proba(faces)
    import numpy as np

    views = TTA[tta]
    if not len(faces):
        return classifier.predict_proba(faces)
    return np.concatenate(
        [
            np.mean([classifier.predict_proba(view) for view in views(faces[start : start + _FACES])], axis=0)
            for start in range(0, len(faces), _FACES)
        ]
    )
