"""Track faces from frame to frame: optical flow, matching of detections to tracks, and smoothing of probabilities.

Optical flow: points all over the face are tracked by pyramidal Lucas-Kanade flow (Bouguet 2000) forward and backward;
those that return to their start (Kalal, Mikolajczyk & Matas 2010, "Forward-Backward Error") vote for one similarity
transform. A face that no longer looks as it did when it was detected is lost, as at cuts and behind hands. This is
cheap enough for every frame between two runs of the detector.

Matching: a detection belongs to the track whose expected box it overlaps most; without overlap, to a track nearby of
similar size. Times are in seconds, so skipped frames and variable frame rates need no special care.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError
from ferkit.results import Box, Face, overlaps
from ferkit.sources import RgbImage

Values = npt.NDArray[np.floating[Any]]


class Smoother:
    """Exponential moving average of each track's probabilities.

    Args:
        time_constant_s: After this time a new expression has 63% of the weight (1 - 1/e), after three times as long
            95%. 0 turns smoothing off.

    Weights depend on time, not on the number of frames.

    >>> smoother = Smoother(time_constant_s=1.0)
    >>> smoother.update(1, 0.0, np.array([1.0, 0.0])).tolist()
    [1.0, 0.0]
    >>> smoother.update(1, 1.0, np.array([0.0, 1.0])).round(2).tolist()
    [0.37, 0.63]
    """

    def __init__(self, time_constant_s: float) -> None:
        if not (math.isfinite(time_constant_s) and time_constant_s >= 0):
            raise UsageError(f"The time constant of smoothing must be 0 or more seconds. Received: {time_constant_s}.")
        self.time_constant_s = time_constant_s
        self._means: dict[int, tuple[float, Values]] = {}

    def update(self, track: int, time_s: float, probabilities: Values) -> Values:
        """The mean of a track after new probabilities, float (classes,); it sums to 1 if all of them do.

        A time that is not after the last one leaves the mean unchanged.
        """
        if track not in self._means or self.time_constant_s == 0:
            self._means[track] = time_s, probabilities
            return probabilities
        before, mean = self._means[track]
        weight = -math.expm1(-max(time_s - before, 0.0) / self.time_constant_s)
        mean = mean + weight * (probabilities - mean)
        self._means[track] = max(before, time_s), mean
        return mean

    def forget(self, track: int) -> None:
        """Forget a track."""
        self._means.pop(track, None)


_Points = npt.NDArray[np.float32]

# Flow is computed on frames of at most this size; faces of 30 pixels in them have enough texture.
_LONGEST = 640
_GRID = 7  # points across and down the face
_LEAST_POINTS = 10
# Maximum forward-backward error in pixels.
_MOST_ERROR = 1.0
_PATCH = 24
# Minimum correlation with the detected face. A smile leaves about 0.8, a hand or a cut less than 0.3.
_LEAST_LIKENESS = 0.45
# Correlation of downsampled frames: at least 0.93 within a shot, at most 0.57 between scenes (our clips and images).
_LEAST_IN_SHOT = 0.6
_OVERVIEW = (32, 18)
_BLANK = 4.0 * 24  # a standard deviation of 4 gray levels, times the root of 32 * 18
# A larger change of size in one step is not a movement of a person.
_MOST_ZOOM = 1.25


@dataclass(frozen=True)
class Gray:
    """A grayscale frame for optical flow: uint8 (h, w), `scale` of its pixels to one of the frame's.

    overview: the downsampled frame, with mean 0 and length 1. blank: whether it has no contrast, as between two scenes
    that fade.
    """

    pixels: npt.NDArray[np.uint8]
    scale: float
    overview: npt.NDArray[np.float32]
    blank: bool

    @classmethod
    def of(cls, image: RgbImage) -> "Gray":
        """Convert RGB uint8 (H, W, 3), downsampled if it is large."""
        scale = min(_LONGEST / max(image.shape[:2]), 1.0)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        pixels = gray.astype(np.uint8, copy=False)
        overview, length = _normalized(pixels, _OVERVIEW)
        return cls(pixels, scale, overview, blank=length < _BLANK)

    def patch(self, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The downsampled content of x1 y1 x2 y2 (pixels of the frame), with mean 0 and length 1."""
        x1, y1, x2, y2 = corners * self.scale
        middle, size = ((x1 + x2) / 2, (y1 + y2) / 2), (max(round(x2 - x1), 2), max(round(y2 - y1), 2))
        return _normalized(cv2.getRectSubPix(self.pixels, size, middle), (_PATCH, _PATCH))[0]

    def cut_from(self, before: "Gray") -> bool:
        """Whether this frame shows another scene than an earlier one, neither of them blank."""
        return float((self.overview * before.overview).sum()) < _LEAST_IN_SHOT


