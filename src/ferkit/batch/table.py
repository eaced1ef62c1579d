"""Rows of a part as Parquet: the columns of every table of faces, and when the picture was taken."""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ferkit._support.arrow import pa, pq
from ferkit.batch.storage import Storage
from ferkit.errors import FerkitError
from ferkit.results import PictureResult, face_rows, parquet_schema, table_columns
from ferkit.sources import reason

TAKEN = "taken"
# Rows that wait as Python objects, which take ten times the memory of a table.
_ROWS = 1024
_COUNTS = b"ferkit"


def schema_of(classes: Sequence[str]) -> pa.Schema:
    """Columns and types of the Parquet files of a job."""
    return parquet_schema(table_columns(classes, more={TAKEN: datetime}))


class PartTable:
    """The rows of one part, in memory until they are whole."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.schema = schema_of(classes)
        self._rows: list[Mapping[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self.pictures = self.faces = self.errors = 0

    def add(self, result: PictureResult, taken: datetime | None) -> None:
        self._rows += [{**row, TAKEN: taken} for row in face_rows(result)]
        self.pictures += 1
        self.faces += len(result)
        self.errors += result.error is not None
        if len(self._rows) >= _ROWS:
            self._pack()

    def to_parquet(self, counts: Mapping[str, Any]) -> bytes:
        """The file, with what `counts_of` reads back."""
        self._pack()
        table = pa.Table.from_batches(self._batches, self.schema.with_metadata({_COUNTS: json.dumps(counts)}))
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
            return dict(json.loads(pq.read_metadata(file).metadata[_COUNTS]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as problem:
        raise FerkitError(
            f"{name} is not a file that ferkit wrote ({reason(problem)}). Remove it and run again."
        ) from problem
