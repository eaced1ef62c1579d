"""A person's probabilities over time in bounded memory, for plots: the longer it gets, the coarser it becomes.

What happened in a video: how long each person showed which emotion, when it changed, what lasted longest.

It grows frame by frame and holds a few numbers per person, however long the video is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.results import UNCERTAIN, Box
from ferkit.video.follower import TrackedFace
from ferkit.video.frames import Frame

# A plot is some two thousand pixels wide.
_MOST = 4096


class History:
    """Stretches of time with the probabilities shown in them: each lasts from its start to its end, in seconds."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._values: list[npt.NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start_s: float, end_s: float, probabilities: Sequence[float]) -> None:
        """Append a stretch that does not begin before the last one ended."""
        self._starts.append(start_s)
        self._ends.append(end_s)
        self._values.append(np.array(probabilities))
        if len(self) > _MOST:
            self._halve()

    def runs(self) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Times (N + 1,) and probabilities (N + 1, classes) of each time that the person was there without a break.

        Probabilities hold from their time on; the last ones are repeated at the end.
        """
        found: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        first = 0
        for place in range(1, len(self) + 1):
            if place == len(self) or self._starts[place] > self._ends[place - 1] + 1e-6:
                times = np.array([*self._starts[first:place], self._ends[place - 1]])
                found.append((times, np.array([*self._values[first:place], self._values[place - 1]])))
                first = place
        return found

    def _halve(self) -> None:
        """Make one of each two neighbours, weighted by how long they last; gaps stay."""
        starts, ends, values = self._starts, self._ends, self._values
        self._starts, self._ends, self._values = [], [], []
        place = 0
        while place < len(starts):
            last = min(place + 1, len(starts) - 1)
            if starts[last] > ends[place] + 1e-6:
                last = place
            lasting = np.maximum(np.subtract(ends[place : last + 1], starts[place : last + 1]), 1e-9)
            self._starts.append(starts[place])
            self._ends.append(ends[last])
            self._values.append(np.average(values[place : last + 1], axis=0, weights=lasting))
            place = last + 1


# People whose history is kept; of more, those who were seen least lose theirs, and plots show those seen longest.
_MOST_HISTORIES = 256
# Who went so many seconds ago does not come back under the same number.
_GONE_S = 15.0


@dataclass(frozen=True)
class FrameFaces:
    """What was found in one frame.

    frame: number, time and pixels. faces: from left to right. hidden: where people who were seen a moment ago should be,
        for blurring.
    """

    frame: Frame
    faces: tuple[TrackedFace, ...]
    hidden: tuple[Box, ...] = ()

    @property
    def number(self) -> int:
        return self.frame.number

    @property
    def time_s(self) -> float:
        return self.frame.time_s


@dataclass(frozen=True)
class Stretch:
    """A time in which a person showed one emotion without a break, in seconds of the video."""

    label: str
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass
class PersonTimeline:
    """One track. seconds: label -> how long it was shown. transitions: (from, to) -> how often.

    Seconds count from each frame to the next one that was looked at.
    """

    track: int
    first_s: float
    last_s: float
    seconds: dict[str, float] = field(default_factory=dict)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    longest: Stretch | None = None
    history: History = field(default_factory=History)
    _current: Stretch | None = None
    _frame: int = -1

    def see(self, face: TrackedFace, frame: int, start_s: float, end_s: float) -> None:
        """A face was there from one frame to the next; `frame` counts the frames that were looked at."""
        label, before = face.face.label, self._current
        self.last_s = end_s
        self.seconds[label] = self.seconds.get(label, 0.0) + end_s - start_s
        if before is not None and before.label != label:
            self.transitions[before.label, label] += 1
        goes_on = before is not None and before.label == label and self._frame == frame - 1
        self._current = Stretch(label, before.start_s if goes_on and before else start_s, end_s)
        self._frame = frame
        if self.longest is None or self._current.seconds > self.longest.seconds + 1e-6:
            self.longest = self._current
        self.history.add(start_s, end_s, tuple(face.face.probabilities.values()))

    @property
    def present_s(self) -> float:
        """How long the person was seen in all."""
        return sum(self.seconds.values())

    def summary(self) -> dict[str, Any]:
        """As `ferkit video --json` has it."""
        longest = self.longest
        return {
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "seconds": round(self.present_s, 3),
            "share": _share(self.seconds),
            "transitions": _changes(self.transitions),
            "longest": longest
            and {"label": longest.label, "start_s": round(longest.start_s, 3), "end_s": round(longest.end_s, 3)},
        }


class Timeline:
    """What was found in a video so far, person by person.

    source: what the video is called. classes: of the model, in its order. broken: frames that could not be decoded.
    problem: why the video broke off, None if it did not. frames: how many were looked at. frames_with_faces: how many of
    these show a face.
    """

    def __init__(self, source: str, classes: Sequence[str]) -> None:
        self.source = source
        self.classes = tuple(classes)
        self.people: dict[int, PersonTimeline] = {}
        self.frames = self.frames_with_faces = self.broken = 0
        self.problem: str | None = None
        self.end_s = 0.0
        self._with_history: list[PersonTimeline] = []
        self._waiting: FrameFaces | None = None
        self._step = 0.0

    def add(self, found: FrameFaces) -> None:
        """Take in the next frame. What it shows counts until the frame after."""
        if self._waiting is not None:
            self._step = max(found.time_s - self._waiting.time_s, 0.0)
            self._count(self._waiting, found.time_s)
        self._waiting = found
        self.frames += 1
        self.frames_with_faces += bool(found.faces)

    def finish(self, end_s: float | None = None) -> None:
        """The last frame lasts until that time, or if it is not known as long as the one before; may be called twice."""
        if self._waiting is not None:
            begun = self._waiting.time_s
            self._count(self._waiting, begun + self._step if end_s is None or end_s <= begun else end_s)
            self._waiting = None

    def _count(self, found: FrameFaces, end_s: float) -> None:
        self.end_s = end_s
        for face in found.faces:
            person = self.people.get(face.track)
            if person is None:
                person = self.people[face.track] = PersonTimeline(face.track, found.time_s, found.time_s)
                self._with_history.append(person)
            person.see(face, self.frames, found.time_s, end_s)

        if len(self._with_history) > _MOST_HISTORIES:
            self._forget(end_s - _GONE_S)

    def _forget(self, before_s: float) -> None:
        """Free half of the histories, of people seen briefly who are gone."""
        ranked = sorted(self._with_history, key=lambda person: -person.present_s)
        for person in ranked[_MOST_HISTORIES // 2 :]:
            if person.last_s < before_s:
                person.history = History()
        self._with_history = [person for person in ranked if len(person.history)]

    @property
    def by_presence(self) -> list[PersonTimeline]:
        """All people, those first who are seen longest."""
        return sorted(self.people.values(), key=lambda person: (-round(person.present_s, 6), person.track))

    def summary(self) -> dict[str, Any]:
        """What `ferkit video --json` prints: plain numbers, times in seconds."""
        together: dict[str, float] = {}
        changes: Counter[tuple[str, str]] = Counter()
        for person in self.people.values():
            for label, seconds in person.seconds.items():
                together[label] = together.get(label, 0.0) + seconds
            changes.update(person.transitions)
        return {
            "source": self.source,
            "seconds": round(self.end_s, 3),
            "frames": self.frames,
            "frames_with_faces": self.frames_with_faces,
            "broken_frames": self.broken,
            "share": _share(together),
            "transitions": _changes(changes),
            "tracks": [person.summary() for person in self.people.values()],
            "error": self.problem,
        }


def _share(seconds: Mapping[str, float]) -> dict[str, float]:
    """Part of the time per label, largest first; they sum to 1."""
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: (-round(item[1], 6), item[0] == UNCERTAIN))
    # One frame alone lasts no time, and is all there is.
    return {label: round(one / total if total else 1 / len(seconds), 6) for label, one in ranked}


def _changes(transitions: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    ranked = sorted(transitions.items(), key=lambda item: -item[1])
    return [{"from": before, "to": after, "count": count} for (before, after), count in ranked]
