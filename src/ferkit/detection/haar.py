"""The Haar cascade of OpenCV."""

from pathlib import Path

import cv2
import numpy as np

from ferkit.detection.base import DETECTORS, RegisteredDetector, drop_overlaps, left_to_right
from ferkit.detection.views import bounded
from ferkit.errors import MissingDependencyError
from ferkit.results import Box, Face
from ferkit.sources import RgbImage


@DETECTORS.register("haar")
class HaarDetector(RegisteredDetector):
    """Haar cascade that comes with OpenCV: misses turned and half-hidden faces.

    Viola & Jones 2001; this cascade: Lienhart et al. 2003.
    """

    licence = "Intel (BSD-like)"
    # Of OpenCV's four cascades "alt2" separates faces from what is none best: on our scenes it finds 20 of 22 with no
    # false one, where "default" finds 20 with 9 false ones (see the shared tests).
    cascade = "haarcascade_frontalface_alt2.xml"
    working_size = 960
    smallest_face = 20
    min_neighbors = 5
    # Sum over the last stage of the cascade. Faces of our scenes reach 56.1 to 58.2, false ones 55.0.
    min_weight = 55.2
    # The cascade's square as other detectors have boxes: YuNet's around the same faces are so many times as wide and
    # high, and so many of its sides lower (medians over 1,283 faces of FER-2013, and the same over 20 of our scenes).
    width, height, lower = 0.83, 1.10, 0.02

    def __init__(self) -> None:
        path = _cascade_path(self.cascade)
        if not path:
            raise MissingDependencyError(
                "The haar detector cannot be used: this OpenCV carries no cascades. Install opencv-python-headless "
                "below 5, or use --detector yunet."
            )
        self._cascade = cv2.CascadeClassifier(path)

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        view = bounded(image, self.working_size)
        boxes, _, weights = self._cascade.detectMultiScale3(
            cv2.cvtColor(view.pixels, cv2.COLOR_RGB2GRAY),
            scaleFactor=1.1,
            minNeighbors=self.min_neighbors,
            minSize=(self.smallest_face, self.smallest_face),
            outputRejectLevels=True,
        )
        faces = []
        for (x, y, wide, high), weight in zip(boxes, np.ravel(weights), strict=True):
            middle = np.array([x + wide / 2, y + high * (0.5 + self.lower)])
            half = np.array([wide * self.width, high * self.height]) / 2
            corners = view.in_picture(np.array([middle - half, middle + half]))
            box = Box.inside(corners.ravel().tolist(), width, height)
            if box and weight >= self.min_weight:
                # A cascade gives no probability; a logistic keeps the order, 0.5 at the threshold.
                faces.append(Face(box, float(1 / (1 + np.exp(self.min_weight - weight)))))
        return left_to_right(drop_overlaps(faces))

    @staticmethod
    def weights() -> Path | None:
        path = _cascade_path(HaarDetector.cascade)
        return Path(path) if path else None


def _cascade_path(name: str) -> str:
    """Path of a cascade, empty where OpenCV has none (version 5)."""
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / name
    return str(path) if hasattr(cv2, "CascadeClassifier") and folder and path.is_file() else ""
