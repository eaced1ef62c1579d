"""Rows of a part as Parquet: the columns of every table of faces, and when the picture was taken; or those of videos."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ferkit._support.arrow import pa, pq
from ferkit.batch.storage import Storage
from ferkit.errors import FerkitError
from ferkit.render import ABOUT
from ferkit.results import VIDEO_KEYS, PictureResult, face_rows, parquet_schema, raw_columns, table_columns
from ferkit.sources import reason

TAKEN = "taken"
# Rows that wait as Python objects, which take ten times the memory of a table.
_ROWS = 1024
_COUNTS = "part"  # what became of the part, beside what `about` says


def schema_of(classes: Sequence[str], *, videos: bool = False) -> pa.Schema:
    """Columns and types of the Parquet files of a job."""
    if videos:
        return parquet_schema(table_columns(classes, VIDEO_KEYS, raw_columns(classes)))
    return parquet_schema(table_columns(classes, more={TAKEN: datetime}))


class PartTable:
    """The rows of one part, in memory until they are whole.

    about: how they came about; see `ferkit.render.Table`.
    """

    def __init__(self, classes: Sequence[str], about: Mapping[str, Any], *, videos: bool = False) -> None:
        self.about = dict(about)
        self.schema = schema_of(classes, videos=videos)
        self._rows: list[Mapping[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self.pictures = self.faces = self.errors = 0

    def add(self, result: PictureResult, taken: datetime | None) -> None:
        self.add_rows({**row, TAKEN: taken} for row in face_rows(result))
        self.count(len(result), failed=result.error is not None)

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS:
            self._pack()

    def count(self, faces: int, *, failed: bool) -> None:
        """Count a picture or video whose rows are added."""
        self.pictures += 1
        self.faces += faces
        self.errors += failed

    def to_parquet(self, counts: Mapping[str, Any]) -> bytes:
        """The file, with what `counts_of` reads back."""
        self._pack()
        about = json.dumps({**self.about, _COUNTS: counts})
        table = pa.Table.from_batches(self._batches, self.schema.with_metadata({ABOUT: about}))
        stream = io.BytesIO()
        pq.write_table(table, stream, compression="zstd")
        return stream.getvalue()

    def _pack(self) -> None:
        self._batches.append(pa.RecordBatch.from_pylist(self._rows, self.schema))
        self._rows = []


def counts_of(storage: Storage, name: str) -> dict[str, Any] | None:
    """The counts that a part was written with; None where there is no such part."""
    file = storage.open(name)
    if file is None:
        return None
    try:
        with file:
            return dict(json.loads(pq.read_metadata(file).metadata[ABOUT])[_COUNTS])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as problem:
        raise FerkitError(
            f"{name} is not a file that ferkit wrote ({reason(problem)}). Remove it and run again."
        ) from problem
