"""The work itself: a part of the plan in, its Parquet file out. Every engine runs this, so all give the same rows."""

import socket
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ferkit import tta as augmented
from ferkit.batch.attempts import DEATHS, Attempt, forget
from ferkit.batch.job import Job, part_name
from ferkit.batch.plan import read_part
from ferkit.batch.reading import Picture, entries, pictures
from ferkit.batch.references import Reference
from ferkit.batch.settings import checksums, load_recognizer
from ferkit.batch.storage import Storage, reason
from ferkit.batch.table import PartTable, counts_of
from ferkit.batch.taken import taken_at
from ferkit.cropping import cut_face
from ferkit.errors import FerkitError, ImageError, ModelError
from ferkit.images import read_image
from ferkit.parallel import limit_cores
from ferkit.results import Face, FaceEmotion, PictureResult

# Faces of several pictures go through the network together, always so many, black ones added where they are too few: in
# smaller batches some networks answer differently in the last bit (docs/LOG.md, 2026-11-23), and rows must not
# depend on which pictures came together.
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
    there; see `ferkit.batch.attempts` for pictures that kill the process.

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
            table = PartTable(self._recognizer.classes)
            references = read_part(self._storage, part)
            if attempt.careful:
                rows = self._careful_rows(references, attempt)
            else:
                rows = self._classify(map(self._look, pictures(references)))
            for result, taken in rows:
                table.add(result, taken)
            seconds = round(time.perf_counter() - started, 3)
            summary = PartSummary(part, table.pictures, table.faces, table.errors, seconds)
            self._storage.write(part_name(part), table.to_parquet(asdict(summary)))
        return summary

    def _careful_rows(self, references: Sequence[Reference], attempt: Attempt) -> Iterator[_Row]:
        """One picture at a time, leaving out those that are deadly."""
        for number, (name, get) in enumerate(entries(references)):
            if attempt.deadly(number):
                why = f"Cannot read {name}: the process died of it {DEATHS} times. Look at it with another program."
                yield PictureResult.failed(name, why), None
            else:
                attempt.at(number)
                yield from self._classify([self._look(get())])
        attempt.at(None)

    def _look(self, picture: Picture) -> "_Seen":
        """Everything in front of the network."""
        if picture.source is None:
            return _Seen(PictureResult.failed(picture.name, picture.problem or "Cannot be read."))
        try:
            taken = taken_at(picture.source)
            image = read_image(picture.source)
            faces = self._recognizer.detect(image)
            face_input = self._recognizer.classifier.face_input
            cut = [cut_face(image, face, face_input) for face in faces]
            return _Seen(PictureResult(picture.name, image.shape[1], image.shape[0]), taken, faces, cut)
        except ImageError as problem:
            return _Seen(PictureResult.failed(picture.name, str(problem)))
        except FerkitError:
            raise  # a detector that is none, a model that is broken: not this picture's fault
        except (
            Exception
        ) as problem:  # a detector may meet a picture with any exception, and one costs no more than a row
            why = f"Cannot read {picture.name}: it was decoded, and then {type(problem).__name__}: {reason(problem)}."
            return _Seen(PictureResult.failed(picture.name, why))

    def _classify(self, found: "Iterable[_Seen]") -> Iterator[_Row]:
        """The rows of pictures, in their order; faces go through the network as soon as there is a batch of them."""
        waiting: deque[_Seen] = deque()
        faces: list[npt.NDArray[np.uint8]] = []
        answers: deque[npt.NDArray[np.floating[Any]]] = deque()
        for one in found:
            waiting.append(one)
            faces += one.cut
            while len(faces) >= BATCH_FACES:
                answers.extend(self._probabilities(faces[:BATCH_FACES]))
                del faces[:BATCH_FACES]
            while waiting and len(answers) >= len(waiting[0].faces):
                yield self._row(waiting.popleft(), answers)
        if faces:
            answers.extend(self._probabilities(faces))
        for one in waiting:
            yield self._row(one, answers)

    def _probabilities(self, faces: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.floating[Any]]:
        """Probabilities of at most `BATCH_FACES` faces, (len(faces), classes)."""
        batch = np.zeros((BATCH_FACES, *faces[0].shape), np.uint8)
        batch[: len(faces)] = faces
        return augmented.predict_proba(self._recognizer.classifier, batch, self._recognizer.tta)[: len(faces)]

    def _row(self, seen: "_Seen", answers: deque[npt.NDArray[np.floating[Any]]]) -> _Row:
        classes, least = self._recognizer.classes, self._recognizer.min_confidence
        emotions = tuple(FaceEmotion.from_probabilities(face, classes, answers.popleft(), least) for face in seen.faces)
        return replace(seen.result, faces=emotions, classes=classes), seen.taken


@dataclass(frozen=True)
class _Seen:
    """A picture between detection and classification. cut: uint8 (height, width, channels) for each face."""

    result: PictureResult
    taken: datetime | None = None
    faces: Sequence[Face] = ()
    cut: Sequence[npt.NDArray[np.uint8]] = ()


def summary_of(storage: Storage, part: int) -> PartSummary | None:
    """What became of a part earlier; None where it is not done."""
    counts = counts_of(storage, part_name(part))
    return None if counts is None else PartSummary(**{**counts, "part": part, "skipped": True})
