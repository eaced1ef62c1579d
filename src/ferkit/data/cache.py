"""Parsed data sets kept on disk, by the checksum of what they were parsed from.

One folder per source and settings: `images.npy` (uint8, memory-mapped when loaded), `table.npz` (the columns), and
`meta.json`, written last: without it, or when anything does not fit, the entry counts as missing and is written anew.
Every file is replaced atomically and its content follows from the key alone, so two processes may write at once.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ferkit._support.files import cache_folder, sweep, write_atomically
from ferkit.data.records import Broken, Faces, FaceTable, Progress, Reading, pixel_prints
from ferkit.errors import DatasetError, FerkitError

# Part of every key: raise it when a reader gives other faces, labels or notes for the same source.
FORMAT_VERSION = 2
_PROBED_FACES = 64
# Each is remembered with its reason; a file of nothing else must not fill the memory.
_MOST_BROKEN = 1_000_000


class _CacheError(FerkitError):
    """The cache folder cannot be written; the job goes on in memory."""


def cached_table(key: str, read: Callable[[], Reading], progress: Progress | None = None) -> FaceTable:
    """The table of that key from the cache, or read, kept and returned. `read` may be called twice.

    An unwritable cache folder costs time, never the job: the table then stays in memory and a note says so.
    """
    folder = _folder(key)
    sweep(folder)
    kept = _load(folder)
    if kept is not None:
        return kept
    try:
        _store(folder, read(), progress)
        kept = _load(folder)
    except _CacheError as problem:
        return _in_memory(read(), progress, str(problem))
    return kept or _in_memory(read(), progress, f"{folder} was changed while it was written.")


def load_cached(key: str) -> FaceTable | None:
    """The table of that key if it is in the cache."""
    return _load(_folder(key))


def _folder(key: str) -> Path:
    name = hashlib.sha256(f"{FORMAT_VERSION}:{key}".encode()).hexdigest()[:32]
    return cache_folder() / "datasets" / name


def _load(folder: Path) -> FaceTable | None:
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        with np.load(folder / "table.npz", allow_pickle=False) as columns:
            table = FaceTable(
                # A plain view: numpy's memmap class slows every slice of it.
                images=images.view(np.ndarray),
                labels=columns["labels"],
                splits=columns["splits"],
                split_names=tuple(meta["split_names"]),
                rows=columns["rows"],
                prints=columns["prints"],
                together=columns["together"],
                classes=tuple(meta["classes"]),
                form=meta["form"],
                broken=tuple(Broken(*one) for one in meta["broken"]),
                notes=tuple(meta["notes"]),
            )
        return table if meta["faces"] == len(images) and _fits(table) else None
    # Whatever is wrong with a cache entry, the answer is the same: make it again.
    except Exception:
        return None


def _fits(table: FaceTable) -> bool:
    """Whether the columns belong to the images: all of one length, and the prints of a sample of faces agree."""
    count = len(table.images)
    if any(len(column) != count for column in (table.labels, table.splits, table.rows, table.prints, table.together)):
        return False
    probed = np.unique(np.linspace(0, count - 1, min(count, _PROBED_FACES)).astype(np.int64))
    return bool(np.array_equal(pixel_prints(table.images[probed]), table.prints[probed]))


@dataclass
class _Columns:
    """The columns of a table as its batches arrive."""

    labels: list[npt.NDArray[np.int64]] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    prints: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    together: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    split_index: dict[str, int] = field(default_factory=dict)


def _draw(reading: Reading, columns: _Columns, keep: Callable[[Faces], None], progress: Progress | None) -> None:
    for batch in reading.batches:
        columns.broken += batch.broken
        if len(columns.broken) > _MOST_BROKEN:
            raise DatasetError(
                f"More than {_MOST_BROKEN:,} rows or pictures cannot be read: this is not a dataset of faces."
            )
        if len(batch.images):
            keep(batch.images)
            columns.labels.append(batch.labels)
            columns.splits += [columns.split_index.setdefault(name, len(columns.split_index)) for name in batch.splits]
            columns.rows.append(batch.rows)
            columns.prints.append(pixel_prints(batch.images))
            columns.together.append(_by_person(columns.prints[-1], batch.people))
        if progress:
            progress("Reading", batch.done, reading.total)


def _by_person(prints: npt.NDArray[np.uint64], people: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The prints of faces, in whose place those of a person have one of the person's."""
    named = {one: int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "little") for one in {*people} - {""}}
    return (
        np.array([named.get(one, own) for one, own in zip(people, prints, strict=True)], np.uint64) if named else prints
    )


def _arrays(columns: _Columns) -> dict[str, npt.NDArray[Any]]:
    return {
        "labels": np.concatenate([np.zeros(0, np.int64), *columns.labels]),
        "splits": np.array(columns.splits, np.int64),
        "rows": np.concatenate([np.zeros(0, np.int64), *columns.rows]),
        "prints": np.concatenate([np.zeros(0, np.uint64), *columns.prints]),
        "together": np.concatenate([np.zeros(0, np.uint64), *columns.together]),
    }


def _store(folder: Path, reading: Reading, progress: Progress | None) -> None:
    columns = _Columns()
    with write_atomically(folder / "images.npy", _CacheError) as draft, draft.open("wb") as file:
        images = _GrowingArray(file)
        _draw(reading, columns, images.append, progress)
        images.finish()
    with write_atomically(folder / "table.npz", _CacheError) as draft:
        np.savez(draft, allow_pickle=False, **_arrays(columns))
    meta = {
        "faces": images.count,
        "classes": list(reading.classes),
        "form": reading.form,
        "split_names": list(columns.split_index),
        "broken": [[one.where, one.reason] for one in columns.broken],
        "notes": reading.notes,
    }
    with write_atomically(folder / "meta.json", _CacheError) as draft:
        draft.write_text(json.dumps(meta), "utf-8")


class _GrowingArray:
    """A .npy file that grows image by image, so that a set larger than the memory can be parsed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.count = 0
        self.shape: tuple[int, ...] = (48, 48, 1)
        self._header_bytes = 0

    def append(self, images: Faces) -> None:
        if not self.count:
            self.shape = images.shape[1:]
            self._write_header()
        self.file.write(np.ascontiguousarray(images).data)
        self.count += len(images)

    def finish(self) -> None:
        self.file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow, so the second writing fits the first.
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)
        if self._header_bytes and self.file.tell() != self._header_bytes:
            raise DatasetError("numpy's .npy header changed its length while the array grew.")
        self._header_bytes = self.file.tell()


def _in_memory(reading: Reading, progress: Progress | None, why: str) -> FaceTable:
    columns = _Columns()
    parts: list[Faces] = []
    _draw(reading, columns, parts.append, progress)
    note = f"The parsed faces were not kept for next time: {why} FERKIT_CACHE chooses another cache folder."
    return FaceTable(
        images=np.concatenate(parts) if parts else np.zeros((0, 48, 48, 1), np.uint8),
        split_names=tuple(columns.split_index),
        classes=tuple(reading.classes),
        form=reading.form,
        broken=tuple(columns.broken),
        notes=(*reading.notes, note),
        **_arrays(columns),
    )
