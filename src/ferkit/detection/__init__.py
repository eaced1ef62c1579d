"""Finding faces: one small protocol, and the detectors that implement it.

A detector takes a picture and returns the faces in it; where it finds none it returns an empty list, never a guess.
Adding one is a file with one class under `@DETECTORS.register`.
"""

from ferkit.detection.auto import AutoDetector
from ferkit.detection.haar import HaarDetector
from ferkit.detection.merging import drop_overlaps, left_to_right
from ferkit.detection.registry import (
    DETECTORS,
    Downloads,
    FaceDetector,
    HasWeights,
    RegisteredDetector,
    checked_faces,
    fetch_weights,
    load_detector,
)
from ferkit.detection.whole import WholePicture
from ferkit.detection.yunet import YunetDetector

__all__ = [
    "DETECTORS",
    "AutoDetector",
    "Downloads",
    "FaceDetector",
    "HaarDetector",
    "HasWeights",
    "RegisteredDetector",
    "WholePicture",
    "YunetDetector",
    "checked_faces",
    "drop_overlaps",
    "fetch_weights",
    "left_to_right",
    "load_detector",
]
