"""Explanations of a prediction: which regions of a face support it, as a heatmap over the image.

`explain` does all of it; `open_method` makes a method ready for many images. docs/explain.md says how to read a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ferkit._support.files import write_encoded
from ferkit.detection import FaceDetector, cut_face, cut_to_picture
from ferkit.errors import ImageError, UsageError
from ferkit.evaluation.explanation_methods import USUAL, Maps, Method, open_method
from ferkit.labels import canonical
from ferkit.models import Classifier, EmotionClassifier
from ferkit.recognizer import EmotionRecognizer
from ferkit.render import annotate, check_targets
from ferkit.results import Box, Face, FaceEmotion
from ferkit.sources import RgbImage, Source, read_image

# Files that an overlay can be written into.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

# Coverings that change the probability less than this are drawn fainter: what little there is, is noise.
_NOTABLE = 0.05


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which regions of a face support a class, according to one method.

    face: the face and its emotion. label: the class that is explained, confidence: its probability.
    method: name of the method.
    heatmap: float32 (height, width) of the network's face, 0 to 1: the places that count most have 1, those that count
        nothing or speak against the class have 0. All 0 where nothing speaks for it.
    peak: how far covering the place with 1 lowers the probability, in probability; None for methods that cannot say.
    to_picture: float64 (2, 3), takes a point (x, y, 1) of the heatmap to the picture, both in pixels from the upper
        left corner.
    picture: RGB uint8 (H, W, 3).
    """

    face: FaceEmotion
    label: str
    confidence: float
    method: str
    heatmap: npt.NDArray[np.float32] = field(repr=False)
    peak: float | None
    to_picture: npt.NDArray[np.float64] = field(repr=False)
    picture: RgbImage = field(repr=False)

    @property
    def strength(self) -> float:
        """How strongly the heatmap is to be drawn, 0 to 1: less where covering hardly changes anything."""
        return 1.0 if self.peak is None else min(self.peak / _NOTABLE, 1.0)

    def on_picture(self) -> npt.NDArray[np.float32]:
        """The heatmap where the face is in the picture, float32 (H, W); 0 around it."""
        height, width = self.picture.shape[:2]
        return self.on_part(Box(0, 0, width, height))

    def on_part(self, part: Box) -> npt.NDArray[np.float32]:
        """The same on a part of the picture, float32 (part.height, part.width)."""
        matrix = self.to_picture.copy()
        # OpenCV counts from the middle of the first pixel, we from its corner.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5 - np.array([part.x1, part.y1])
        warped = cv2.warpAffine(self.heatmap, matrix, (part.width, part.height), flags=cv2.INTER_LINEAR)
        return np.asarray(warped, np.float32)

    def part(self) -> Box | None:
        """The smallest part of the picture that holds all of the heatmap; None where it lies outside."""
        high, wide = self.heatmap.shape
        corners = np.array([[0, 0, 1], [wide, 0, 1], [0, high, 1], [wide, high, 1]]) @ self.to_picture.T
        first, last = np.floor(corners.min(axis=0)) - 1, np.ceil(corners.max(axis=0)) + 1
        return Box.inside((*first, *last), width=self.picture.shape[1], height=self.picture.shape[0])

    def overlay(self) -> RgbImage:
        """The picture with the heatmap on it, the label, and a bar that says what its colours mean."""
        return overlay([self])

    def __str__(self) -> str:
        """Class, probability, method, and what occluding the region that counts most does."""
        text = f"{self.label} {self.confidence:.1%}  {self.method}"
        if not self.heatmap.any():
            return f"{text}  no region supports it"
        return (
            text if self.peak is None else f"{text}  up to {100 * self.peak:.1f} percentage points less where occluded"
        )

    def to_dict(self) -> dict[str, Any]:
        """The explanation as the JSON of `ferkit explain` has it: the face as `ferkit predict` has it, and what explains it."""
        return {
            **self.face.to_dict(),
            "explained": self.label,
            "explained_probability": round(self.confidence, 6),
            "method": self.method,
            "peak": None if self.peak is None else round(self.peak, 6),
            "strength": round(self.strength, 6),
            "to_picture": [[round(number, 6) for number in row] for row in self.to_picture.tolist()],
            "heatmap": [[round(value, 4) for value in row] for row in self.heatmap.tolist()],
        }


