"""Tables of faces made on the spot, as `ferkit batch` and `ferkit predict` write them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ferkit.labels import EMOTIONS
from ferkit.results import parquet_schema, table_columns

# source, label, confidence, error, taken
Row = tuple[str, str | None, float | None, str | None, str | None]


def face(source: str, label: str = "happy", confidence: float = 0.9, taken: str | None = None) -> Row:
    return source, label, confidence, None, taken


def empty(source: str, taken: str | None = None) -> Row:
    return source, None, None, None, taken


def broken(source: str, error: str = "Cannot read {}: it is empty.") -> Row:
    return source, None, None, error.format(source), None


def face_table(rows: Sequence[Row], classes: Sequence[str] = EMOTIONS) -> pa.Table:
    schema = parquet_schema(table_columns(classes, more={"taken": datetime}))
    records = [
        {
            "source": source,
            "label": label,
            "confidence": confidence,
            "error": error,
            "taken": taken and datetime.fromisoformat(taken),
        }
        for source, label, confidence, error, taken in rows
    ]
    return pa.Table.from_pylist(records, schema)


def write_batch(folder: Path, *parts: Sequence[Row], classes: Sequence[str] = EMOTIONS) -> Path:
    """A folder with a Parquet file per part."""
    folder.mkdir(parents=True)
    for number, rows in enumerate(parts):
        pq.write_table(face_table(rows, classes), folder / f"part-{number:06}.parquet")
    return folder
