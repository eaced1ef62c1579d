"""Cutting faces out of pictures as a network takes them.

Networks trained on FER-2013 know faces as its makers cut them, so that is how faces are cut here: the constants were
measured (`benchmarks/DETECTION.md`).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.results import Box, Face
from ferkit.sources import FaceInput, RgbImage

# Lengths in spans. The span of a face is the root of d² + e²: d from eye to eye, e from their middle to the mouth's.
# A detector's box is so high and wide; its middle lies so far above the middle between eyes and mouth.
_HIGH, _WIDE = 2.0, 1.5
_ABOVE = 0.14
# Landmarks by which the face would be so many times larger or smaller than its box contradict it.
_CONTRADICTION = 2.0


def cut_face(image: RgbImage, face: Face, face_input: FaceInput) -> npt.NDArray[np.uint8]:
    """Cut a face out as a network takes it: uint8 (face_input.height, face_input.width, face_input.channels).

    image: RGB uint8 (H, W, 3) that `face.box` and `face.landmarks` refer to.

    The face's rectangle is its box or, if `face_input.align`, what the landmarks say, turned so that the eyes are
    level. It grows around its centre by the margin and to the network's aspect; what then lies outside the picture
    repeats the picture's edge. A box that is the whole picture is a face that was cut before: it is resized as it is.
    """
    height, width = image.shape[:2]
    if _is_whole(face, width, height):
        return resize_face(image, face_input)
    rectangle, scale = _to_cut(face, face_input)
    return _cut(image, rectangle, scale, face_input)


def cut_to_picture(face: Face, face_input: FaceInput, *, width: int, height: int) -> npt.NDArray[np.float64]:
    """Where the pixels of a cut come from: the matrix (2, 3) that takes a point (x, y, 1) of it to the picture.

    Points are in pixels from the upper left corner of either. width, height: of the picture.
    """
    if _is_whole(face, width, height):
        return np.array([[width / face_input.width, 0, 0], [0, height / face_input.height, 0]])
    rectangle, scale = _to_cut(face, face_input)
    return rectangle.to_picture(scale, face_input.width / 2, face_input.height / 2)


def _is_whole(face: Face, width: int, height: int) -> bool:
    return (face.box.width, face.box.height) == (width, height)


def _to_cut(face: Face, face_input: FaceInput) -> tuple["_Rectangle", float]:
    """The face's rectangle, and how many pixels of the picture there are per pixel of the cut."""
    rectangle = (_levelled(face) if face_input.align else None) or _unlevelled(face)
    grow = 1 + face_input.margin
    # The longer side decides, so nothing is squeezed.
    return rectangle, max(rectangle.wide * grow / face_input.width, rectangle.high * grow / face_input.height)


@dataclass(frozen=True)
class _Rectangle:
    """Where a face is. x, y: its centre; wide, high: its sides; all in pixels. angle: radians, clockwise."""

    x: float
    y: float
    wide: float
    high: float
    angle: float = 0.0

    def inside(self, box: Box) -> bool:
        return box.x1 <= self.x <= box.x2 and box.y1 <= self.y <= box.y2

    def to_picture(self, scale: float, across: float, down: float) -> npt.NDArray[np.float64]:
        """The matrix (2, 3) from a cut, in which the centre is at `across`, `down`, to the picture."""
        cosine, sine = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        return np.array(
            [
                [cosine, -sine, self.x - cosine * across + sine * down],
                [sine, cosine, self.y - sine * across - cosine * down],
            ]
        )


def _unlevelled(face: Face) -> _Rectangle:
    """The face's box; it lies on its side or stands on its head where the face does."""
    box, quarters = face.box, round((face.roll or 0.0) / 90)
    wide, high = (box.height, box.width) if quarters % 2 else (box.width, box.height)
    return _Rectangle((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, wide, high, quarters * math.pi / 2)


def _levelled(face: Face) -> _Rectangle | None:
    """The face's rectangle by its landmarks; None where there are none, or where they contradict the box."""
    if face.landmarks is None or face.roll is None:
        return None
    right_eye, left_eye, _, right_mouth, left_mouth = np.array(face.landmarks, np.float64)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    across = left_eye - right_eye
    span, angle = math.hypot(*across, *(mouth - eyes)), math.radians(face.roll)
    size = span * _HIGH / max(face.box.width, face.box.height)
    if not 1 / _CONTRADICTION < size < _CONTRADICTION:  # true for NaN
        return None
    x, y = (eyes + mouth) / 2 + span * _ABOVE * np.array([math.sin(angle), -math.cos(angle)])
    rectangle = _Rectangle(float(x), float(y), span * _WIDE, span * _HIGH, angle)
    return rectangle if rectangle.inside(face.box) else None


def _cut(image: RgbImage, rectangle: _Rectangle, scale: float, face_input: FaceInput) -> npt.NDArray[np.uint8]:
    """Cut around the middle of a rectangle, with `scale` pixels of the picture per pixel of the cut."""
    # Where the picture shrinks, twice the size is cut and averaged.
    fine = 2 if scale > 1 else 1
    wide, high = face_input.width * fine, face_input.height * fine
    matrix = rectangle.to_picture(scale / fine, wide / 2, high / 2)
    pixels, offset, shrunk = _around(image, matrix, wide, high)
    if face_input.channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    matrix[:, 2] -= offset
    matrix *= shrunk[:, None]
    # OpenCV counts from the middle of the first pixel, we from its corner.
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    cut = cv2.warpAffine(
        pixels, matrix, (wide, high), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    if fine > 1:
        cut = cv2.resize(cut, (face_input.width, face_input.height), interpolation=cv2.INTER_AREA)
    return cut.reshape(face_input.height, face_input.width, face_input.channels).astype(np.uint8, copy=False)


def _around(
    image: RgbImage, matrix: npt.NDArray[np.float64], wide: int, high: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The part of the picture that a cut needs, shrunk to its scale: pixels, where it begins (x, y), how much it shrank.

    Shrinking averages areas, which the cutting itself does not; and what is left is no larger than a few cuts, however
    large the face.
    """
    height, width = image.shape[:2]
    corners = np.array([[0, 0, 1], [wide, 0, 1], [0, high, 1], [wide, high, 1]]) @ matrix.T
    # A pixel more on each side: cutting looks at neighbours.
    first = np.clip(np.floor(corners.min(axis=0)) - 2, 0, [width - 1, height - 1]).astype(int)
    last = np.clip(np.ceil(corners.max(axis=0)) + 2, first + 1, [width, height]).astype(int)
    pixels = image[first[1] : last[1], first[0] : last[0]]
    scale = math.hypot(*matrix[:, 0])
    if scale <= 1:
        return pixels, first.astype(np.float64), np.ones(2)
    size = np.maximum(np.rint((last - first) / scale), 1).astype(int)
    small = cv2.resize(pixels, size.tolist(), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return small, first.astype(np.float64), size / (last - first)


def resize_face(pixels: npt.NDArray[np.uint8], face_input: FaceInput) -> npt.NDArray[np.uint8]:
    """Resize a whole RGB picture (H, W, 3) to uint8 (height, width, channels); aspect is not kept.

    Shrinking averages areas, enlarging is bilinear. Gray is ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B, as Pillow's
    mode "L" and the makers of FER-2013 have it.
    """
    if face_input.channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    height, width = pixels.shape[:2]
    # Where one axis shrinks and the other grows, OpenCV's area mode would skip pixels: the shrinking goes first.
    small = min(width, face_input.width), min(height, face_input.height)
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(shrunk, (face_input.width, face_input.height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(face_input.height, face_input.width, face_input.channels).astype(np.uint8, copy=False)