_Floats = npt.NDArray[np.float32]

# Perceptually uniform, and told apart by those who see few colours: viridis (Smith and van der Walt 2015), whose greens
# and yellows no skin has.
_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].astype(
    np.float32
)
# Below the first the picture shows alone, from the second on the colours cover it most.
_WEAK, _STRONG, _OPAQUE = 0.15, 0.75, 0.72
# A face under colours is gray: else nobody could tell skin from a colour that means something.
_FADED = 0.85

_SMALLEST_SIDE = 480
_PAPER, _INK, _MUTED = (255, 255, 255), (27, 31, 39), (102, 112, 133)
_WORDS = {"grad-cam": "Grad-CAM", "occlusion": "Occlusion"}


def overlay(explanations: Sequence[Explanation]) -> RgbImage:
    """One picture with the heatmaps of its faces, their labels, and below it a bar that says what colours mean.

    explanations: of one picture; at least one. Pictures of less than 480 pixels are enlarged, so that letters can be
    read.
    """
    shown = _enlarged(explanations)
    canvas = shown[0].picture.copy()
    for one in shown:
        _paint(canvas, one)
    faces = [replace(one.face, label=one.label, confidence=one.confidence) for one in shown]
    drawn = annotate(canvas, faces, bars=False)
    return np.vstack([drawn, _bar(shown, drawn.shape[1])])


def check_files(out: Path | None = None, array: Path | None = None, picture: object = None) -> None:
    """Raise `UsageError` for files that an overlay or arrays cannot be written to, or that would replace the picture."""
    if out is not None and out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out must end in {', '.join(FORMATS)}. Received: {out.name}.")
    if array is not None and array.suffix.lower() != ".npz":
        raise UsageError(f"--array must end in .npz. Received: {array.name}.")
    check_targets([out, array], [picture])


def save_overlay(explanations: Sequence[Explanation], path: Path) -> None:
    """Write `overlay` into a file; its suffix chooses the format (`FORMATS`)."""
    check_files(path)
    drawn, form = PIL.Image.fromarray(overlay(explanations)), FORMATS[path.suffix.lower()]
    # 4:4:4: coloured lines and letters smear with halved colour resolution.
    write_encoded(path, lambda stream: drawn.save(stream, form, quality=92, subsampling=0), ImageError)


def save_arrays(explanations: Sequence[Explanation], path: Path) -> None:
    """Write a `.npz` with a row per face: heatmaps, and the matrices that take them to the picture."""
    check_files(array=path)
    columns: dict[str, Any] = {
        "heatmaps": np.stack([one.heatmap for one in explanations]),
        "to_picture": np.stack([one.to_picture for one in explanations]),
        "boxes": np.array([one.face.box.to_list() for one in explanations]),
        "labels": np.array([one.label for one in explanations]),
        "probabilities": np.array([one.confidence for one in explanations], np.float32),
        "peaks": np.array([np.nan if one.peak is None else one.peak for one in explanations], np.float32),
        "method": np.array(explanations[0].method),
    }
    write_encoded(path, lambda stream: np.savez_compressed(stream, **columns), ImageError)


def ramp(count: int) -> list[str]:
    """So many colours from what counts nothing to what counts most, as `#RRGGBBAA`, for pages that draw by themselves."""
    heat = np.linspace(0, 1, count, dtype=np.float32)
    colors = np.column_stack([_colors(heat), 255 * _opacity(heat)])
    return ["#" + "".join(f"{round(channel):02X}" for channel in color) for color in colors.tolist()]


