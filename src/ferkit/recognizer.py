"""Pictures in, emotions of every face out: a detector and a classifier put together."""

import queue
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ferkit._support.parallel import ordered_map, usable_cores
from ferkit.detection import AutoDetector, FaceDetector, checked_faces, cut_face, load_detector
from ferkit.errors import ImageError, UsageError
from ferkit.models import Classifier, EmotionClassifier
from ferkit.models import tta as augmented
from ferkit.results import Face, FaceEmotion, PictureResult, Results
from ferkit.sources import FaceInput, RgbImage, Source, expand_sources, is_many, name_of, one_or_many, read_image

# Faces that go through the network together: ONNX Runtime gains little beyond.
_BATCH_FACES = 64
# What may wait for a full batch. Pixels are kept only for drawing; a quarter gigabyte is a few photos.
_WAITING_PICTURES = 32
_WAITING_BYTES = 1 << 28
# A batch that fills slowly is not waited for.
_WAITING_SECONDS = 0.5


class EmotionRecognizer:
    """Recognises the perceived emotion of every face in a picture. Several threads may share a recognizer.

    Args:
        model: "default", a model folder or file, or a classifier, such as a `ferkit.Ensemble`.
        detector: a name from `ferkit.detection.detectors.DETECTORS`, or a callable: RGB uint8 (H, W, 3) -> list of `Face`, which
            is called from one thread at a time.
        min_confidence: below it a face is labelled `uncertain`.
        tta: a test-time augmentation of `ferkit.models.tta.TTA`, such as "flip", or None: as `ferkit.evaluate` takes it.
        threads: how many pictures are decoded and searched at once; None takes all cores.

    Example:
        recognizer = EmotionRecognizer()
        for face in recognizer("photo.jpg"):
            print(face.label, face.confidence, face.box)

    """

    def __init__(
        self,
        model: str | Path | Classifier = "default",
        detector: str | FaceDetector = "auto",
        *,
        min_confidence: float = 0.0,
        tta: str | None = None,
        threads: int | None = None,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence must be 0 to 1. Received: {min_confidence}.")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1. Received: {threads}.")
        if tta is not None:
            augmented.TTA[tta]  # a wrong name is said now
        self.min_confidence = min_confidence
        self.tta = tta
        self.threads = threads or usable_cores()
        self.detector: FaceDetector = load_detector(detector)
        self._detectors = _Detectors(self.detector, detector)
        self.classifier: Classifier = EmotionClassifier.load(model) if isinstance(model, str | Path) else model

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions that this recognizer tells apart, in model order."""
        return tuple(self.classifier.classes)

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...]) -> Results: ...

    @overload
    def __call__(self, source: Source) -> PictureResult: ...

    def __call__(self, source: Source | list[Any] | tuple[Any, ...]) -> PictureResult | Results:
        """Recognise one picture, or many whose faces share batches.

        A list, a folder and a glob are many: a picture that cannot be read gets a result with an `error`, the others go
        on, and results hold no `pixels`. One picture that cannot be read raises `ImageError`; its result keeps its
        `pixels`, for drawing.
        """
        if isinstance(source, list | tuple):
            return Results(self.stream(source), self.classes)
        if is_many(source):
            return Results(self.stream([source]), self.classes)
        found = self._find_faces(source)
        if found.error:
            raise found.error
        return next(self._classify([found]))

    def stream(self, sources: Source | Iterable[Source], *, keep_pixels: bool = False) -> Iterator[PictureResult]:
        """Recognise pictures in order, on all cores, as they come; memory stays bounded however many there are.

        sources: may hold folders and globs, which stand for the pictures in them; arrays may be filled anew when they
            were taken. keep_pixels: whether results carry the decoded picture.
        """

        def find(source: Source) -> _Found:
            found = self._find_faces(source)
            return found if keep_pixels else found.without_pixels()

        waiting: list[_Found] = []
        since = time.monotonic()
        pictures = map(_own, expand_sources(one_or_many(sources)))
        try:
            for found in ordered_map(find, pictures, self.threads):
                waiting.append(found)
                if _enough(waiting) or time.monotonic() - since > _WAITING_SECONDS:
                    batch, waiting = waiting, []
                    yield from self._classify(batch)
                    since = time.monotonic()
        except Exception:
            # A detector or a supply that fails does not cost what was found before.
            yield from self._classify(waiting)
            raise
        yield from self._classify(waiting)

    def _find_faces(self, source: Source) -> "_Found":
        """Everything before the network: what runs on all cores, for it takes nearly all of the time."""
        name = name_of(source)
        try:
            image = read_image(source)
        except ImageError as error:
            return _Found(PictureResult.failed(name, str(error)), [], _no_faces(self.classifier.face_input), error)
        faces = self.detect(image)
        result = PictureResult(name, image.shape[1], image.shape[0], pixels=image)
        return _Found(result, faces, self._cut(image, faces))

    def detect(self, image: RgbImage) -> list[Face]:
        """The faces in RGB uint8 (H, W, 3), without their emotions."""
        with self._detectors.lend() as detect:
            return checked_faces(detect(image))

    def probabilities(self, image: RgbImage, faces: Sequence[Face]) -> npt.NDArray[np.floating[Any]]:
        """Probabilities of faces wherever they are known to be in a picture, float (len(faces), classes)."""
        if not faces:
            return np.empty((0, len(self.classes)), np.float32)
        return augmented.predict_proba(self.classifier, self._cut(image, faces), self.tta)

    def _cut(self, image: RgbImage, faces: Sequence[Face]) -> npt.NDArray[np.uint8]:
        face_input = self.classifier.face_input
        return np.stack([cut_face(image, face, face_input) for face in faces]) if faces else _no_faces(face_input)

    def _classify(self, waiting: Sequence["_Found"]) -> Iterator[PictureResult]:
        cut = [found.cut for found in waiting if found.faces]
        rows = iter(augmented.predict_proba(self.classifier, np.concatenate(cut), self.tta) if cut else ())
        for found in waiting:
            emotions = tuple(
                FaceEmotion.from_probabilities(face, self.classes, next(rows), self.min_confidence)
                for face in found.faces
            )
            yield replace(found.result, faces=emotions, classes=self.classes)


class _Detectors:
    """Lends detectors to threads: named ones keep state between calls, so each thread gets one of its own.

    A user's callable exists once, and who wants it waits for it.
    """

    def __init__(self, first: FaceDetector, choice: str | FaceDetector) -> None:
        # All threads take what "auto" took.
        self._more = first.name if isinstance(first, AutoDetector) else choice
        self._idle: queue.LifoQueue[FaceDetector] = queue.LifoQueue()
        self._idle.put(first)

    @contextmanager
    def lend(self) -> Iterator[FaceDetector]:
        try:
            detector = self._idle.get(block=callable(self._more))
        except queue.Empty:
            detector = load_detector(self._more)
        try:
            yield detector
        finally:
            self._idle.put(detector)


@dataclass(frozen=True)
class _Found:
    """A picture between detection and classification.

    cut: uint8 (len(faces), height, width, channels).
    """

    result: PictureResult
    faces: list[Face]
    cut: npt.NDArray[np.uint8]
    error: ImageError | None = None

    def without_pixels(self) -> "_Found":
        return replace(self, result=self.result.without_pixels())


def _enough(waiting: Sequence[_Found]) -> bool:
    return (
        sum(len(one.faces) for one in waiting) >= _BATCH_FACES
        or len(waiting) >= _WAITING_PICTURES
        or sum(one.result.pixels.nbytes for one in waiting if one.result.pixels is not None) > _WAITING_BYTES
    )


def _own(source: Source) -> Source:
    """A source that stays as it is while it waits for its turn: cameras write all their frames into one array."""
    return source.copy() if isinstance(source, np.ndarray) else source


def _no_faces(face_input: FaceInput) -> npt.NDArray[np.uint8]:
    return np.empty((0, face_input.height, face_input.width, face_input.channels), np.uint8)
