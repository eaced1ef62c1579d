"""What a face detector is, the registry of those that have a name, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferkit._support.registry import Listed, Registry, describe, median_seconds, milliseconds
from ferkit.errors import FerkitError, UsageError
from ferkit.results import Box, Face, overlaps
from ferkit.sources import RgbImage


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored."""
    ranked = sorted(faces, key=lambda face: -face.detection_score)
    boxes = np.array([face.box.to_list() for face in ranked]).reshape(-1, 4)
    free = np.ones(len(ranked), bool)
    kept = []
    # All boxes at once: in a crowd of a thousand, one by one would take seconds.
    for i, face in enumerate(ranked):
        if free[i]:
            kept.append(face)
            free &= overlaps(boxes[i : i + 1], boxes)[0] <= limit
    return kept


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces in the order people name them in."""
    return sorted(faces, key=lambda face: (face.box.x1, face.box.y1))


# What any detector is: RGB uint8 (H, W, 3) in, faces out, their boxes in pixels of that picture. A function will do.
FaceDetector = Callable[[RgbImage], list[Face]]


class RegisteredDetector(ABC):
    """A detector with a name: made without arguments.

    Its boxes reach from ear to ear and from the upper forehead to the chin, so that one margin fits all detectors.
    One instance belongs to one thread: OpenCV's detectors keep state between calls.

    Raises:
        MissingDependencyError: It cannot be used on this machine.
    """

    licence: str

    @abstractmethod
    def __call__(self, image: RgbImage, /) -> list[Face]: ...

    @staticmethod
    def weights() -> Path | None:
        """The file that it works with, if any: the workers of a batch compare its checksum."""
        return None


DETECTORS: Registry[type[RegisteredDetector]] = Registry("detector")
# The detector that "auto" takes.
AUTO = "yunet"


def load_detector(choice: str | FaceDetector) -> FaceDetector:
    """The detector of that name, made anew; a callable is a detector already.

    Raises:
        UsageError: No detector has that name. MissingDependencyError: It cannot be used on this machine.
    """
    return choice if callable(choice) else DETECTORS[choice]()


def list_detectors(image: RgbImage) -> list[Listed]:
    """All detectors with what they need and how long they take for a picture; one may have a `problem`."""
    return [_listed(name, detector, image) for name, detector in DETECTORS.items()]


def _listed(name: str, detector: type[RegisteredDetector], image: RgbImage) -> Listed:
    problem = seconds = None
    try:
        detect = detector()
        seconds = median_seconds(lambda: detect(image), runs=5)
    except FerkitError as trouble:
        problem = str(trouble)
    file = detector.weights()
    data = {
        "ready": problem is None,
        "problem": problem,
        "licence": detector.licence,
        "size_mb": file and round(file.stat().st_size / 1e6, 2) if file is None or file.is_file() else None,
        "ms_per_picture": seconds and round(1e3 * seconds, 3),
    }
    if name == "auto":
        return Listed(name, f"The default: {AUTO}.", (), data | {"takes": AUTO}, problem)
    facts = [problem or "available"]
    if seconds is not None:
        facts.append(f"{milliseconds(seconds)} for the sample portrait")
    if data["size_mb"] is not None:
        facts.append(f"{data['size_mb']:.1f} MB")
    return Listed(name, describe(detector), (", ".join([*facts, f"licence: {detector.licence}"]),), data, problem)


def checked_faces(found: object) -> list[Face]:
    """What a user's detector returned, if it is faces; else a `UsageError` that says what is expected."""
    if not isinstance(found, list | tuple) or not all(isinstance(face, Face) for face in found):
        raise UsageError(
            f"A detector returns a list of ferkit.Face. Received: {type(found).__name__}: {str(found)[:60]}."
        )
    return list(found)


@DETECTORS.register("none")
class WholePicture(RegisteredDetector):
    """No detection: the whole picture is one face that was cut before."""

    licence = "Apache-2.0"

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        return [Face(Box(0, 0, width, height), 1.0)]


from ferkit.detection import haar as haar  # noqa: E402 - they register themselves
from ferkit.detection import yunet as yunet  # noqa: E402
