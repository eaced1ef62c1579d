"""Tables of faces counted with DuckDB: one pass over any number of rows, in memory that does not grow with them.

A picture is what has rows one after another with the same source (of videos: the same frame), which is how every
command writes them. So pictures are counted by comparing each row with the one before; a list of all sources that were
seen, which a count of distinct ones needs, would be as long as the table. Parts of a data set are counted side by side.
"""

# ruff: noqa: S608 - what comes from data goes into SQL through `quoted` and `name`

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferkit.errors import DatasetError, MissingDependencyError
from ferkit.parallel import usable_cores
from ferkit.results import UNCERTAIN
from ferkit.sources import path_of, printable_name
from ferkit.summaries.tables import PARQUET, FaceTable, find_table, one_line

Progress: TypeAlias = Callable[[str, int, int], object]

_MEMORY = "1GB"  # of DuckDB; what is beyond goes to a temporary folder
# Files go in packs. Each leaves a row per group that is in it, so there must not be as many packs as there are files.
_MOST_PACKS, _LEAST_FILES = 64, 64
_REMOTE_READERS = 8  # they wait for the network rather than compute
_NEEDED = ("source", "label", "confidence", "error")


@dataclass(frozen=True)
class Counts:
    """What a pass left: the table `counts` in `connection`, a row per group, label and error message.

    Its columns: grp, label, message (text), n (rows), pictures, confidence (sum of those that are numbers), first, last
    (time taken), undated (pictures without one). classes: of the model, in its order.
    """

    table: FaceTable
    classes: tuple[str, ...]
    min_confidence: float
    connection: Any


@contextmanager
def counted(
    out: str | os.PathLike[str], *, key: str, dated: bool, min_confidence: float, progress: Progress | None = None
) -> Iterator[Counts]:
    """Count the rows of a table in one pass.

    Args:
        out: a batch's folder, or a .parquet, .csv, .csv.gz or .jsonl file; local or an address of fsspec's.
        key: SQL of the group that a row belongs to, made of `source` (text) and `taken` (timestamp or null).
        dated: whether the key needs the column `taken`.
        min_confidence: faces below it count as `uncertain`.
        progress: told what is read, how many files are done, and of how many.

    Raises:
        DatasetError: `out` is no such table or cannot be read. MissingDependencyError: a package is not installed.
    """
    duckdb = load_duckdb()
    table = find_table(os.fsdecode(out))
    with tempfile.TemporaryDirectory(prefix="ferkit-") as spill, duckdb.connect() as connection:
        _set_up(connection, spill)
        if table.filesystem is not None:
            connection.register_filesystem(table.filesystem)
        with one_line(table, duckdb.Error):
            columns = _columns(connection, table)
            if dated and "taken" not in columns:
                raise DatasetError(
                    f"{table.name} has no column taken, the time of each picture, which ferkit batch writes. "
                    "Group by folder instead."
                )
            _scan(connection, table, _select(columns, table.reader, key, min_confidence), progress)
            classes = columns[columns.index("confidence") + 1 : columns.index("error")]
            yield Counts(table, tuple(classes), min_confidence, connection)


def load_duckdb() -> Any:
    """The module. Raises `MissingDependencyError`."""
    try:
        import duckdb
    except ImportError as problem:
        raise MissingDependencyError("Summaries need DuckDB: pip install 'ferkit[batch]'.") from problem
    return duckdb


