"""The faces of a stream, frame after frame: who is who, where, and the emotion smoothed over time.

A detector on every frame costs most of the time and lets boxes tremble. So it searches every few tenths of a second,
and at once when a face got lost; in between faces are followed by optical flow, and classified on every frame.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferkit.errors import UsageError
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, FaceEmotion
from ferkit.sources import RgbImage
from ferkit.video.tracking import FaceTracker, Followed, Gray, Smoother, follow

DETECT_EVERY_S = 0.2
TIME_CONSTANT_S = 0.3
MAX_GAP_S = 1.0

# A face that the detector missed once is kept if it looks this much like the face that it found last.
_SURELY_THE_SAME = 0.85


@dataclass(frozen=True)
class TrackedFace:
    """A face of one frame with the number of the person that it belongs to.

    track: 1, 2, 3, ... in order of appearance. face: box, and emotion smoothed over time. raw: the probabilities of
        this frame alone, class -> probability in the model's class order.
    """

    track: int
    face: FaceEmotion
    raw: Mapping[str, float] = field(hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The face as the JSON of `ferkit predict` has it, with "track" and "raw"."""
        return {
            **self.face.to_dict(),
            "track": self.track,
            "raw": {name: round(float(p), 6) for name, p in self.raw.items()},
        }


class FaceFollower:
    """Recognises and follows the faces of one stream; call it with frame after frame.

    Belongs to one stream and one thread at a time; many may share a recognizer. It holds two small frames and nothing
    else, so it can be dropped at any time.

    Args:
        recognizer: finds and classifies the faces.
        detect_every_s: seconds between two searches of the detector; 0 searches every frame.
        time_constant_s: of `ferkit.video.tracking.Smoother`.
        max_gap_s: a face that is gone for longer comes back under a new number.

    """

    def __init__(
        self,
        recognizer: EmotionRecognizer,
        *,
        detect_every_s: float = DETECT_EVERY_S,
        time_constant_s: float = TIME_CONSTANT_S,
        max_gap_s: float = MAX_GAP_S,
    ) -> None:
        if not (math.isfinite(detect_every_s) and detect_every_s >= 0):
            raise UsageError(f"detect_every_s must be 0 or more seconds. Received: {detect_every_s}.")
        self.recognizer = recognizer
        self.detect_every_s = detect_every_s
        self._tracker = FaceTracker(max_gap_s=max_gap_s)
        self._smoother = Smoother(time_constant_s)
        self._smoothed: frozenset[int] = frozenset()
        self._faces: dict[int, Followed] = {}
        self._missed: set[int] = set()
        self._before: Gray | None = None
        self._scene: Gray | None = None  # the last frame that was not blank
        self._detected = -math.inf

    def __call__(self, image: RgbImage, time_s: float) -> list[TrackedFace]:
        """The faces of the next frame, from left to right.

        image: RGB uint8 (H, W, 3). time_s: seconds since any moment; it should rise.
        """
        now = Gray.of(image)
        height, width = image.shape[:2]
        followed = follow(self._faces, self._before, now, width, height) if self._before is not None else {}
        if cut := self._cut(now) and not followed:
            # Whoever is there now, in whatever place, need not be who was there before.
            self._tracker.end_all()
        self._tracker.follow({track: one.face.box for track, one in followed.items()}, time_s)
        lost = len(followed) < len(self._faces)
        # Half a frame's jitter must not make a search wait for the frame after.
        if cut or lost or not 0 <= time_s - self._detected < self.detect_every_s - 1e-3:
            followed = self._search(image, now, followed, time_s)
        self._before, self._faces = now, dict(sorted(followed.items(), key=_from_left))
        return self._classified(image, time_s)

    def _cut(self, now: Gray) -> bool:
        """Whether another scene begins with this frame, perhaps after a fade."""
        scene, blank = self._scene, now.blank
        if not blank:
            self._scene = now
        return not blank and scene is not None and now.cut_from(scene)

    def hidden(self, time_s: float) -> tuple[Box, ...]:
        """Where people should be who were seen less than `max_gap_s` ago, and are not now: what blurring must not miss."""
        expected = self._tracker.predict(time_s)
        return tuple(box for track, box in expected.items() if track not in self._faces)

    def _search(self, image: RgbImage, now: Gray, followed: dict[int, Followed], time_s: float) -> dict[int, Followed]:
        found = self.recognizer.detect(image)
        tracks = self._tracker.update([face.box for face in found], time_s)
        self._detected = time_s
        seen = {track: Followed.found(face, now) for track, face in zip(tracks, found, strict=True)}
        missed = {
            track: one
            for track, one in followed.items()
            if track not in seen and track not in self._missed and one.likeness(now) >= _SURELY_THE_SAME
        }
        self._missed = set(missed)
        return {**seen, **missed}

    def _classified(self, image: RgbImage, time_s: float) -> list[TrackedFace]:
        recognizer = self.recognizer
        living = self._tracker.living
        for track in self._smoothed - living:
            self._smoother.forget(track)
        self._smoothed = living
        rows = recognizer.probabilities(image, [one.face for one in self._faces.values()])
        faces = []
        for (track, one), raw in zip(self._faces.items(), rows, strict=True):
            smooth = self._smoother.update(track, time_s, np.asarray(raw, np.float64))
            emotion = FaceEmotion.from_probabilities(one.face, recognizer.classes, smooth, recognizer.min_confidence)
            faces.append(TrackedFace(track, emotion, dict(zip(recognizer.classes, map(float, raw), strict=True))))
        return faces


def _from_left(item: tuple[int, Followed]) -> tuple[int, int]:
    box = item[1].face.box
    return box.x1, box.y1
