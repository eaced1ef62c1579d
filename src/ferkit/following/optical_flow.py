"""Where a face went from one frame to the next: cheap enough for every frame, between two searches of the detector.

Points all over the face are followed by pyramidal Lucas-Kanade flow (Bouguet 2000) there and back again; those that come
back to where they were (Kalal, Mikolajczyk & Matas 2010, "Forward-Backward Error") vote for one movement, a shift with a
turn and a zoom. A face that no longer looks as it did when the detector found it is lost, which is the way out at cuts
and behind hands.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.images import RgbImage
from ferkit.results import Box, Face

_Points = npt.NDArray[np.float32]

# Frames are followed at most this large; faces of 30 pixels in it have enough to hold on to.
_LONGEST = 640
_GRID = 7  # points across and down the face
_LEAST_POINTS = 10
# Pixels that a point may miss its start by, after there and back.
_MOST_ERROR = 1.0
_PATCH = 24
# Correlation with the face as it was found: below, it is lost. A smile leaves about 0.8, a hand or a cut less than 0.3.
_LEAST_LIKENESS = 0.45
# Correlation of whole frames, small: of neighbours in one shot 0.93 and more, of different scenes 0.57 and less (our clips
# and pictures).
_LEAST_IN_SHOT = 0.6
_OVERVIEW = (32, 18)
_BLANK = 4.0 * 24  # a standard deviation of 4 gray levels, times the root of 32 * 18
# Change of size in one step that is no movement of a person.
_MOST_ZOOM = 1.25


@dataclass(frozen=True)
class Gray:
    """A frame as flow sees it: uint8 (h, w), with `scale` of its pixels to one of the frame's.

    overview: the whole of it, tiny, with mean 0 and length 1. blank: whether there is nothing to see, as between two
    scenes that fade.
    """

    pixels: npt.NDArray[np.uint8]
    scale: float
    overview: npt.NDArray[np.float32]
    blank: bool

    @classmethod
    def of(cls, image: RgbImage) -> "Gray":
        """RGB uint8 (H, W, 3) in gray, shrunk where it is large."""
        scale = min(_LONGEST / max(image.shape[:2]), 1.0)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        pixels = gray.astype(np.uint8, copy=False)
        overview, length = _levelled(pixels, _OVERVIEW)
        return cls(pixels, scale, overview, blank=length < _BLANK)

    def patch(self, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """What is inside of x1 y1 x2 y2 (pixels of the frame), small, with mean 0 and length 1."""
        x1, y1, x2, y2 = corners * self.scale
        middle, size = ((x1 + x2) / 2, (y1 + y2) / 2), (max(round(x2 - x1), 2), max(round(y2 - y1), 2))
        return _levelled(cv2.getRectSubPix(self.pixels, size, middle), (_PATCH, _PATCH))[0]

    def cut_from(self, before: "Gray") -> bool:
        """Whether this frame shows another scene than an earlier one; neither is blank."""
        return float((self.overview * before.overview).sum()) < _LEAST_IN_SHOT


def _levelled(pixels: npt.NDArray[np.generic], size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], float]:
    """Pixels shrunk to that width and height, with mean 0 and length 1: products of two are correlations.

    Also how long they were, which is their deviation times the root of their number.
    """
    small = cv2.resize(np.asarray(pixels, np.uint8), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return np.asarray(small / max(length, 1e-6), np.float32), length


@dataclass(frozen=True)
class Followed:
    """A face between two searches. corners: x1 y1 x2 y2 with fractions, so that rounding does not add up."""

    face: Face
    corners: npt.NDArray[np.float64]
    looks: npt.NDArray[np.float32]

    @classmethod
    def found(cls, face: Face, frame: Gray) -> "Followed":
        """A face where the detector found it."""
        corners = np.array(face.box.to_list(), np.float64)
        return cls(face, corners, frame.patch(corners))

    def likeness(self, frame: Gray) -> float:
        """How much what is there now looks like the face that was found: a correlation, -1 to 1."""
        return float((self.looks * frame.patch(self.corners)).sum())


def follow(faces: dict[int, Followed], before: Gray, now: Gray, width: int, height: int) -> dict[int, Followed]:
    """Where faces of one frame are in the next, which is width x height pixels; those that were lost are left out."""
    if not faces or (before.pixels.shape, before.scale) != (now.pixels.shape, now.scale):
        return {}
    starts = [_grid(one.corners) * before.scale for one in faces.values()]
    ends, held = _flow(before, now, np.concatenate(starts).astype(np.float32))
    moved: dict[int, Followed] = {}
    for place, (number, one) in enumerate(faces.items()):
        part = slice(place * _GRID**2, (place + 1) * _GRID**2)
        good = held[part]
        step = _movement(starts[place][good] / before.scale, ends[part][good] / before.scale)
        after = None if step is None else _moved(one, step, width, height)
        if after is not None and after.likeness(now) >= _LEAST_LIKENESS:
            moved[number] = after
    return moved


def _grid(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points on the face, (49, 2): of the box's inner part, for its corners show what is behind."""
    x1, y1, x2, y2 = corners
    across = x1 + (x2 - x1) * np.linspace(0.15, 0.85, _GRID)
    down = y1 + (y2 - y1) * np.linspace(0.12, 0.9, _GRID)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def _flow(before: Gray, now: Gray, points: _Points) -> tuple[_Points, npt.NDArray[np.bool_]]:
    """Where points went, and which of them can be trusted."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
    nowhere = np.empty_like(points[:, None])
    ends, there, _ = cv2.calcOpticalFlowPyrLK(
        before.pixels, now.pixels, points[:, None], nowhere, winSize=(15, 15), maxLevel=3, criteria=stop
    )
    back, here, _ = cv2.calcOpticalFlowPyrLK(
        now.pixels, before.pixels, ends, nowhere.copy(), winSize=(15, 15), maxLevel=3, criteria=stop
    )
    error = np.linalg.norm(back[:, 0] - points, axis=1)
    return np.asarray(ends[:, 0], np.float32), (there[:, 0] == 1) & (here[:, 0] == 1) & (error < _MOST_ERROR)


def _movement(starts: npt.NDArray[np.floating], ends: npt.NDArray[np.floating]) -> npt.NDArray[np.float64] | None:
    """The shift, turn and zoom (2, 3) that most points agree on; None where too few do."""
    if len(starts) < _LEAST_POINTS:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(
        starts.astype(np.float32), ends.astype(np.float32), method=cv2.LMEDS, maxIters=200, refineIters=3
    )
    if matrix is None or int(agree.sum()) < _LEAST_POINTS:
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return np.asarray(matrix, np.float64) if 1 / _MOST_ZOOM < zoom < _MOST_ZOOM else None


def _moved(one: Followed, step: npt.NDArray[np.float64], width: int, height: int) -> Followed | None:
    """A face after a movement; None where less than half of it is left in the picture."""
    corners = one.corners.reshape(2, 2)
    zoom = float(np.hypot(step[0, 0], step[1, 0]))
    middle = step[:, :2] @ corners.mean(axis=0) + step[:, 2]
    half = (corners[1] - corners[0]) / 2 * zoom
    moved = np.concatenate([middle - half, middle + half])
    box = Box.inside(moved.tolist(), width, height)
    if box is None or box.width * box.height < 0.5 * (2 * half).prod():
        return None
    landmarks = one.face.landmarks and tuple(
        (float(x), float(y)) for x, y in np.array(one.face.landmarks) @ step[:, :2].T + step[:, 2]
    )
    return Followed(Face(box, one.face.detection_score, landmarks or None), moved, one.looks)
