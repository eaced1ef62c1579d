"""The work on a part of the plan: its pictures in, its Parquet file out. Every engine runs this, so all give the same rows.

A picture that kills the process costs one row. A process writes a marker when it begins a part and removes it at the
end, also at an end by an error or by Ctrl-C. A marker that is found tells of a process that died, at an unknown
picture. The part is then done carefully: before each picture the marker names it, and a picture at which processes died
twice is left out. The same goes for a picture that takes `PICTURE_S`: the process then ends itself.
"""

import faulthandler
import json
import os
import re
import socket
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeAlias

import cv2

from ferkit._support.parallel import limit_cores
from ferkit.batch.job import FOLDER, Job, checksums, load_recognizer, part_name
from ferkit.batch.plan import read_part
from ferkit.batch.storage import Storage
from ferkit.batch.table import PartTable, counts_of
from ferkit.errors import FerkitError, ModelError, VideoError, one_line
from ferkit.results import PictureResult
from ferkit.sources import Picture, Reference, entries, read_pictures, reason, taken_at
from ferkit.video import Timeline, VideoSettings, analyze_opened, last_row, record_of, video_name, video_rows

# A neighbour that takes all memory may kill a process at any picture, but hardly twice at the same one.
DEATHS = 2
# Deaths in a row at no picture at all: then the next attempt would end like these.
_UNEXPLAINED = 5

# What a picture may take, with its way from a store: no thread can be ended in the middle of decoding, a process can.
PICTURE_S = 120.0

BEGUN = f"{FOLDER}/begun"
_NAME = re.compile(r"(\d{6,})\.json")


@dataclass
class _Marker:
    """What a process leaves behind. at: number of the picture in its part, None in front of the first and after the last.

    deaths: how often at which picture. unexplained: how often in a row at none.
    """

    at: int | None = None
    deaths: Counter[int] = field(default_factory=Counter)
    unexplained: int = 0

    @classmethod
    def read(cls, data: bytes) -> "_Marker":
        try:
            found = json.loads(data)
            deaths = Counter({int(picture): int(count) for picture, count in found["deaths"].items()})
            return cls(found["at"], deaths, int(found["unexplained"]))
        except (ValueError, KeyError, TypeError, AttributeError):  # cut short by a machine that died
            return cls()

    def count_death(self) -> None:
        """Count the death of the process that left it."""
        if self.at is None:
            self.unexplained += 1
        else:
            self.deaths[self.at] += 1
            self.unexplained = 0
        self.at = None


