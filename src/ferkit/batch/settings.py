"""Settings of a job: what decides its rows, and the recognizer that they make."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferkit import model_folder
from ferkit.classifier import EmotionClassifier
from ferkit.detection import DETECTORS, AutoDetector, FaceDetector, HasWeights
from ferkit.errors import UsageError
from ferkit.recognizer import Classifier, EmotionRecognizer
from ferkit.tta import TTA

LARGEST_PART = 100_000


@dataclass(frozen=True)
class Settings:
    """What decides the rows of a job, and how they are spread over files.

    model: "default", a model folder or file that every worker can read, or a classifier. detector: a name, or a
    callable: RGB uint8 (H, W, 3) -> list of `Face`. Classifiers and callables must pickle, and be importable by the
    workers. min_confidence, tta: as `EmotionRecognizer` takes them. part_size: pictures of a part, the unit of work
    that is done or not; None takes up to 64 parts of 64 to 1,024 pictures, and more of 1,024 where there are more.
    """

    model: str | Path | Classifier = model_folder.DEFAULT
    detector: str | FaceDetector = "auto"
    min_confidence: float = 0.0
    tta: str | None = None
    part_size: int | None = None

    def __post_init__(self) -> None:
        if self.part_size is not None and not 1 <= self.part_size <= LARGEST_PART:
            raise UsageError(f"part_size must be 1 to {LARGEST_PART:,} pictures. Received: {self.part_size}.")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"min_confidence must be 0 to 1. Received: {self.min_confidence}.")
        if self.tta is not None:
            TTA[self.tta]
        if isinstance(self.detector, str):
            DETECTORS[self.detector]

    def settled(self) -> "Settings":
        """The same for all workers, wherever they run: "auto" becomes the detector that it takes here, and paths absolute."""
        detector = AutoDetector().name if self.detector == "auto" else self.detector
        return replace(self, detector=detector, model=_absolute(self.model))

    def words(self) -> dict[str, Any]:
        """The same for job.json and for comparing: what has no words is called by its name."""
        return {name: _word(value) for name, value in vars(self).items()}


def load_recognizer(settings: Settings) -> EmotionRecognizer:
    """A recognizer of one thread."""
    model = settings.model
    return EmotionRecognizer(
        EmotionClassifier.load(model, threads=1) if isinstance(model, str | Path) else model,
        settings.detector,
        min_confidence=settings.min_confidence,
        tta=settings.tta,
        threads=1,
    )


def checksums(settings: Settings) -> dict[str, str]:
    """SHA-256 of the files that decide the rows, hex, by the names of the settings; those without a file are left out."""
    found = {}
    if isinstance(settings.model, str | Path):
        path = model_folder.find(settings.model)
        # The card holds the checksums of the other files, and loading compares them.
        found["model"] = model_folder.sha256(path / model_folder.CARD_FILE if path.is_dir() else path)
    detector = DETECTORS[settings.detector] if isinstance(settings.detector, str) else None
    weights = detector.weights() if isinstance(detector, HasWeights) else None
    if weights is not None:
        found["detector"] = model_folder.sha256(weights)
    return found


def _absolute(model: str | Path | Classifier) -> str | Path | Classifier:
    # Names of the package come first, as in `model_folder.find`.
    if not isinstance(model, str | Path) or str(model) in model_folder.PACKAGED or not Path(model).exists():
        return model
    return os.path.abspath(model)  # noqa: PTH100 - keeps links


def _word(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
