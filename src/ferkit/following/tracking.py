"""Who is who from one frame to the next: boxes get the number of the person that they belong to.

A track is where a face was and how fast it moved. A new box belongs to the track whose box it overlaps most, where that
one should be by now; what overlaps none may still be one that moved fast, nearby and of the same size. Time is in
seconds, so left-out frames and variable frame rates need no care.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError
from ferkit.results import Box

_Vector = npt.NDArray[np.float64]

# Least overlap (intersection over union) of a box with a track's expected one.
_LEAST_OVERLAP = 0.2
# Without overlap: middles no further apart than so many mean sides, and sides within this factor.
_REACH = 1.2
_LARGEST_CHANGE = 1.8
# Nobody moves on in a straight line for long: an expected movement fades with this time constant, in seconds.
_COASTING_S = 0.25
# After so many seconds without any frame nobody is who they were.
_LONGEST_PAUSE_S = 10.0
# The velocity is a mean over so many seconds: boxes tremble.
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
        """Where its middle should be."""
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
    """Gives each box of a frame the number of its track: 1, 2, 3, ... in order of appearance, never used twice.

    max_gap_s: a face that frames did not show for longer comes back under a new number. Where there are no frames, as in
        a recording of a still screen, it may take ten seconds.

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
        """Take it as known where these tracks are, as from optical flow; numbers that are not alive are passed over."""
        for track, box in boxes.items():
            if track in self._tracks:
                self._tracks[track].move(box, time_s)

    def end_all(self) -> None:
        """Continue nobody, as after a cut: all who come get new numbers."""
        self._tracks.clear()

    def predict(self, time_s: float) -> dict[int, Box]:
        """Where each living track should be at that time; one that should have left the picture by then is not there."""
        self._end(time_s)
        boxes = {number: _box(track.expected(time_s), track.size) for number, track in self._tracks.items()}
        return {number: box for number, box in boxes.items() if box is not None}

    @property
    def living(self) -> frozenset[int]:
        """The tracks that may still be continued."""
        return frozenset(self._tracks)

    def _end(self, time_s: float) -> None:
        pause = max(self.max_gap_s, _LONGEST_PAUSE_S)
        self._tracks = {
            number: track
            for number, track in self._tracks.items()
            if time_s - track.seen <= (self.max_gap_s if track.missed else pause)
        }

    def _matches(self, boxes: Sequence[Box], time_s: float) -> dict[int, int]:
        """Place of a box -> its track, the best pairs first."""
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
    low = np.maximum((middles - sizes / 2)[:, None], (others - other_sizes / 2)[None])
    high = np.minimum((middles + sizes / 2)[:, None], (others + other_sizes / 2)[None])
    shared = np.maximum(high - low, 0).prod(axis=2)
    overlap = shared / (sizes.prod(axis=1)[:, None] + other_sizes.prod(axis=1)[None] - shared)
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
    """The part of a rectangle that lies right of and below the picture's first corner; its far edges are not known."""
    x1, y1 = (max(round(float(edge)), 0) for edge in middle - size / 2)
    x2, y2 = (round(float(edge)) for edge in middle + size / 2)
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
