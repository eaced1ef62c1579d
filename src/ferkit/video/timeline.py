"""The timeline of a video: how long each person showed which expression, transitions, and the longest stretch.

It grows frame by frame in bounded memory: the longer a person is seen, the coarser the history for plots.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import count
from ferkit.render import Cell, ClassName, Column, DataTable, Document, Printed, Row, Section, Text
from ferkit.results import UNCERTAIN, Box
from ferkit.sources import printable_name
from ferkit.video.follower import TrackedFace
from ferkit.video.frames import Frame

# A plot is some two thousand pixels wide.
_MOST = 4096


class History:
    """Intervals in seconds with the probabilities in each."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._values: list[npt.NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start_s: float, end_s: float, probabilities: Sequence[float]) -> None:
        """Append an interval that does not begin before the last one ended."""
        self._starts.append(start_s)
        self._ends.append(end_s)
        self._values.append(np.array(probabilities))
        if len(self) > _MOST:
            self._halve()

    def runs(self) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Times (N + 1,) and probabilities (N + 1, classes) of each period in which the person was seen without a break.

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
        """Merge pairs of adjacent intervals, weighted by duration; gaps stay."""
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


# Number of people with a history; beyond it those seen briefly lose theirs, because plots show those seen longest.
_MOST_HISTORIES = 256
# After so many seconds a person does not come back under the same track number.
_GONE_S = 15.0
# In a summary for people.
_MOST_PEOPLE, _MOST_LABELS = 20, 3


@dataclass(frozen=True)
class FrameFaces:
    """What was found in one frame.

    Attributes:
        frame: Number, time and pixels.
        faces: From left to right.
        hidden: Expected boxes of tracked faces that this frame missed, for blurring.

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
    """A period in which a person showed one expression without a break, in seconds of the video."""

    label: str
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass
class PersonTimeline:
    """What one person showed.

    Attributes:
        track: Number of the track.
        first_s: When the person was first seen.
        last_s: When the person was last seen.
        seconds: Duration of each label; a frame counts until the next processed frame.
        transitions: Number of changes, by (from, to).
        longest: The longest period with one label.
        history: Probabilities over time, for plots.

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

    def see(self, face: TrackedFace, frame: int, start_s: float, end_s: float) -> Stretch:
        """Add a face that was seen from one frame to the next; `frame` counts processed frames.

        Returns the stretch that it belongs to, as long as it is so far.
        """
        label, before = face.face.label, self._current
        self.last_s = end_s
        self.seconds[label] = self.seconds.get(label, 0.0) + end_s - start_s
        if before is not None and before.label != label:
            self.transitions[before.label, label] += 1
        continues = before is not None and before.label == label and self._frame == frame - 1
        self._current = Stretch(label, before.start_s if continues and before else start_s, end_s)
        self._frame = frame
        if self.longest is None or self._current.seconds > self.longest.seconds + 1e-6:
            self.longest = self._current
        self.history.add(start_s, end_s, tuple(face.face.probabilities.values()))
        return self._current

    @property
    def present_s(self) -> float:
        """Total time in which the person was seen."""
        return sum(self.seconds.values())

    def summary(self) -> dict[str, Any]:
        """The person's entry in `ferkit video --json`."""
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


