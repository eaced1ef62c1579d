"""The plan of a job: its references, cut into parts, in Parquet files of which each row group is a part.

Written as the listing comes and read part by part, so that nobody ever holds all of it.

How a job begins: planned anew, or found in OUT.
"""

import io
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from ferkit._support.arrow import pa, pq
from ferkit.batch.job import FOLDER, JOB_FILE, Job, Settings, checksums, load_recognizer, read_job
from ferkit.batch.storage import Storage
from ferkit.batch.table import schema_of
from ferkit.errors import DatasetError, FerkitError, UsageError
from ferkit.sources import FILE, PICTURE_SUFFIXES, SHARD, VIDEO_SUFFIXES, Reference, list_references, reason

# Parts in one file: its footer, which is read for each of them, stays below 100 KB.
_PARTS = 64
# The usual part: small jobs get enough of them to spread, large ones no more files than they need. Whole batches of
# faces.
_LEAST, _MOST = 64, 1024

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("path", pa.binary()),  # names of files need not be text
        ("kind", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("problem", pa.string()),
    ]
)


def write_plan(storage: Storage, references: Iterable[Reference], part_size: int | None) -> tuple[int, int | None]:
    """Write the plan; return how many parts it has, and how many pictures, None where shards hide some."""
    supply = iter(references)
    if part_size is None:
        ahead = list(itertools.islice(supply, _PARTS * _MOST))
        part_size = max(1, math.ceil(len(ahead) / _PARTS / _LEAST)) * _LEAST
        supply = itertools.chain(ahead, supply)
        del ahead
    file = _PlanFile(storage)
    pictures, known = 0, True
    for part in _cut(supply, part_size):
        file.add(part)
        pictures += len(part)
        known &= not any(one.kind == SHARD for one in part)
    file.finish()
    return file.parts, pictures if known else None


def read_part(storage: Storage, part: int) -> list[Reference]:
    """The references of a part."""
    name = _file_of(part)
    file = storage.open(name)
    if file is None:
        raise FerkitError(f"The plan {name} is missing. Start the job again with another OUT.")
    try:
        with file:
            rows = pq.ParquetFile(file).read_row_group(part % _PARTS).to_pylist()
    except (pa.ArrowException, OSError) as problem:
        raise FerkitError(
            f"The plan {name} is damaged ({reason(problem)}). Start the job again with another OUT."
        ) from problem
    return [Reference(**{**row, "path": os.fsdecode(row["path"])}) for row in rows]


class _PlanFile:
    """Plan files, one after the other, each in memory until it is full."""

    def __init__(self, storage: Storage) -> None:
        self.parts = 0
        self._storage = storage
        self._start()

    def add(self, part: Sequence[Reference]) -> None:
        columns = {name: [getattr(one, name) for one in part] for name in _SCHEMA.names}
        columns["name"] = [_text(name) for name in columns["name"]]
        columns["path"] = [os.fsencode(path) for path in columns["path"]]
        self._writer.write_table(pa.table(columns, _SCHEMA), row_group_size=len(part))
        self.parts += 1
        if self.parts % _PARTS == 0:
            self.finish()
            self._start()

    def finish(self) -> None:
        self._writer.close()
        if self.parts > self._first:
            self._storage.write(_file_of(self._first), self._stream.getvalue())

    def _start(self) -> None:
        self._first, self._stream = self.parts, io.BytesIO()
        self._writer = pq.ParquetWriter(self._stream, _SCHEMA, compression="zstd", write_statistics=False)


def _file_of(part: int) -> str:
    return f"{FOLDER}/plan-{part // _PARTS:06}.parquet"


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(references: Iterable[Reference], part_size: int) -> Iterator[list[Reference]]:
    """Parts of `part_size` references; one that is half full ends where a group of its references does."""
    part: list[Reference] = []
    for one in references:
        if part and one.group != part[-1].group and (2 * len(part) >= part_size or SHARD in (one.kind, part[-1].kind)):
            yield part
            part = []
        part.append(one)
        if len(part) >= part_size:
            yield part
            part = []
    if part:
        yield part


def prepare(storage: Storage, out: str, source: str, settings: Settings) -> Callable[[], Job]:
    """Check all that can be checked before anything is written; what comes back then finds or plans the job.

    Raises `UsageError` where other things are in OUT, or a job that was given other settings, and what listing SRC and
    loading the model raise.
    """
    _check_free(storage, out)
    settings = settings.settled()
    resumed = _resumed(storage, out, source, settings)
    if resumed is not None:
        return lambda: resumed
    videos = settings.video is not None
    references = list_references(source) if not videos else _videos_of(source)
    classes = load_recognizer(settings).classes
    schema_of(classes, videos=videos)

    def alone() -> None:
        if storage.read(JOB_FILE) is not None:
            raise UsageError(f"Another run has started a job in {out} meanwhile. To resume, run the same command.")

    def plan() -> Job:
        alone()
        parts, pictures = write_plan(storage, references, settings.part_size or (1 if videos else None))
        job = Job(out, source, settings, parts, pictures, classes, checksums(settings))
        alone()  # again: nothing holds an object store while hours of listing go by
        # The last of all: it says that the plan is whole.
        storage.write(JOB_FILE, json.dumps(job.to_dict(), indent=1).encode())
        return job

    return plan


def holds_videos(storage: Storage, out: str, source: str) -> bool:
    """Whether a job is one of videos where nobody said so: the one in OUT is, or SRC holds videos and no pictures."""
    _check_free(storage, out)
    found = read_job(storage, out)
    if found is not None:
        return "videos" in found["settings"]
    try:
        return next(list_references(source)).path.lower().endswith(VIDEO_SUFFIXES)
    except DatasetError:
        with suppress(DatasetError):
            return next(list_references(source, VIDEO_SUFFIXES), None) is not None
    return False


def _videos_of(source: str) -> Iterator[Reference]:
    """The videos of a source: files that are no pictures."""
    found = list_references(source, VIDEO_SUFFIXES)
    videos = (one for one in found if one.kind == FILE and not one.path.lower().endswith(PICTURE_SUFFIXES))
    first = next(videos, None)
    if first is None:
        raise DatasetError(f"{source} holds no videos ({', '.join(VIDEO_SUFFIXES)}).")
    return itertools.chain([first], videos)


def _check_free(storage: Storage, out: str) -> None:
    """Refuse an OUT with other things in it: whoever reads the results would take them for some."""
    names = storage.names()
    other = next((name for name in names if not name.startswith((FOLDER, "."))), None)
    if other is not None and FOLDER not in names:
        raise UsageError(f"{out} contains other files, such as {other}. Choose a new or empty folder.")


def _resumed(storage: Storage, out: str, source: str, settings: Settings) -> Job | None:
    """The job that is in OUT, if it is the one that is asked for; None where there is none."""
    found = read_job(storage, out)
    if found is None:
        return None
    sums = checksums(settings)
    asked = {"source": source, **settings.words(), **_named(sums)}
    there = {"source": found["source"], **found["settings"], **_named(found["checksums"])}
    if settings.part_size is None:
        asked["part_size"] = there["part_size"]
    for name in asked | there:
        if asked.get(name) != there.get(name):
            raise UsageError(
                f"{out} holds another job: {name} was {there.get(name)} there and is {asked.get(name)} now. "
                "Give what was given then, or choose another OUT."
            )
    return Job(out, source, settings, found["parts"], found["pictures"], tuple(found["classes"]), sums)


def _named(sums: dict[str, str]) -> dict[str, str]:
    return {f"SHA-256 of the {name}": value for name, value in sums.items()}
