"""What of a picture a network looks at: faces of any size must come by at a size that it finds.

YuNet finds faces of 28 to 400 pixels. So a picture is shrunk to a bounded size; smaller copies show the faces that are
too large there. The largest copy costs most and shows what the next one shows as well, except for the smallest faces: of it
only the places are looked at where the next copy hints at one. Figures: `benchmarks/DETECTION.md`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.sources import RgbImage

Pixels = npt.NDArray[np.uint8]

# Longest side up to which a picture is looked at as it is.
_FULL = 1280
# Above, it is shrunk, but no further than to this part of its size: a face of 40 pixels keeps 28.
_FINEST = 0.7
# Most pixels of all parts together, which bounds the time that a picture takes.
_MOST_PIXELS = 12_000_000
# Longest side of a part, which bounds the memory.
_PART = 1600
# A face of this height is found; what is smaller in a copy must lie wholly within one part of the next larger one.
_SMALLEST_FACE = 28
# The second copy is smaller by the first step, each further one a quarter of the one before, down to this longest side: here faces
# that fill the picture are found best.
_COPY, _FIRST_STEP, _STEP = 320, 1.9, 4
# What is looked at around a hint: its size to each side, at least so many pixels in all; beyond this share of a copy, all of it.
_MARGIN, _LEAST_PLACE, _WHOLE = 1.25, 128, 0.5
# A smaller picture is enlarged to that, but not more than so many times.
_MOST_ENLARGED = 4.0


@dataclass(frozen=True)
class View:
    """A part of a picture, resized.

    pixels: RGB uint8 (H, W, 3).
    scale: pixels of the view per pixel of the picture, (across, down).
    offset: where the view begins, (x, y) in its own pixels.
    size: width and height of the whole picture in pixels of the view.
    """

    pixels: Pixels
    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]

    def cuts(self, corners: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Which boxes (N, x1 y1 x2 y2) in this view reach its edge where the picture goes on: another view has more."""
        height, width = self.pixels.shape[:2]
        (left, top), (across, down) = self.offset, self.size
        first = np.array([left > 0, top > 0]) & (corners[:, :2] < 2)
        last = np.array([left + width < across, top + height < down]) & (corners[:, 2:] > np.array([width, height]) - 2)
        return np.asarray((first | last).any(axis=1), np.bool_)

    def in_picture(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Points (..., x y) of this view as points of the picture."""
        moved: npt.NDArray[np.floating] = (points + self.offset) / self.scale
        return moved


def copies(image: RgbImage) -> Iterator[View]:
    """The whole picture at the sizes that together show its faces of all sizes, largest first."""
    view = _view(image, image, _factor(image.shape[1], image.shape[0]))
    yield view
    step = _FIRST_STEP
    while (longest := max(view.size)) > _COPY * 1.2:
        smaller = max(longest / step, _COPY)
        view = _view(view.pixels, image, smaller / longest)
        step = _STEP
        yield view


def parts(view: View, smaller: View | None = None) -> Iterator[View]:
    """A copy, in parts where it is large: what is too small in the next `smaller` one lies wholly within one of them."""
    if smaller is None:
        yield view
        return
    width, height = view.size
    overlap = math.ceil(max(view.size) / max(smaller.size) * _SMALLEST_FACE)
    for top, bottom in _stretches(height, overlap):
        for left, right in _stretches(width, overlap):
            yield _part(view, left, top, right, bottom)


def places(view: View, smaller: View, boxes: npt.NDArray[np.floating]) -> Iterator[View]:
    """Parts of a copy around boxes (N, x1 y1 x2 y2) in pixels of the picture; all its parts where those are much of it."""
    corners = np.asarray(boxes).reshape(-1, 2, 2) * view.scale
    middles, halves = corners.mean(axis=1), np.maximum(np.ptp(corners, axis=1).max(axis=1) * _MARGIN, _LEAST_PLACE / 2)
    size = np.array(view.size)
    first = np.clip(np.floor(middles - halves[:, None]), 0, size)
    last = np.clip(np.ceil(middles + halves[:, None]), 0, size)
    apart = _united(np.hstack([first, last]).astype(int))
    if sum((right - left) * (bottom - top) for left, top, right, bottom in apart) > _WHOLE * size.prod():
        yield from parts(view, smaller)
        return
    for place in apart:
        yield _part(view, *place)


def _united(boxes: npt.NDArray[np.int_]) -> list[tuple[int, int, int, int]]:
    """Boxes (N, x1 y1 x2 y2), those that overlap united into one around both, until none do."""
    apart: list[tuple[int, int, int, int]] = []
    for box in boxes.tolist():
        left, top, right, bottom = box
        while met := [one for one in apart if one[0] < right and left < one[2] and one[1] < bottom and top < one[3]]:
            apart = [one for one in apart if one not in met]
            lefts, tops, rights, bottoms = zip(*met, strict=True)
            left, top = min(left, *lefts), min(top, *tops)
            right, bottom = max(right, *rights), max(bottom, *bottoms)
        apart.append((left, top, right, bottom))
    return apart


def bounded(image: RgbImage, longest: int) -> View:
    """The whole picture, shrunk to a longest side."""
    return _view(image, image, min(1.0, longest / max(image.shape[:2])))


def _factor(width: int, height: int) -> float:
    longest = max(width, height)
    if longest <= _FULL:
        return min(max(_COPY / longest, 1.0), _MOST_ENLARGED)
    # A strip counts as 32 pixels wide: so wide are its parts when the network sees them.
    most = min(math.sqrt(_MOST_PIXELS / (width * height)), _MOST_PIXELS / (32 * longest))
    return min(max(_FULL / longest, _FINEST), most)


def _view(pixels: Pixels, image: RgbImage, factor: float) -> View:
    """`pixels`, which show the whole of `image`, times `factor`."""
    height, width = pixels.shape[:2]
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    if size != (width, height):
        # Averaging areas takes five times as long, which matters for large pictures; above a half nothing is skipped.
        way = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR if factor < 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, size, interpolation=way).astype(np.uint8, copy=False)
    # Not `factor`: rounding the size makes the two axes differ a little.
    return View(pixels, (size[0] / image.shape[1], size[1] / image.shape[0]), (0, 0), size)


def _part(view: View, left: int, top: int, right: int, bottom: int) -> View:
    return View(view.pixels[top:bottom, left:right], view.scale, (left, top), view.size)


def _stretches(length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """A side as stretches of nearly equal length, each of which overlaps the next."""
    count = 1 if length <= _PART else math.ceil((length - overlap) / (_PART - overlap))
    part = math.ceil((length + (count - 1) * overlap) / count)
    for number in range(count):
        start = min(number * (part - overlap), length - part)
        yield start, start + part
