"""Several findings of one face become one; faces come in the order people name them in.

What a face detector is, and the registry of those that have a name.

No detection, for faces that were cut before.

The best detector that can be had, without making anybody wait for it.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ferkit._support.download import Progress
from ferkit._support.registry import Registry
from ferkit.detection import yunet_file
from ferkit.errors import UsageError
from ferkit.results import Box, Face
from ferkit.sources import RgbImage


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored."""
    ranked = sorted(faces, key=lambda face: -face.detection_score)
    x1, y1, x2, y2 = np.array([face.box.to_list() for face in ranked], np.float64).reshape(-1, 4).T
    areas = (x2 - x1) * (y2 - y1)
    free = np.ones(len(ranked), bool)
    kept = []
    # All boxes at once: in a crowd of a thousand, one by one would take seconds.
    for i, face in enumerate(ranked):
        if free[i]:
            kept.append(face)
            wide = np.minimum(x2, x2[i]) - np.maximum(x1, x1[i])
            high = np.minimum(y2, y2[i]) - np.maximum(y1, y1[i])
            shared = np.maximum(wide, 0) * np.maximum(high, 0)
            free &= shared <= limit * (areas + areas[i] - shared)
    return kept


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces in the order people name them in."""
    return sorted(faces, key=lambda face: (face.box.x1, face.box.y1))


# What any detector is: RGB uint8 (H, W, 3) in, faces out, their boxes in pixels of that picture. A function will do.
FaceDetector = Callable[[RgbImage], list[Face]]


class RegisteredDetector(Protocol):
    """A detector with a name: made without arguments, and able to say why it cannot be used here.

    Its boxes reach from ear to ear and from the upper forehead to the chin, so that one margin fits all detectors.
    One instance belongs to one thread: OpenCV's detectors keep state between calls.
    """

    licence: str

    def __init__(self) -> None: ...

    def __call__(self, image: RgbImage, /) -> list[Face]: ...

    @staticmethod
    def problem() -> str | None:
        """Why this detector cannot be used on this machine, in one sentence; None if it can. Touches no network."""
        ...


@runtime_checkable
class Downloads(Protocol):
    """A registered detector that fetches what it lacks, on its first use."""

    @staticmethod
    def download_note() -> str | None:
        """What its first use will download, in a few words; None if everything is here or nothing may be fetched."""
        ...

    @staticmethod
    def download(progress: Progress | None = None, /) -> None:
        """Fetch it, if it is not here. `MissingDependencyError` where that fails."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """A registered detector that works with a file."""

    @staticmethod
    def weights() -> Path | None:
        """That file; None where it is not here."""
        ...


DETECTORS: Registry[type[RegisteredDetector]] = Registry("detector")


def fetch_weights(choice: str, progress: Progress | None = None) -> None:
    """Download what the detector of that name lacks; mostly there is nothing to do.

    progress: told of the download: `progress(url, bytes so far, bytes in all)`.

    Raises `UsageError`, which names the choices, and `MissingDependencyError`.
    """
    detector = DETECTORS[choice]
    if isinstance(detector, Downloads):
        detector.download(progress)


def load_detector(choice: str | FaceDetector) -> FaceDetector:
    """The detector of that name, made anew; a callable is a detector already. Raises what `fetch_weights` raises."""
    if callable(choice):
        return choice
    fetch_weights(choice)
    return DETECTORS[choice]()


def checked_faces(found: object) -> list[Face]:
    """What a user's detector returned, if it is faces; else a `UsageError` that says what is expected."""
    if not isinstance(found, list | tuple) or not all(isinstance(face, Face) for face in found):
        raise UsageError(
            f"A detector returns a list of ferkit.Face. Received: {type(found).__name__}: {str(found)[:60]}."
        )
    return list(found)


@DETECTORS.register("none")
class WholePicture:
    """No detection: the whole picture is one face that was cut before."""

    licence = "Apache-2.0"

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        return [Face(Box(0, 0, width, height), 1.0)]

    @staticmethod
    def problem() -> str | None:
        return None


_log = logging.getLogger(__name__)


@DETECTORS.register("auto")
class AutoDetector:
    """YuNet where its weight file is here or can be downloaded in a moment, else the Haar cascade.

    name, reason: which was taken, and why; said in the log too, once in a process.
    """

    licence = "of the one taken"

    def __init__(self) -> None:
        problem = yunet_file.problem() or yunet_file.find()[1]
        self.name = "haar" if problem else "yunet"
        self.reason = problem or "its weight file is here"
        failure = yunet_file.failed_lately()
        if problem and failure and yunet_file.download_note():
            self.reason = f"{problem}, and downloading it failed within the last hour ({failure.rstrip('.')})"
        self._detector = DETECTORS[self.name]()
        _say_once(self.name, self.reason)

    def __call__(self, image: RgbImage, /) -> list[Face]:
        return self._detector(image)

    @staticmethod
    def problem() -> str | None:
        return None

    @staticmethod
    def download_note() -> str | None:
        return yunet_file.download_note()

    @staticmethod
    def download(progress: Progress | None = None, /) -> None:
        yunet_file.try_download(progress)


@functools.cache
def _say_once(name: str, reason: str) -> None:
    level = logging.INFO if name == "yunet" else logging.WARNING
    _log.log(level, "Faces are found by the %s detector: %s.", name, reason)
