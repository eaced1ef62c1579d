"""Finding faces: one small protocol, and the detectors that implement it.

A detector takes a picture and returns the faces in it; where it finds none it returns an empty list, never a guess.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import MissingDependencyError, UsageError
from ferkit.files import cache_folder
from ferkit.images import RgbImage
from ferkit.registry import Registry
from ferkit.results import Box, Face

# What any detector is: RGB uint8 (H, W, 3) in, faces out, their boxes in pixels of that picture. A function will do.
FaceDetector = Callable[[RgbImage], list[Face]]


class RegisteredDetector(Protocol):
    """A detector with a name: made without arguments, and able to say why it cannot be used here.

    One instance belongs to one thread: OpenCV's detectors keep state between calls.
    """

    licence: str

    def __init__(self) -> None: ...

    def __call__(self, image: RgbImage, /) -> list[Face]: ...

    @staticmethod
    def problem() -> str | None:
        """Why this detector cannot be used on this machine, in one sentence; None if it can."""
        ...


DETECTORS: Registry[type[RegisteredDetector]] = Registry("detector")

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def load_detector(choice: str | FaceDetector) -> FaceDetector:
    """The detector of that name, made anew; a callable is a detector already. `UsageError` names the choices."""
    return choice if callable(choice) else DETECTORS[choice]()


@DETECTORS.register("auto")
class AutoDetector:
    """YuNet where its weight file is, else the Haar cascade."""

    licence = "of the one taken"

    def __init__(self) -> None:
        problem = YunetDetector.problem()
        self.name = "haar" if problem else "yunet"
        self.reason = problem or "yunet's weight file is there"
        self._detector = DETECTORS[self.name]()

    def __call__(self, image: RgbImage, /) -> list[Face]:
        return self._detector(image)

    @staticmethod
    def problem() -> str | None:
        return None


@DETECTORS.register("yunet")
class YunetDetector:
    """YuNet network: fast, almost no false faces, five landmarks; needs a weight file of 0.2 MB.

    Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector".

    The file is the one in `FERKIT_YUNET`, else the one in the cache folder, whose checksum must be right.
    """

    licence = "MIT"
    # Longest side that the network sees. Faces of 20 pixels in it are found; more only costs time.
    working_size = 1280
    # On our scenes faces score 0.89 and above, and what is none 0.71 and below.
    min_score = 0.75

    def __init__(self) -> None:
        path, problem = _yunet_file()
        if problem:
            raise MissingDependencyError(f"The yunet detector cannot be used: {problem}. Or use --detector haar.")
        # From memory: OpenCV cannot open paths with letters outside the system's code page on Windows.
        weights = np.frombuffer(path.read_bytes(), np.uint8)
        try:
            self._network = cv2.FaceDetectorYN.create(
                "onnx", weights, np.empty(0, np.uint8), (320, 320), self.min_score, 0.3, 5000
            )
        except cv2.error as trouble:
            raise MissingDependencyError(
                f"{path} is no YuNet network that OpenCV can load. Expected {YUNET_FILE}."
            ) from trouble

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        small, scale = _bounded(image, self.working_size)
        # Below 32 pixels, the network's stride, OpenCV returns uninitialised memory as faces.
        missing = [max(32 - side, 0) for side in small.shape[:2]]
        padded = cv2.copyMakeBorder(small, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        self._network.setInputSize((padded.shape[1], padded.shape[0]))
        _, found = self._network.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
        faces = []
        for row in np.empty((0, 15)) if found is None else np.asarray(found, np.float64):
            x, y, wide, high = row[:4] / scale
            box = Box.inside((x, y, x + wide, y + high), width, height) if np.isfinite(row).all() else None
            # On strips of a picture the network places faces that lie beside it.
            if box and box.width * box.height > 0.5 * wide * high:
                landmarks = tuple((float(x), float(y)) for x, y in row[4:14].reshape(5, 2) / scale[:2])
                faces.append(Face(box, float(np.clip(row[14], 0, 1)), landmarks))
        return left_to_right(faces)

    @staticmethod
    def problem() -> str | None:
        return _yunet_file()[1]


@DETECTORS.register("haar")
class HaarDetector:
    """Haar cascade that comes with OpenCV: needs no file, misses turned and half-hidden faces.

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

    def __init__(self) -> None:
        if problem := self.problem():
            raise MissingDependencyError(f"The haar detector cannot be used: {problem}.")
        self._cascade = cv2.CascadeClassifier(_cascade_path(self.cascade))

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        small, scale = _bounded(image, self.working_size)
        boxes, _, weights = self._cascade.detectMultiScale3(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
            scaleFactor=1.1,
            minNeighbors=self.min_neighbors,
            minSize=(self.smallest_face, self.smallest_face),
            outputRejectLevels=True,
        )
        faces = []
        for (x, y, wide, high), weight in zip(boxes, np.ravel(weights), strict=True):
            box = Box.inside((np.array([x, y, x + wide, y + high]) / scale).tolist(), width, height)
            if box and weight >= self.min_weight:
                # A cascade gives no probability; a logistic keeps the order, 0.5 at the threshold.
                faces.append(Face(box, float(1 / (1 + np.exp(self.min_weight - weight)))))
        return left_to_right(drop_overlaps(faces))

    @staticmethod
    def problem() -> str | None:
        path = _cascade_path(HaarDetector.cascade)
        return None if path else "this OpenCV carries no cascades; install opencv-python-headless below 5"


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


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.detection_score):
        if all(face.box.overlap(other.box) <= limit for other in kept):
            kept.append(face)
    return kept


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces in the order people name them in."""
    return sorted(faces, key=lambda face: (face.box.x1, face.box.y1))


def checked_faces(found: object) -> list[Face]:
    """What a user's detector returned, if it is faces; else a `UsageError` that says what is expected."""
    if not isinstance(found, list | tuple) or not all(isinstance(face, Face) for face in found):
        raise UsageError(
            f"A detector returns a list of ferkit.Face. Received: {type(found).__name__}: {str(found)[:60]}."
        )
    return list(found)


def _bounded(image: RgbImage, longest: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The picture shrunk to a longest side, and the scale (x, y, x, y) of boxes in it, to divide by."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    small = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    # Not `factor`: rounding the size makes the two axes differ a little.
    return small, np.array([size[0] / width, size[1] / height] * 2)


def _cascade_path(name: str) -> str:
    """Path of a cascade, empty where OpenCV has none (version 5)."""
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / name
    return str(path) if hasattr(cv2, "CascadeClassifier") and folder and path.is_file() else ""


def _yunet_file() -> tuple[Path, str | None]:
    """Where YuNet's weights are, and what is wrong with that."""
    own = os.environ.get("FERKIT_YUNET")
    if own:
        return Path(own), None if Path(own).is_file() else f"FERKIT_YUNET is {own}, where no file is"
    path = cache_folder() / "models" / YUNET_FILE
    if not path.is_file():
        return path, f"no {YUNET_FILE} in FERKIT_YUNET or {path.parent}"
    if hashlib.sha256(path.read_bytes()).hexdigest() != YUNET_SHA256:
        return path, f"{path} has not the checksum of {YUNET_FILE}; delete it and put the right one there"
    return path, None