def _colors(heat: _Floats) -> _Floats:
    return np.asarray(_COLORS[np.rint(np.clip(heat, 0, 1) * 255).astype(int)], np.float32)


def _opacity(heat: _Floats) -> _Floats:
    """From 0 without an edge where it begins or ends."""
    share = np.clip((heat - _WEAK) / (_STRONG - _WEAK), 0, 1)
    return np.asarray(_OPAQUE * share * share * (3 - 2 * share), np.float32)


def _enlarged(explanations: Sequence[Explanation]) -> list[Explanation]:
    """The same on a picture that is a whole number of times as large, where it is small."""
    picture = explanations[0].picture
    times = max(1, round(_SMALLEST_SIDE / max(picture.shape[:2])))
    if times == 1:
        return list(explanations)
    large = np.asarray(cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.uint8)
    return [
        replace(one, picture=large, to_picture=one.to_picture * times, face=_moved(one.face, times))
        for one in explanations
    ]


def _moved(face: FaceEmotion, times: int) -> FaceEmotion:
    box = Box(*(times * edge for edge in face.box.to_list()))
    return replace(face, face=Face(box, face.detection_score))


def _paint(canvas: RgbImage, one: Explanation) -> None:
    part = one.part()
    if part is None:
        return
    heat = one.on_part(part)
    oval = replace(one, heatmap=_oval(*one.heatmap.shape)).on_part(part)[..., None]
    opaque = (_opacity(heat) * one.strength)[..., None]
    below = canvas[part.y1 : part.y2, part.x1 : part.x2]
    gray = cv2.cvtColor(below, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    faded = below + (gray - below) * (_FADED * oval)
    canvas[part.y1 : part.y2, part.x1 : part.x2] = np.rint(faded + (_colors(heat) - faded) * opaque).astype(np.uint8)


def _oval(height: int, width: int) -> _Floats:
    """1 in the middle, 0 in the corners: where a face is, softly ending."""
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    return np.asarray(np.clip((1 - np.hypot(down, across)) * 8, 0, 1), np.float32)


def _bar(shown: Sequence[Explanation], width: int) -> RgbImage:
    """The legend: the method, and its colours from what counts little to what counts most."""
    size = int(np.clip(width / 36, 12, 40))
    font = PIL.ImageFont.load_default(size)
    pad = size
    picture = PIL.Image.new("RGB", (width, 3 * size), _PAPER)
    draw = PIL.ImageDraw.Draw(picture)
    left, right = _ends(shown)
    long = min(8 * size, width // 4)
    middle = 1.5 * size
    x = width - pad - font.getlength(right)
    draw.text((x, middle), right, fill=_INK, font=font, anchor="lm")
    ramp = PIL.Image.fromarray(np.repeat(_legend_colors(long, max(one.strength for one in shown))[None], size, axis=0))
    x -= long + size / 2
    picture.paste(ramp, (round(x), round(middle - size / 2)))
    x -= size / 2
    draw.text((x, middle), left, fill=_INK, font=font, anchor="rm")
    title = _WORDS.get(shown[0].method, shown[0].method)
    if pad + font.getlength(title) + size < x - font.getlength(left):
        draw.text((pad, middle), title, fill=_MUTED, font=font, anchor="lm")
    return np.asarray(picture)


def _legend_colors(count: int, strength: float) -> RgbImage:
    """The colours as they look on middle gray, as faint as on the face, so that the legend shows what the picture shows."""
    heat = np.linspace(0, 1, count, dtype=np.float32)
    return np.asarray(np.rint(128 + (_colors(heat) - 128) * (strength * _opacity(heat))[:, None]), np.uint8)


def _ends(shown: Sequence[Explanation]) -> tuple[str, str]:
    """What the two ends of the colours stand for."""
    if len(shown) == 1 and shown[0].peak is not None:
        return "0", f"-{100 * shown[0].peak:.0f} points"
    return "counts little", "counts most"


def explain(
    model: str | Path | Classifier,
    picture: Source,
    *,
    faces: Sequence[Face] | None = None,
    face: int | None = None,
    label: str | None = None,
    method: str | Method = USUAL,
    detector: str | FaceDetector = "auto",
) -> list[Explanation]:
    """Explain what a model sees in each face of a picture, from left to right; an empty list where there is no face.

    Args:
        model: "default", a model folder or file, or a classifier.
        picture: whatever `ferkit.sources.images.read_image` takes. An array of the very shape that the network takes is
            a face.
        faces: where faces are; None: the detector looks for them.
        face: only the face with this number from the left, from 1; None: all of them.
        label: the class to explain; None: of each face the most probable one.
        method: a name from `METHODS`, or one that is open; "auto" takes Grad-CAM where it can be had, else occlusion.
        detector: a name from `ferkit.detection.detectors.DETECTORS`, or a callable; "none" takes the picture as a face.

    Raises:
        ImageError: the picture cannot be read, or has fewer faces than `face`.
        UsageError: no such label, method or detector.
        ModelError: the model cannot be read, or (NoGradients) not be explained in this way.

    Example:
        for one in explain("default", "photo.jpg"):
            print(one.label, one.method, one.heatmap.shape)

    """
    classifier = EmotionClassifier.load(model) if isinstance(model, str | Path) else model
    class_of(classifier, label)  # a wrong name is said before anything is looked for
    opened = open_method(classifier, method) if isinstance(method, str) else method
    takes = classifier.face_input
    is_face = isinstance(picture, np.ndarray) and picture.shape == (takes.height, takes.width, takes.channels)
    image = read_image(picture)
    if faces is None:
        height, width = image.shape[:2]
        whole = [Face(Box(0, 0, width, height), 1.0)]
        faces = whole if is_face else EmotionRecognizer(classifier, detector).detect(image)
    if face is not None:
        if not 1 <= face <= len(faces):
            if not faces:
                return []
            raise ImageError(f"The number of the face must be 1 to {len(faces)}. Received: {face}.")
        faces = faces[face - 1 : face]
    return explain_faces(classifier, opened, image, faces, label=label)


def explain_faces(
    classifier: Classifier, method: Method, image: RgbImage, faces: Sequence[Face], *, label: str | None = None
) -> list[Explanation]:
    """`explain` for faces that are known, with a method that is open. image: RGB uint8 (H, W, 3)."""
    if not faces:
        return []
    height, width = image.shape[:2]
    takes, names = classifier.face_input, tuple(classifier.classes)
    cuts = np.stack([cut_face(image, face, takes) for face in faces])
    rows = classifier.predict_proba(cuts)
    chosen = class_of(classifier, label)
    classes = rows.argmax(axis=1) if chosen is None else np.full(len(faces), chosen)
    return [
        Explanation(
            FaceEmotion.from_probabilities(face, names, row),
            names[one],
            float(row[one]),
            method.name,
            *_shown(found, method.in_probability),
            cut_to_picture(face, takes, width=width, height=height),
            image,
        )
        for face, row, one, found in zip(faces, rows, classes, method(cuts, classes), strict=True)
    ]


def class_of(classifier: Classifier, label: str | None) -> int | None:
    """The place of a label among the classes, by its name or an alias; None for none. `UsageError` for no class."""
    names = tuple(classifier.classes)
    if label is None:
        return None
    wanted = label if label in names else canonical(label)
    for place, name in enumerate(names):
        if wanted in (name, canonical(name)):
            return place
    raise UsageError(f"{label!r} is none of the classes of this model: {', '.join(names)}.")


def _shown(found: Maps, in_probability: bool) -> tuple[Maps, float | None]:
    """A map from 0 to 1, and what the 1 stands for."""
    peak = max(float(found.max()), 0.0)
    heatmap = np.maximum(found, 0) / np.float32(peak) if peak > 0 else np.zeros_like(found)
    return heatmap.astype(np.float32, copy=False), peak if in_probability else None
