"""What a face detector is, the registry that those with a name enter, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ferkit._support.registry import Registry
from ferkit.errors import ImageError
from ferkit.results import Box, Face, overlaps
from ferkit.sources import RgbImage

# In one image. Each takes a millisecond of the network, and pictures can be tiled with any number of small ones.
MAX_FACES = 1000


def check_count(faces: int, most: int = MAX_FACES) -> None:
    """Raises `ImageError` where an image has more faces."""
    if faces > most:
        raise ImageError(
            f"The image has more than {MAX_FACES:,} faces. Expected at most {MAX_FACES:,}. Cut it into parts."
        )


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored.

    Raises:
        ImageError: They are too many to be compared with each other.
    """
    check_count(len(faces), 2 * MAX_FACES)  # where views overlap, a face is found twice
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


@DETECTORS.register("none")
class WholePicture(RegisteredDetector):
    """No detection: the whole picture is one face that was cut before."""

    licence = "Apache-2.0"

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        return [Face(Box(0, 0, width, height), 1.0)]
