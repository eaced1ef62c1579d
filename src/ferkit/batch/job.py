"""A job as it stands in `OUT/_job/job.json`: its settings, which decide its rows, and its plan."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferkit._support.registry import qualified_name
from ferkit.batch.storage import Storage, open_storage
from ferkit.detection import AUTO, DETECTORS, FaceDetector, Orientation
from ferkit.errors import FerkitError, UsageError
from ferkit.models import TTA, Classifier, PixelScale, check_sensitivity, model_folder, open_classifier, parse_classes
from ferkit.recognizer import EmotionRecognizer
from ferkit.video import VideoSettings

LARGEST_PART = 100_000


# Settings that bare model files alone have.
_BARE_FILES = ("classes", "pixel_scale")


@dataclass(frozen=True)
class Settings:
    """What decides the rows of a job, and how they are spread over files.

    model: "default", a model folder or file that every worker can read, or a classifier. detector: a name, or a
    callable: RGB uint8 (H, W, 3) -> list of `Face`. Classifiers and callables must pickle, and be importable by the
    workers. min_confidence, tta, sensitivity, classes, pixel_scale, orientation: as `EmotionRecognizer` takes them. part_size:
    pictures of a part, the unit of work that is done or not; None takes up to 64 parts of 64 to 1,024 pictures, and more
    of 1,024 where there are more. video: how videos are looked at, for a job of videos, of which a part has one unless
    `part_size` says otherwise; None for a job of pictures.
    """

    model: str | Path | Classifier = model_folder.DEFAULT
    detector: str | FaceDetector = "auto"
    min_confidence: float = 0.0
    tta: str | None = None
    part_size: int | None = None
    sensitivity: float | None = None
    classes: str | Sequence[str] | None = None
    pixel_scale: str | None = None
    orientation: Orientation = "upright"
    video: VideoSettings | None = None

    def __post_init__(self) -> None:
        if self.part_size is not None and not 1 <= self.part_size <= LARGEST_PART:
            raise UsageError(f"part_size must be 1 to {LARGEST_PART:,} pictures. Received: {self.part_size}.")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"min_confidence must be 0 to 1. Received: {self.min_confidence}.")
        if self.tta is not None:
            TTA[self.tta]
        if self.sensitivity is not None:
            check_sensitivity(self.sensitivity)
        if self.pixel_scale is not None:
            PixelScale.parse(self.pixel_scale)
        if isinstance(self.detector, str):
            DETECTORS[self.detector]

    def settled(self) -> "Settings":
        """The same for all workers, wherever they run: "auto" becomes the detector that it takes here, and paths absolute."""
        detector = AUTO if self.detector == "auto" else self.detector
        classes = None if self.classes is None else ",".join(parse_classes(self.classes))
        return replace(self, detector=detector, model=_absolute(self.model), classes=classes)

    def words(self) -> dict[str, Any]:
        """The same for job.json and for comparing: what has no words is called by its name."""
        words = {name: _word(value) for name, value in vars(self).items() if name != "video"}
        if self.video is not None:
            words |= {"videos": True, **self.video.describe()}
        # Jobs of earlier versions know neither.
        return {name: word for name, word in words.items() if word is not None or name not in _BARE_FILES}


def load_recognizer(settings: Settings) -> EmotionRecognizer:
    """A recognizer of one thread."""
    return EmotionRecognizer(
        open_classifier(
            settings.model,
            threads=1,
            sensitivity=settings.sensitivity,
            classes=settings.classes,
            pixel_scale=settings.pixel_scale,
        ),
        settings.detector,
        min_confidence=settings.min_confidence,
        tta=settings.tta,
        threads=1,
        orientation=settings.orientation,
    )


def checksums(settings: Settings) -> dict[str, str]:
    """SHA-256 of the files that decide the rows, hex, by the names of the settings; those without a file are left out."""
    found = {}
    if isinstance(settings.model, str | Path):
        found["model"] = model_folder.checksum(model_folder.find(settings.model))
    weights = DETECTORS[settings.detector].weights() if isinstance(settings.detector, str) else None
    if weights is not None and weights.is_file():
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
    return qualified_name(value)


FOLDER = "_job"
JOB_FILE = f"{FOLDER}/job.json"
FORMAT = 1
_PART = re.compile(r"part-(\d{6,})\.parquet")


@dataclass(frozen=True)
class Job:
    """A job whose plan is written. It pickles: engines send it to their workers.

    out: folder or address. source: what was given as SRC. settings: with the detector that "auto" took. parts: how
        many.
    pictures: how many, or None where tars are opened by the workers only. classes: of the model.
    checksums: SHA-256 of model and detector as they were at the start, hex, by their names in `settings`.
    """

    out: str
    source: str
    settings: Settings
    parts: int
    pictures: int | None
    classes: tuple[str, ...]
    checksums: Mapping[str, str]

    def storage(self) -> Storage:
        return open_storage(self.out)

    def to_dict(self) -> dict[str, Any]:
        """What job.json holds. Not `out`: a folder of results may be moved."""
        words = {name: value for name, value in vars(self).items() if name != "out"}
        return {"format": FORMAT, **words, "settings": self.settings.words()}


def part_name(part: int) -> str:
    return f"part-{part:06}.parquet"


def done_parts(storage: Storage) -> set[int]:
    """Numbers of the parts that are there, which is: done."""
    return {int(match[1]) for match in map(_PART.fullmatch, storage.names()) if match}


def read_job(storage: Storage, out: str) -> dict[str, Any] | None:
    """What job.json says; None where no job was planned to its end."""
    data = storage.read(JOB_FILE)
    if data is None:
        return None
    try:
        found = dict(json.loads(data))
        version = found["format"]
    except (ValueError, KeyError, TypeError) as problem:
        raise FerkitError(f"{out}/{JOB_FILE} is damaged ({problem}). Choose another OUT.") from problem
    if version != FORMAT:
        raise UsageError(f"{out} contains a job of another version of ferkit. Choose another OUT.")
    return found
