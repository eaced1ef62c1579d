"""Pictures in, emotions of every face out: a detector and a classifier put together."""

import logging
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
import numpy.typing as npt

import ferkit
from ferkit._support.parallel import ordered_map, usable_cores
from ferkit._support.registry import qualified_name
from ferkit.data import is_face_table, read_faces
from ferkit.detection import (
    AUTO,
    FaceDetector,
    Orientation,
    WholePicture,
    checked_faces,
    cut_face,
    find_in_any_orientation,
    left_to_right,
    load_detector,
)
from ferkit.errors import FerkitError, ImageError, UsageError, one_line
from ferkit.models import TTA, Classifier, augmented, open_classifier
from ferkit.results import Face, FaceEmotion, PictureResult, Results
from ferkit.sources import (
    Order,
    Picture,
    RgbImage,
    Source,
    as_array,
    expand_sources,
    is_many,
    name_of,
    one_or_many,
    read_image,
    reason,
)

_log = logging.getLogger(__name__)

# Faces that go through the network together: ONNX Runtime gains little beyond.
_BATCH_FACES = 64
# What may wait for a full batch. Pixels are kept only for drawing; a quarter gigabyte is a few photos.
_WAITING_BYTES = 1 << 28
# More blue than that is rarely seen in a face.
_BLUE_SKIN = 1.15
# A batch that fills slowly is not waited for.
_WAITING_PICTURES = 32
_WAITING_SECONDS = 0.5