def _normalized(pixels: npt.NDArray[np.generic], size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], float]:
    """Pixels downsampled to that width and height, with mean 0 and length 1, so that dot products are correlations.

    Also their length before, which is their standard deviation times the root of their number.
    """
    small = cv2.resize(np.asarray(pixels, np.uint8), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return np.asarray(small / max(length, 1e-6), np.float32), length


@dataclass(frozen=True)
class Followed:
    """A face between two runs of the detector. corners: float x1 y1 x2 y2, so that rounding errors do not add up."""

    face: Face
    corners: npt.NDArray[np.float64]
    looks: npt.NDArray[np.float32]

    @classmethod
    def found(cls, face: Face, frame: Gray) -> "Followed":
        """A detected face."""
        corners = np.array(face.box.to_list(), np.float64)
        return cls(face, corners, frame.patch(corners))

    def likeness(self, frame: Gray) -> float:
        """Correlation of the current content of the box with the detected face, -1 to 1."""
        return float((self.looks * frame.patch(self.corners)).sum())


def follow(faces: dict[int, Followed], before: Gray, now: Gray, width: int, height: int) -> dict[int, Followed]:
    """Where faces of one frame are in the next, of width x height pixels, without those that were lost."""
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
    """Points on the face, (49, 2), in the inner part of the box: its corners show the background."""
    x1, y1, x2, y2 = corners
    across = x1 + (x2 - x1) * np.linspace(0.15, 0.85, _GRID)
    down = y1 + (y2 - y1) * np.linspace(0.12, 0.9, _GRID)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def _flow(before: Gray, now: Gray, points: _Points) -> tuple[_Points, npt.NDArray[np.bool_]]:
    """New positions of points, and which of them are reliable."""
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
    """The similarity transform (2, 3) that most points agree on; None if too few do."""
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
    """A face after a movement; None if less than half of it is inside the frame."""
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
    turned = math.degrees(math.atan2(step[1, 0], step[0, 0]))
    roll = None if one.face.roll is None else one.face.roll + turned
    return Followed(Face(box, one.face.detection_score, landmarks or None, roll), moved, one.looks)


_Vector = npt.NDArray[np.float64]

# Minimum intersection over union of a box with a track's expected box.
_LEAST_OVERLAP = 0.2
# Without overlap: maximum distance of the centers in mean sides, and maximum ratio of the sides.
_REACH = 1.2
_LARGEST_CHANGE = 1.8
# The velocity fades with this time constant, in seconds: people do not move straight on for long.
_COASTING_S = 0.25
# After so many seconds without frames all tracks end.
_LONGEST_PAUSE_S = 10.0
# The velocity is averaged over so many seconds, because boxes jitter.
_VELOCITY_S = 0.1


@dataclass
class _Track:
    """middle: x, y; size: width, height; velocity: of the middle, in pixels per second; seen: seconds.

    missed: whether a frame since then did not show it.
    """

    middle: _Vector
    size: _Vector
    velocity: _Vector
    seen: float
    missed: bool = False

    def expected(self, time_s: float) -> _Vector:
        """Its expected center."""
        ahead = max(time_s - self.seen, 0.0)
        return self.middle + self.velocity * _COASTING_S * -math.expm1(-ahead / _COASTING_S)

    def move(self, box: Box, time_s: float) -> None:
        middle, size = _middle(box), _size(box)
        passed = time_s - self.seen
        if passed > 0:
            weight = -math.expm1(-passed / _VELOCITY_S)
            self.velocity = self.velocity + weight * ((middle - self.middle) / passed - self.velocity)
        self.middle, self.size, self.seen, self.missed = middle, size, max(time_s, self.seen), False


class FaceTracker:
    """Assigns track numbers to boxes: 1, 2, 3, ... in order of appearance, never used twice.

    Args:
        max_gap_s: A face that was missing in frames for longer returns under a new number. Without frames, as in a
            recording of a still screen, ten seconds may pass.

    Example:
        tracker = FaceTracker()
        tracker.update([Box(10, 10, 50, 60)], time_s=0.0)  # [1]
        tracker.update([Box(90, 10, 130, 60), Box(12, 10, 52, 60)], time_s=0.04)  # [2, 1]

    """

    def __init__(self, *, max_gap_s: float = 1.0) -> None:
        if not max_gap_s >= 0:
            raise UsageError(f"max_gap_s must be 0 or more seconds. Received: {max_gap_s}.")
        self.max_gap_s = max_gap_s
        self._tracks: dict[int, _Track] = {}
        self._last = 0

    def update(self, boxes: Sequence[Box], time_s: float) -> list[int]:
        """The track of each box, in order, at a time in seconds."""
        self._end(time_s)
        found = self._matches(boxes, time_s)
        for number in self._tracks.keys() - found.values():
            self._tracks[number].missed = True
        for place, box in enumerate(boxes):
            if place not in found:
                self._last += 1
                found[place] = self._last
                self._tracks[self._last] = _Track(_middle(box), _size(box), np.zeros(2), time_s)
            else:
                self._tracks[found[place]].move(box, time_s)
        return [found[place] for place in range(len(boxes))]

    def follow(self, boxes: Mapping[int, Box], time_s: float) -> None:
        """Set the boxes of these tracks, as from optical flow; ended tracks are ignored."""
        for track, box in boxes.items():
            if track in self._tracks:
                self._tracks[track].move(box, time_s)

    def end_all(self) -> None:
        """End all tracks, as after a cut."""
        self._tracks.clear()

    def predict(self, time_s: float) -> dict[int, Box]:
        """Expected box of each active track at that time, without those that should have left the frame."""
        self._end(time_s)
        boxes = {number: _box(track.expected(time_s), track.size) for number, track in self._tracks.items()}
        return {number: box for number, box in boxes.items() if box is not None}

    @property
    def living(self) -> frozenset[int]:
        """The tracks that can still continue."""
        return frozenset(self._tracks)

    def _end(self, time_s: float) -> None:
        pause = max(self.max_gap_s, _LONGEST_PAUSE_S)
        self._tracks = {
            number: track
            for number, track in self._tracks.items()
            if time_s - track.seen <= (self.max_gap_s if track.missed else pause)
        }

    def _matches(self, boxes: Sequence[Box], time_s: float) -> dict[int, int]:
        """Index of a box -> its track, best pairs first."""
        if not boxes or not self._tracks:
            return {}
        numbers = list(self._tracks)
        tracks = [self._tracks[number] for number in numbers]
        score = _likeness(
            np.array([track.expected(time_s) for track in tracks]),
            np.array([track.size for track in tracks]),
            np.array([_middle(box) for box in boxes]),
            np.array([_size(box) for box in boxes]),
        )
        matches: dict[int, int] = {}
        for flat in np.argsort(-score, axis=None, kind="stable"):
            row, place = divmod(int(flat), len(boxes))
            if score[row, place] == -np.inf:
                break
            if place not in matches and numbers[row] not in matches.values():
                matches[place] = numbers[row]
        return matches


def _likeness(middles: _Vector, sizes: _Vector, others: _Vector, other_sizes: _Vector) -> _Vector:
    """How well N tracks and M boxes go together, (N, M).

    Their overlap, 0 to 1, where there is enough; else minus their distance in sides, where it is small; else -inf.
    """
    overlap = overlaps(
        np.hstack([middles - sizes / 2, middles + sizes / 2]),
        np.hstack([others - other_sizes / 2, others + other_sizes / 2]),
    )
    sides, other_sides = sizes.mean(axis=1)[:, None], other_sizes.mean(axis=1)[None]
    distance = np.linalg.norm(middles[:, None] - others[None], axis=2) / ((sides + other_sides) / 2)
    change = np.maximum(sides / other_sides, other_sides / sides)
    near = (distance <= _REACH) & (change <= _LARGEST_CHANGE)
    score: _Vector = np.where(overlap >= _LEAST_OVERLAP, overlap, np.where(near, -distance, -np.inf))
    return score


def _middle(box: Box) -> _Vector:
    return np.array([(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2])


def _size(box: Box) -> _Vector:
    return np.array([box.width, box.height], np.float64)


def _box(middle: _Vector, size: _Vector) -> Box | None:
    """The part of a rectangle right of and below the origin; the far edges of the frame are not known."""
    x1, y1 = (max(round(float(edge)), 0) for edge in middle - size / 2)
    x2, y2 = (round(float(edge)) for edge in middle + size / 2)
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