def quoted(text: str) -> str:
    """A text of SQL.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """The name of a column of SQL, whatever it holds."""
    return '"' + text.replace('"', '""') + '"'


def _set_up(connection: Any, spill: str) -> None:
    for setting in (
        f"threads = {usable_cores()}",
        f"memory_limit = '{_MEMORY}'",
        f"temp_directory = {quoted(spill)}",
        # Nothing is fetched: all that is needed is in DuckDB's package.
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_progress_bar = false",
        "TimeZone = 'UTC'",
    ):
        connection.execute(f"SET {setting}")


def _columns(connection: Any, table: FaceTable) -> list[str]:
    described = connection.execute(f"DESCRIBE SELECT * FROM {table.reader}", {"files": [table.files[0]]}).fetchall()
    columns = [row[0] for row in described]
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise DatasetError(
            f"{table.name} is no table of faces: it has no column {', '.join(missing)}. "
            f"Its columns: {printable_name(', '.join(columns))}."
        )
    return columns


def _select(columns: Sequence[str], reader: str, key: str, min_confidence: float) -> str:
    taken = "TRY_CAST(taken AS TIMESTAMP)" if "taken" in columns else "NULL::TIMESTAMP"
    frame = "CAST(frame AS BIGINT)" if "frame" in columns else "0"
    # Without the picture's name in the message, so that the same trouble counts as one; without years that no calendar
    # has, as broken clocks say anything.
    return f"""
        WITH read AS (
            SELECT coalesce(CAST(source AS VARCHAR), '') AS source, {frame} AS frame, {taken} AS taken,
                coalesce(CAST(label AS VARCHAR), '') AS label, CAST(confidence AS DOUBLE) AS confidence,
                replace(nullif(CAST(error AS VARCHAR), ''), CAST(source AS VARCHAR), '...') AS message
            FROM {reader}),
        told AS (
            SELECT source, confidence, message,
                CASE WHEN taken BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31' THEN taken END AS taken,
                CASE WHEN label <> '' AND confidence < {min_confidence!r} THEN {quoted(UNCERTAIN)} ELSE label END AS label,
                source IS DISTINCT FROM lag(source) OVER () OR frame IS DISTINCT FROM lag(frame) OVER () AS begins
            FROM read)
        SELECT {key} AS grp, label, message, count(*) AS n, count(*) FILTER (begins) AS pictures,
            coalesce(sum(confidence) FILTER (label <> '' AND isfinite(confidence)), 0) AS confidence,
            min(taken) AS first, max(taken) AS last, count(*) FILTER (begins AND taken IS NULL) AS undated
        FROM told GROUP BY ALL"""


def _scan(connection: Any, table: FaceTable, select: str, progress: Progress | None) -> None:
    # A table of the database: the cursors of other threads would not see a temporary one. It goes to disk all the same.
    connection.execute(
        "CREATE TABLE counts (grp VARCHAR, label VARCHAR, message VARCHAR, n BIGINT, pictures BIGINT, "
        "confidence DOUBLE, first TIMESTAMP, last TIMESTAMP, undated BIGINT)"
    )
    schema = _schema(connection, table.files[0]) if table.reader == PARQUET and len(table.files) > 1 else None
    size = max(_LEAST_FILES, math.ceil(len(table.files) / _MOST_PACKS))
    packs = [table.files[start : start + size] for start in range(0, len(table.files), size)]
    readers = max(usable_cores(), 1 if table.filesystem is None else _REMOTE_READERS)
    cursors = []

    def count(files: Sequence[str]) -> int:
        cursor = connection.cursor()
        cursors.append(cursor)
        if schema is not None:
            _check_schemas(cursor, table, files, schema)
        cursor.execute(f"INSERT INTO counts {select}", {"files": list(files)})
        return len(files)

    pool = ThreadPoolExecutor(min(readers, len(packs)), "ferkit-scan")
    try:
        done = 0
        for counting in as_completed([pool.submit(count, pack) for pack in packs]):
            done += counting.result()
            if progress is not None:
                progress(f"Reading {printable_name(path_of(table.name.rstrip('/')).name)}", done, len(table.files))
    except BaseException:
        # Also Ctrl-C: what waits never begins, what runs is stopped.
        pool.shutdown(wait=False, cancel_futures=True)
        for cursor in cursors:
            cursor.interrupt()
        raise
    finally:
        pool.shutdown()


# The root of a schema is named by whoever wrote the file.
_COLUMN = "concat(CASE WHEN num_children IS NULL THEN name END, ' ', type)"


def _schema(connection: Any, file: str) -> list[str]:
    """Names and types of the columns of a Parquet file, in alphabetical order."""
    select = f"SELECT {_COLUMN} FROM parquet_schema($file) ORDER BY 1"
    return [row[0] for row in connection.execute(select, {"file": file}).fetchall()]


def _check_schemas(cursor: Any, table: FaceTable, files: Sequence[str], schema: Sequence[str]) -> None:
    """Raise if a part has other columns than the first: DuckDB takes no notice of those that are too many."""
    other = cursor.execute(
        f"SELECT file_name FROM (SELECT file_name, list({_COLUMN} ORDER BY {_COLUMN}) AS columns "
        "FROM parquet_schema($files) GROUP BY file_name) WHERE columns IS DISTINCT FROM $schema LIMIT 1",
        {"files": list(files), "schema": list(schema)},
    ).fetchone()
    if other is not None:
        raise DatasetError(
            f"{printable_name(other[0])} has other columns than {printable_name(table.files[0])}. "
            "Expected the parts of one batch."
        )