class Attempt:
    """One attempt at a part, used in a `with` block.

    careful: whether a process died in this part before, so that `at` is to be told of each picture.
    """

    def __init__(self, storage: Storage, part: int) -> None:
        self._storage, self._part, self._name = storage, part, _name(part)
        found = storage.read(self._name)
        self.careful = found is not None
        self._marker = _Marker() if found is None else _Marker.read(found)

    def __enter__(self) -> Self:
        if self.careful:
            self._marker.count_death()
        if self._marker.unexplained >= _UNEXPLAINED:
            self._marker.unexplained = 0  # for those who run it again
            self.at(None)
            raise FerkitError(
                f"{_UNEXPLAINED} processes crashed in part {self._part}, outside of all images. Is there enough memory "
                "for so many workers? To resume, run the same command."
            )
        try:
            self.at(None)
        except BaseException as told:  # SIGTERM, for one: what raises in here gets no `__exit__`
            self.__exit__(type(told), told, told.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if kind is None or not self.careful:
            self._storage.remove(self._name)
        else:
            self.at(None)

    def deadly(self, picture: int) -> bool:
        """Whether processes died twice at this picture of the part."""
        return self._marker.deaths[picture] >= DEATHS

    def begin(self, picture: int) -> bool:
        """The same, unless it is deadly: then False."""
        if self.deadly(picture):
            return False
        self.at(picture)
        return True

    def at(self, picture: int | None) -> None:
        """Say which picture of the part comes next; None when what follows is no picture's work."""
        self._marker.at = picture
        # What a dead process wrote is there; only a dead machine may take it along, and that is no picture's fault.
        self._storage.write(self._name, json.dumps(vars(self._marker)).encode(), lasting=False)


def forget(storage: Storage, part: int) -> None:
    """Take the marker of a part away that is done: its process died in between."""
    storage.remove(_name(part))


def clear_blame(storage: Storage, part: int) -> None:
    """What `Attempt` does at an end in good order, for a process that ended by the driver's will: deaths stay counted."""
    data = storage.read(_name(part))
    marker = _Marker() if data is None else _Marker.read(data)
    if not (marker.deaths or marker.unexplained):
        forget(storage, part)
    elif marker.at is not None:
        marker.at = None
        storage.write(_name(part), json.dumps(vars(marker)).encode(), lasting=False)


def begun_parts(storage: Storage) -> set[int]:
    """The parts that have a marker."""
    return {int(match[1]) for match in map(_NAME.fullmatch, storage.names(BEGUN)) if match}


def _name(part: int) -> str:
    return f"{BEGUN}/{part:06}.json"


# Black faces are added where there are fewer: in smaller batches some networks answer differently in the last bit
# (docs/LOG.md, 2026-11-23), and rows must not depend on which pictures came together.
BATCH_FACES = 32

# What was found in a picture, and when it was taken.
_Row: TypeAlias = tuple[PictureResult, datetime | None]


@dataclass(frozen=True)
class PartSummary:
    """What became of a part.

    pictures, faces, errors: how many; an error is a picture that could not be read. seconds: what it took. skipped:
    whether it was there already.
    """

    part: int
    pictures: int
    faces: int
    errors: int
    seconds: float
    skipped: bool = False


class PartWorker:
    """Does parts of a job, one after the other: made once per process, so that the model is loaded once.

    Takes one core and one thread of ONNX Runtime. Calling it with the number of a part writes that part, unless it is
    there; see `ferkit.batch.worker` for pictures that kill the process.

    Raises:
        ModelError: the model or the detector is not the one that the job was started with. FerkitError: the results
            cannot be written, or the pictures cannot be asked for, so that the job had better stop.
    """

    def __init__(self, job: Job) -> None:
        # Pillow warns of large pictures and odd metadata; what cannot be read has a row that says so.
        warnings.filterwarnings("ignore", module="PIL")
        limit_cores(1)
        cv2.setNumThreads(1)
        self.job = job
        self._storage = job.storage()
        found = checksums(job.settings)
        for what, expected in job.checksums.items():
            if what not in found:
                raise ModelError(
                    f"The file of the {what} that the job was started with is missing on {socket.gethostname()}. "
                    "Put the same files on all machines."
                )
            if found[what] != expected:
                raise ModelError(
                    f"The {what} of a worker is not the one that the job was started with (SHA-256 differs). "
                    "Put the same files on all machines."
                )
        self._recognizer = load_recognizer(job.settings)

    def __call__(self, part: int) -> PartSummary:
        there = summary_of(self._storage, part)
        if there is not None:
            forget(self._storage, part)
            return there
        started = time.perf_counter()
        with Attempt(self._storage, part) as attempt:
            video = self.job.settings.video
            about = self._recognizer.describe() | ({} if video is None else {"video": video.describe()})
            table = PartTable(self._recognizer.classes, about, videos=video is not None)
            references = read_part(self._storage, part)
            rows: Iterator[_Row] = iter(())
            if video is None:
                rows = (
                    self._careful_rows(references, attempt)
                    if attempt.careful
                    else self._rows(read_pictures(references))
                )
            with _deadline():
                for result, taken in rows:
                    table.add(result, taken)
                if video is not None:
                    table.about["videos"] = [
                        self._watch(reference, video, table, deadly=attempt.careful and not attempt.begin(number))
                        for number, reference in enumerate(references)
                    ]
            seconds = round(time.perf_counter() - started, 3)
            summary = PartSummary(part, table.pictures, table.faces, table.errors, seconds)
            self._storage.write(part_name(part), table.to_parquet(asdict(summary)))
        return summary

    def _careful_rows(self, references: Sequence[Reference], attempt: Attempt) -> Iterator[_Row]:
        """One picture at a time, leaving out those that are deadly."""
        for number, (name, get) in enumerate(entries(references)):
            if attempt.deadly(number):
                yield PictureResult.failed(name, _deadly(name)), None
            else:
                attempt.at(number)
                yield from self._rows([get()])
        attempt.at(None)

    def _watch(
        self, reference: Reference, settings: VideoSettings, table: PartTable, *, deadly: bool
    ) -> dict[str, Any]:
        """Add the rows of a video, the same as `ferkit video` writes; what cannot be read has one that says why."""
        faces, rate = 0, None
        timeline = Timeline(video_name(reference), self._recognizer.classes)
        try:
            if deadly:
                raise VideoError(_deadly(timeline.source))
            frames = settings.open(reference)
            rate = frames.rate
            with analyze_opened(frames, self._recognizer, settings) as analysis:
                timeline = analysis.timeline
                for found in analysis:
                    _begin_picture()
                    table.add_rows(video_rows(timeline.source, found))
                    faces += len(found.faces)
        except VideoError as problem:
            timeline.problem = str(problem)
        except FerkitError:
            raise  # a broken model, or a detector that returns no faces: not this video's fault
        except Exception as problem:
            timeline.problem = one_line(f"{type(problem).__name__}: {reason(problem)}")
        table.add_rows(last_row(timeline))
        table.count(faces, failed=timeline.problem is not None)
        return record_of(timeline, rate, reference.path)

    def _rows(self, pictures: Iterable[Picture]) -> Iterator[_Row]:
        taken: deque[datetime | None] = deque()

        def seen() -> Iterator[Picture]:
            for picture in pictures:
                _begin_picture()
                taken.append(None if picture.source is None else taken_at(picture.source))
                yield picture

        for result in self._recognizer.stream(seen(), batch_size=BATCH_FACES, report_failures=True):
            when = taken.popleft()
            yield result, when if result.error is None else None


def _deadly(name: str) -> str:
    return (
        f"Cannot read {name}: the process crashed on it {DEATHS} times, or took more than {PICTURE_S:g} s. "
        "Try to open it with another program."
    )


@contextmanager
def _deadline() -> Iterator[None]:
    """End this process where a picture of the block takes more than `PICTURE_S`, counted anew by `_begin_picture`."""
    _begin_picture()
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _begin_picture() -> None:
    # Its thread needs no lock of Python's, so no decoder keeps it waiting.
    faulthandler.dump_traceback_later(PICTURE_S, file=_NOWHERE, exit=True)


_NOWHERE = open(os.devnull, "wb")  # noqa: PTH123, SIM115 - as long as the process


def summary_of(storage: Storage, part: int) -> PartSummary | None:
    """What became of a part earlier; None where it is not done."""
    counts = counts_of(storage, part_name(part))
    return None if counts is None else PartSummary(**{**counts, "part": part, "skipped": True})
