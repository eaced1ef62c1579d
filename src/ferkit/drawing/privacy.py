"""Faces that nobody recognises: blurred in what is written out, after they were looked at."""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.results import Box

_Pixels = npt.NDArray[np.uint8]

# So many squares are left of a face: below ten, people and networks no longer tell who it is, however large it was.
_SQUARES = 7
# A box ends at the forehead; hair and ears tell who it is as well.
_GROW = 0.3


def blurred(image: _Pixels, boxes: Iterable[Box]) -> _Pixels:
    """A copy of a picture, RGB uint8 (H, W, 3), in which what is inside of the boxes and a little around cannot be known.

    Each is averaged over a few squares, of which the rest is made anew: nothing can be computed back. The edge is soft,
    and lies outside of the box.
    """
    canvas = image.copy()
    height, width = image.shape[:2]
    for box in boxes:
        wide, high = round(box.width * _GROW), round(box.height * _GROW)
        x1, y1, x2, y2 = box.x1 - wide, box.y1 - high, box.x2 + wide, box.y2 + high
        inside = slice(max(y1, 0), min(y2, height)), slice(max(x1, 0), min(x2, width))
        part = canvas[inside]
        if not part.size:  # who has left the picture
            continue
        shape = _shape(x2 - x1, y2 - y1)[inside[0].start - y1 :, inside[1].start - x1 :][
            : part.shape[0], : part.shape[1]
        ]
        part[:] = np.rint(part + shape[..., None] * (unrecognisable(part).astype(np.float32) - part))
    return canvas


def unrecognisable(face: _Pixels) -> _Pixels:
    """The colours of a face and nothing else, RGB uint8 of the same shape."""
    height, width = face.shape[:2]
    scale = _SQUARES / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    few = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _shape(width: int, height: int) -> npt.NDArray[np.float32]:
    """How much of the blur shows, float32 (height, width): all of it on the face, none at the corners."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    # Between an ellipse and a rectangle, so that a box's own corners, at 1 / (1 + 2 * _GROW), are well inside.
    far = (x**4)[None] + (y**4)[:, None]
    return np.asarray(np.clip((1 - far) / 0.4, 0, 1), np.float32)