class Timeline(Printed):
    """What was found in a video so far, person by person.

    Attributes:
        source: Name of the video.
        classes: Classes of the model, in its order.
        people: Track number -> `PersonTimeline`.
        frames: Number of processed frames.
        frames_with_faces: Number of processed frames with a face.
        broken: Number of undecodable frames.
        problem: Why the video broke off, None if it did not.
        start_s: Where it was asked to begin.
        end_s: End of the last processed frame.
        stretches: (track, start) -> `Stretch`, all of them; None unless they are wanted, for they grow with the video.

    """

    def __init__(
        self, source: str, classes: Sequence[str], start_s: float = 0.0, *, keep_stretches: bool = False
    ) -> None:
        self.source = source
        self.classes = tuple(classes)
        self.people: dict[int, PersonTimeline] = {}
        self.frames = self.frames_with_faces = self.broken = 0
        self.problem: str | None = None
        self.start_s = self.end_s = start_s
        self.stretches: dict[tuple[int, float], Stretch] | None = {} if keep_stretches else None
        self._with_history: list[PersonTimeline] = []
        self._waiting: FrameFaces | None = None
        self._step = 0.0

    def add(self, found: FrameFaces) -> None:
        """Add the next frame. What it shows counts until the frame after it."""
        if self._waiting is not None:
            self._step = max(found.time_s - self._waiting.time_s, 0.0)
            self._count(self._waiting, found.time_s)
        self._waiting = found
        self.frames += 1
        self.frames_with_faces += bool(found.faces)

    def finish(self, end_s: float | None = None) -> None:
        """End the last frame at that time, or after the duration of the one before if None; may be called twice."""
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
            stretch = person.see(face, self.frames, found.time_s, end_s)
            if self.stretches is not None:
                self.stretches[face.track, stretch.start_s] = stretch

        if len(self._with_history) > _MOST_HISTORIES:
            self._forget(end_s - _GONE_S)

    def _forget(self, before_s: float) -> None:
        """Free half of the histories: those of people who were seen briefly and are gone."""
        ranked = sorted(self._with_history, key=lambda person: -person.present_s)
        for person in ranked[_MOST_HISTORIES // 2 :]:
            if person.last_s < before_s:
                person.history = History()
        self._with_history = [person for person in ranked if len(person.history)]

    @property
    def seconds(self) -> float:
        """How much of the video was processed."""
        return self.end_s - self.start_s

    @property
    def by_presence(self) -> list[PersonTimeline]:
        """All people, longest seen first."""
        return sorted(self.people.values(), key=lambda person: (-round(person.present_s, 6), person.track))

    def document(self) -> Document:
        """Who was seen when, and what they showed; those first who were seen longest."""
        people, end = self.by_presence, self.end_s
        about = (
            f"{clock(self.seconds, end)}, {count(self.frames, 'frame')} processed, "
            f"{len(people)} {'person' if len(people) == 1 else 'people'}, "
            f"faces in {self.frames_with_faces / max(self.frames, 1):.0%} of the frames"
        )
        rows = tuple(_row(person, end) for person in people[:_MOST_PEOPLE])
        words = (Column("longest", left=True), Column("emotions", left=True))
        table = DataTable(("person", "from", "to", "seen", "changes", *words), rows)
        more = len(people) - len(rows)
        rest = f"and {more} more, each seen for at most {clock(people[len(rows)].present_s, end)}" if more else ""
        blocks = (table, *((Text(rest),) if rest else ())) if people else ()
        return Document(printable_name(self.source), about, (Section("", blocks),))

    def summary(self) -> dict[str, Any]:
        """The document of `ferkit video --json`; times in seconds."""
        together: dict[str, float] = {}
        changes: Counter[tuple[str, str]] = Counter()
        for person in self.people.values():
            for label, seconds in person.seconds.items():
                together[label] = together.get(label, 0.0) + seconds
            changes.update(person.transitions)
        return {
            "source": self.source,
            "seconds": round(self.seconds, 3),
            "frames": self.frames,
            "frames_with_faces": self.frames_with_faces,
            "broken_frames": self.broken,
            "share": _share(together),
            "transitions": _changes(changes),
            "tracks": [person.summary() for person in self.people.values()],
            "error": self.problem,
        }


def _row(person: PersonTimeline, end: float) -> Row:
    longest = person.longest
    times = (clock(seconds, end) for seconds in (person.first_s, person.last_s, person.present_s))
    shares = list(_share(person.seconds).items())[:_MOST_LABELS]
    emotions = [part for label, share in shares for part in (ClassName(label), f" {share:.0%}  ")]
    return (
        str(person.track),
        *times,
        str(sum(person.transitions.values())),
        f"{longest.label} {clock(longest.seconds, end)}" if longest else "",
        Cell(tuple(emotions)),
    )


def _share(seconds: Mapping[str, float]) -> dict[str, float]:
    """Share of the time per label, largest first; they sum to 1."""
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: (-round(item[1], 6), item[0] == UNCERTAIN))
    # A single frame has no duration.
    return {label: round(one / total if total else 1 / len(seconds), 6) for label, one in ranked}


def _changes(transitions: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    ranked = sorted(transitions.items(), key=lambda item: -item[1])
    return [{"from": before, "to": after, "count": count} for (before, after), count in ranked]


def clock(seconds: float, longest: float) -> str:
    """A time of a video as players show it; in seconds if the video is short.

    >>> clock(75, longest=3600), clock(2.5, longest=6)
    ('1:15', '2.5 s')
    """
    if longest < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