class EmotionRecognizer:
    """Recognises the perceived emotion of every face in a picture. Several threads may share a recognizer.

    Args:
        model: "default", a model folder or file, or a classifier, such as a `ferkit.Ensemble`.
        detector: a name from `ferkit.detection.detectors.DETECTORS`, or a callable: RGB uint8 (H, W, 3) -> list of
            `Face`, which is called from one thread at a time.
        min_confidence: below it a face is labelled `uncertain`.
        tta: a test-time augmentation of `ferkit.models.tta.TTA`, such as "flip", or None: as `ferkit.evaluate` takes
            it.
        threads: how many pictures are decoded and searched at once; None takes all cores.
        sensitivity: how readily rare expressions are named, 0 (as common as in life) to 1 (every class alike); None
            takes the model's own. Only for models whose card has a prior, as `default` has.
        classes: names in the order of the outputs of a bare model file; see `EmotionClassifier.load`.
        pixel_scale: pixels that a bare model file was trained on: "0..1", "-1..1", "0..255" or "mean,std".
        orientation: "any" also detects faces upside down or on a side, and takes four times as long; `Face.roll` says how a
            face leans. "upright" finds what leans by up to 45 degrees, and some of the others.

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
        sensitivity: float | None = None,
        classes: str | Sequence[str] | None = None,
        pixel_scale: str | None = None,
        orientation: Orientation = "upright",
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence must be 0 to 1. Received: {min_confidence}.")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1. Received: {threads}.")
        if orientation not in get_args(Orientation):
            raise UsageError(f"orientation must be one of {', '.join(get_args(Orientation))}. Received: {orientation}.")
        if tta is not None:
            TTA[tta]  # a wrong name is said before a model is loaded
        self.min_confidence = min_confidence
        self.tta = tta
        self.orientation = orientation
        self._said_swapped = False
        self.threads = threads or usable_cores()
        self.detector: FaceDetector = load_detector(detector)
        self._detectors = _Detectors(self.detector, detector)
        self.classifier: Classifier = open_classifier(
            model, sensitivity=sensitivity, classes=classes, pixel_scale=pixel_scale
        )
        self._augmented = augmented(self.classifier, tta)

    def __getstate__(self) -> dict[str, Any]:
        """All but the detectors, which another process opens anew."""
        made = ("detector", "_detectors", "_augmented")
        return {name: value for name, value in vars(self).items() if name not in made} | {
            "chosen": self._detectors.choice
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        chosen = state.pop("chosen")
        vars(self).update(state)
        self.detector = load_detector(chosen)
        self._detectors = _Detectors(self.detector, chosen)
        self._augmented = augmented(self.classifier, self.tta)

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions that this recognizer tells apart, in model order."""
        return tuple(self.classifier.classes)

    def describe(self) -> dict[str, Any]:
        """Versions and parameters that decide its answers, as JSON: what tables say of how their rows came about."""
        return {
            "ferkit": ferkit.__version__,
            "model": self.classifier.name,
            "model_sha256": getattr(self.classifier, "sha256", None),
            "classes": list(self.classes),
            "sensitivity": getattr(self.classifier, "sensitivity", None),
            "detector": self._detectors.name,
            "min_confidence": self.min_confidence,
            "tta": self.tta,
            "orientation": self.orientation,
        }

    def with_sensitivity(self, sensitivity: float) -> "EmotionRecognizer":
        """The same recognizer at another sensitivity, 0 to 1; both share model and detector.

        Raises:
            UsageError: no number from 0 to 1, or a model whose card has no prior.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other.classifier = open_classifier(self.classifier, sensitivity=sensitivity)
        other._augmented = augmented(other.classifier, self.tta)
        return other

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], *, order: Order = "rgb") -> Results: ...

    @overload
    def __call__(self, source: Source, *, order: Order = "rgb") -> PictureResult: ...  # type: ignore[overload-overlap] # files can be iterated

    @overload
    def __call__(self, source: Iterable[Any], *, order: Order = "rgb") -> Results: ...

    def __call__(self, source: Source | Iterable[Any], *, order: Order = "rgb") -> PictureResult | Results:
        """Recognise one picture, or many whose faces share batches.

        A list, a generator, a pandas Series, an array (N, H, W, channels), a folder and a glob are many: a picture that
        cannot be read gets a result with an `error`, the others go on, and results hold no `pixels`. One picture that
        cannot be read raises `ImageError`; its result keeps its `pixels`, for drawing.

        Args:
            source: What `ferkit.sources.read_image` takes, or many of them.
            order: Channels of arrays: "rgb", or "bgr" as OpenCV has them. Files know their own.
        """
        sources = one_or_many(source)
        if sources is source or not isinstance(sources, list):
            return Results(self.stream(sources, order=order), self.classes)
        if is_many(source) or is_face_table(source):
            return Results(self.stream(sources), self.classes)
        found = self._find_faces(sources[0], order)
        if found.error:
            raise found.error
        return self._result(found, deque(self._classify(found.cut)))

    def stream(
        self,
        sources: Source | Iterable[Source],
        *,
        keep_pixels: bool = False,
        batch_size: int | None = None,
        report_failures: bool = False,
        order: Order = "rgb",
    ) -> Iterator[PictureResult]:
        """Recognise pictures in order, on all cores, as they come; memory stays bounded however many there are.

        Args:
            sources: May hold folders and globs, which stand for the pictures in them; arrays may be filled anew when
                they were taken.
            keep_pixels: Whether results carry the decoded picture.
            batch_size: How many faces go through the network together; black ones are added where there are fewer, so
                the answer to a face is the same to the last bit, whatever came with it. None takes the faces that are
                there, up to 64, and waits for no more than half a second.
            report_failures: Whether a detector that raises costs its picture alone, which then has an `error`; else
                the stream ends there, after the results of what came before.
            order: Channels of arrays: "rgb", or "bgr" as OpenCV has them.
        """
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1. Received: {batch_size}.")

        def find(source: Source) -> _Found:
            try:
                found = self._find_faces(source, order)
            except FerkitError:
                raise  # A detector that returns no faces, a broken model: not this picture's fault.
            except Exception as problem:
                if not report_failures:
                    raise
                why = f"Cannot read {name_of(source)}: it was decoded, and then {type(problem).__name__}: {reason(problem)}."
                found = _Found(PictureResult.failed(name_of(source), one_line(why)))
            return found if keep_pixels else replace(found, result=found.result.without_pixels())

        waiting: deque[_Found] = deque()
        cut: list[npt.NDArray[np.uint8]] = []
        answers: deque[npt.NDArray[np.floating[Any]]] = deque()
        size = batch_size or _BATCH_FACES

        def ready(at_once: bool) -> Iterator[PictureResult]:
            """The results of all full batches; at once: of all that waits."""
            while len(cut) >= size or (at_once and cut):
                answers.extend(self._classify(cut[:size], padded_to=batch_size))
                del cut[:size]
            while waiting and len(answers) >= len(waiting[0].faces):
                yield self._result(waiting.popleft(), answers)

        since = time.monotonic()
        pictures = map(_own, expand_sources(_with_tables(one_or_many(sources))))
        try:
            for found in ordered_map(find, pictures, self.threads):
                if not waiting:
                    since = time.monotonic()
                waiting.append(found)
                cut += found.cut
                slow = len(waiting) >= _WAITING_PICTURES or time.monotonic() - since >= _WAITING_SECONDS
                held = sum(one.result.pixels.nbytes for one in waiting if one.result.pixels is not None)
                yield from ready(at_once=(slow and batch_size is None) or held > _WAITING_BYTES)
        except Exception:
            # A detector or a supply that fails does not cost what was found before.
            yield from ready(at_once=True)
            raise
        yield from ready(at_once=True)

    def _find_faces(self, source: Source, order: Order) -> "_Found":
        """Everything before the network: what runs on all cores, for it takes nearly all of the time."""
        name = name_of(source)
        try:
            notes: list[str] = []
            source = as_array(source)
            image = read_image(source, notes, order=order)
            cut = isinstance(source, Picture) and source.cut
            faces = WholePicture()(image) if cut else self.detect(image)
            if isinstance(source, np.ndarray) and not faces and image.max() <= 1:
                notes.append("its pixels are 0 and 1 of 255, as of floats in [0, 1] that were cut to integers")
            if isinstance(source, np.ndarray) and order == "rgb" and _look_swapped(image, faces):
                notes.append("skin looks blue, so the channels may be swapped. For arrays from OpenCV, use order='bgr'")
                if not self._said_swapped:
                    _log.warning("%s: %s.", name, notes[-1])
                    self._said_swapped = True
            result = PictureResult(name, image.shape[1], image.shape[0], pixels=image, notes=tuple(notes))
            return _Found(result, faces, self._cut(image, faces))
        except ImageError as error:
            return _Found(PictureResult.failed(name, str(error)), error=error)

    def detect(self, image: RgbImage) -> list[Face]:
        """The faces in RGB uint8 (H, W, 3), without their emotions."""
        with self._detectors.lend() as detect:
            if self.orientation == "upright":
                return checked_faces(detect(image))
            return left_to_right(find_in_any_orientation(lambda pixels: checked_faces(detect(pixels)), image))

    def probabilities(self, image: RgbImage, faces: Sequence[Face]) -> npt.NDArray[np.floating[Any]]:
        """Probabilities of faces wherever they are known to be in a picture, float (len(faces), classes)."""
        return self._classify(self._cut(image, faces))

    def _cut(self, image: RgbImage, faces: Sequence[Face]) -> list[npt.NDArray[np.uint8]]:
        return [cut_face(image, face, self.classifier.face_input) for face in faces]

    def _classify(
        self, cut: Sequence[npt.NDArray[np.uint8]], *, padded_to: int | None = None
    ) -> npt.NDArray[np.floating[Any]]:
        """Probabilities of faces that were cut, float (len(cut), classes)."""
        if not cut:
            return np.empty((0, len(self.classes)), np.float32)
        batch = np.zeros((padded_to or len(cut), *cut[0].shape), np.uint8)
        batch[: len(cut)] = cut
        return self._augmented.predict_proba(batch)[: len(cut)]

    def _result(self, found: "_Found", answers: deque[npt.NDArray[np.floating[Any]]]) -> PictureResult:
        """The result of a picture, which takes the answers to its faces."""
        classes, least = self.classes, self.min_confidence
        emotions = tuple(
            FaceEmotion.from_probabilities(face, classes, answers.popleft(), least) for face in found.faces
        )
        return replace(found.result, faces=emotions, classes=classes)


def _look_swapped(image: RgbImage, faces: Sequence[Face]) -> bool:
    """Whether red and blue seem swapped: skin of any colour reflects more red, if the light is not blue.

    On the scenes blue is 0.45 to 1.05 times red in the middle of 22 faces; 18 of them are noticed when they are swapped.
    """
    middles = (
        image[
            (box.y1 * 3 + box.y2) // 4 : (box.y1 + box.y2 * 3) // 4,
            (box.x1 * 3 + box.x2) // 4 : (box.x1 + box.x2 * 3) // 4,
        ]
        for box in (face.box for face in faces)
    )
    means = [middle.reshape(-1, 3).mean(axis=0) for middle in middles if middle.size]
    return bool(means) and all(blue > _BLUE_SKIN * red for red, _, blue in means)


class _Detectors:
    """Lends detectors to threads: named ones keep state between calls, so each thread gets one of its own.

    A user's callable exists once, and who wants it waits for it.
    """

    def __init__(self, first: FaceDetector, choice: str | FaceDetector) -> None:
        self.choice = choice
        self._idle: queue.LifoQueue[FaceDetector] = queue.LifoQueue()
        self._idle.put(first)

    @property
    def name(self) -> str:
        """The name that it was chosen by; "auto" is the one that it takes."""
        if isinstance(self.choice, str):
            return AUTO if self.choice == "auto" else self.choice
        return qualified_name(self.choice)

    @contextmanager
    def lend(self) -> Iterator[FaceDetector]:
        try:
            detector = self._idle.get(block=callable(self.choice))
        except queue.Empty:
            detector = load_detector(self.choice)
        try:
            yield detector
        finally:
            self._idle.put(detector)


@dataclass(frozen=True)
class _Found:
    """A picture between detection and classification. cut: uint8 (height, width, channels) of each face."""

    result: PictureResult
    faces: Sequence[Face] = ()
    cut: Sequence[npt.NDArray[np.uint8]] = ()
    error: ImageError | None = None


def _with_tables(sources: Iterable[Any]) -> Iterator[Any]:
    """Sources, with the faces of a CSV in the place of it."""
    for source in sources:
        if is_face_table(source):
            _log.info(
                "Note: %s holds faces as pixels, which are classified as they are: no face is looked for.", source
            )
            yield from read_faces(source)
        else:
            yield source


def _own(source: Source) -> Source:
    """A source that stays as it is while it waits for its turn: cameras write all their frames into one array."""
    return source.copy() if isinstance(source, np.ndarray) else source
