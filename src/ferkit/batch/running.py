"""One driver per OUT: where two ran at once they would do everything twice.

A job from SRC to a whole OUT: planned once, run until nothing is left, told about on the way.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferkit._support.files import blame
from ferkit._support.parallel import ordered_map
from ferkit.batch.engines import ENGINES, check_engine
from ferkit.batch.job import FOLDER, Job, Settings, done_parts
from ferkit.batch.plan import holds_videos, prepare
from ferkit.batch.storage import Storage, open_storage
from ferkit.batch.worker import BEGUN, PartSummary, begun_parts, forget, summary_of
from ferkit.detection import FaceDetector, Orientation
from ferkit.errors import FerkitError, UsageError
from ferkit.models import Classifier, model_folder
from ferkit.sources import absolute, is_address
from ferkit.video import TIME_CONSTANT_S, VideoSettings, make_settings

try:
    import fcntl
except ImportError:  # Windows: there two drivers write the same rows to the same files, which harms nothing
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claimed(out: str) -> Iterator[None]:
    """Keep other drivers from a local OUT as long as the block lasts. What holds it ends with the process, however that
    ends. Object stores have nothing of the kind: two drivers that find the same plan there write the same rows to the
    same files; see `ferkit.batch.plan` for two that plan.
    """
    if is_address(out) or fcntl is None:
        yield
        return
    path = Path(out) / FOLDER / "lock"
    with blame(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FerkitError(f"Another run is writing to {out}. Wait for it, or stop it.") from None
        except OSError:
            pass  # a file system that knows no locks
        yield
    finally:
        os.close(descriptor)


# Footers of done parts are small and may be far away: so many are asked for at once.
_THREADS = 8


@dataclass(frozen=True)
class Progress:
    """Where a job stands. All counts are of the whole job, earlier sessions included.

    pictures_in_all: None where shards far away are opened by the workers only. new: pictures of this session, which has
    taken so many seconds. videos: whether the pictures are videos.
    """

    parts: int
    parts_in_all: int
    pictures: int
    pictures_in_all: int | None
    faces: int
    errors: int
    new: int
    seconds: float
    videos: bool = False

    @property
    def pictures_per_second(self) -> float:
        return self.new / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace of this session; None before its first part is done."""
        if not self.new:
            return None
        if self.pictures_in_all is not None:
            return (self.pictures_in_all - self.pictures) / self.pictures_per_second
        return (self.parts_in_all - self.parts) * self.pictures / self.parts / self.pictures_per_second


@dataclass(frozen=True)
class BatchSummary:
    """What became of a job.

    pictures, faces, errors: of the whole job; an error is a picture that could not be read. parts: files of OUT;
    skipped_parts: those that were there before. seconds, pictures_per_second: of this session. videos: whether it was a
    job of videos: then pictures are videos, and an error is one that could not be read, or not to its end.
    """

    source: str
    out: str
    pictures: int
    faces: int
    errors: int
    parts: int
    skipped_parts: int
    seconds: float
    pictures_per_second: float
    videos: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `ferkit batch`."""
        return asdict(self)


def run_batch(
    src: str | Path,
    out: str | Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[Progress], object] | None = None,
    model: str | Path | Classifier = model_folder.DEFAULT,
    detector: str | FaceDetector = "auto",
    min_confidence: float = 0.0,
    tta: str | None = None,
    sensitivity: float | None = None,
    orientation: Orientation = "upright",
    part_size: int | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
    videos: bool | None = None,
    every: str | int = 1,
    detect_every_s: float | None = None,
    smooth_s: float = TIME_CONSTANT_S,
    start: str | float | None = None,
    end: str | float | None = None,
) -> BatchSummary:
    """Recognise every face in a large set of images or videos, and write a Parquet dataset with a row per face.

    After an interruption the same call resumes: finished parts are skipped.

    Args:
        src: A folder, glob, archive, Parquet file or list; see `ferkit.sources.list_references`.
        out: An empty or new folder, or a URL such as s3://bucket/folder.
        engine: A name of `ferkit.batch.engines.ENGINES`.
        workers: Number of workers; None starts one per core of this machine or of the cluster.
        address: Address of the cluster, for engines that use one.
        progress: Called at the start and after every part.
        model: "default", a model folder or file that every worker can read, or a classifier that can be pickled.
        detector: Name of a detector, or a callable: RGB uint8 (H, W, 3) -> list of `Face`, which can be pickled.
        min_confidence: Faces below it are labelled `uncertain`.
        tta: Test-time augmentation, such as flip.
        sensitivity: How readily rare expressions are named, 0 to 1. None takes the model's own.
        orientation: "any" also detects faces upside down or on a side; takes four times as long.
        part_size: Images per output file, the unit of resuming; None chooses 64 to 1,024.
        classes: Names in the order of the outputs of a bare model file; see `EmotionClassifier.load`.
        pixel_scale: Pixel scale that a model file without a card was trained on: "0..1", "-1..1", "0..255" or "mean,std".
        videos: Whether to process the videos of the source rather than its images; None does so where it holds no
            images. Rows are those of `analyze_videos`.
        every: Of videos, as `analyze_video` takes it, like the following.
        detect_every_s: See there.
        smooth_s: See there.
        start: See there.
        end: See there.

    Returns:
        Counts of images, faces and errors, and the speed of this session.

    Raises:
        UsageError: OUT holds other files, or a job with other settings.
        FerkitError: There are no images, another run is writing to OUT, or the whole job failed, as on a full disk.

    Example:
        summary = ferkit.run_batch("photos/", "emotions/", workers=8)
        print(summary.pictures, summary.faces, summary.errors)

    """
    run_parts = ENGINES[engine]
    check_engine(engine, address)
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1. Received: {workers}.")
    place = absolute(out)
    storage = open_storage(place)
    video = make_settings(every, start, end, None, detect_every_s, smooth_s)
    if videos is None:
        videos = holds_videos(storage, place, absolute(src))
    if not videos and video != VideoSettings():
        raise UsageError(
            "every, detect_every_s, smooth_s, start and end are for videos. Leave them out, or set videos."
        )
    wanted = Settings(
        model,
        detector,
        min_confidence,
        tta,
        part_size,
        sensitivity,
        classes,
        pixel_scale,
        orientation,
        video if videos else None,
    )
    prepared = prepare(storage, place, absolute(src), wanted)
    with claimed(place):
        job = prepared()
        _sweep(storage)
        tally = _Tally(job, storage)
        if progress:
            progress(tally.now())
        for summary in run_parts(job, tally.pending, workers, address=address):
            tally.add(summary)
            if progress:
                progress(tally.now())
        return tally.summary()


run = run_batch  # as ferkit.batch.run


class _Tally:
    """What is done and what is left."""

    def __init__(self, job: Job, storage: Storage) -> None:
        done = sorted(done_parts(storage))
        self.pending = sorted(set(range(job.parts)).difference(done))
        self._job, self._skipped = job, len(done)
        self._parts = self._pictures = self._faces = self._errors = self._new = 0
        for found in ordered_map(lambda part: summary_of(storage, part), done, _THREADS):
            if found is not None:
                self.add(found)
        for part in begun_parts(storage).intersection(done):
            forget(storage, part)
        self._started = time.perf_counter()

    def add(self, summary: PartSummary) -> None:
        self._parts += 1
        self._pictures += summary.pictures
        self._faces += summary.faces
        self._errors += summary.errors
        self._new += 0 if summary.skipped else summary.pictures

    def now(self) -> Progress:
        return Progress(
            self._parts,
            self._job.parts,
            self._pictures,
            self._job.pictures,
            self._faces,
            self._errors,
            self._new,
            time.perf_counter() - self._started,
            self._job.settings.video is not None,
        )

    def summary(self) -> BatchSummary:
        now = self.now()
        return BatchSummary(
            self._job.source,
            self._job.out,
            now.pictures,
            now.faces,
            now.errors,
            now.parts,
            self._skipped,
            round(now.seconds, 3),
            round(now.pictures_per_second, 2),
            now.videos,
        )


def _sweep(storage: Storage) -> None:
    """Remove what processes were writing when they died."""
    drafts = [name for name in storage.names() if name.startswith(".part-") and name.endswith(".parquet")]
    drafts += [f"{BEGUN}/{name}" for name in storage.names(BEGUN) if name.startswith(".")]
    for name in drafts:
        storage.remove(name)
