"""Where a table of faces lies, and how DuckDB reads it.

Tables of faces counted with DuckDB: one pass over any number of rows, in memory that does not grow with them.

A picture is what has rows one after another with the same source (of videos: the same frame), which is how every
command writes them. So pictures are counted by comparing each row with the one before; a list of all sources that were
seen, which a count of distinct ones needs, would be as long as the table. Parts of a data set are counted side by side.
"""

import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from ferkit._support.parallel import usable_cores
from ferkit.batch.foreign_tables import normalise
from ferkit.batch.job import read_job
from ferkit.batch.storage import open_storage
from ferkit.errors import DatasetError, FerkitError, MissingDependencyError
from ferkit.results import UNCERTAIN, class_columns
from ferkit.sources import filesystem, is_address, path_of, printable_name, reason

PARTS = "part-*.parquet"
PARQUET = "read_parquet($files)"
# A CSV is read as text: what it holds is not guessed from its first rows.
_CSV = "read_csv($files, header=true, delim=',', quote='\"', escape='\"', all_varchar=true, nullstr='')"
_CONDITIONS = "read_csv($files, header=true, all_varchar=true, nullstr='')"
_READERS = {
    ".parquet": PARQUET,
    ".csv": _CSV,
    ".csv.gz": _CSV,
    ".jsonl": "read_json($files, format='newline_delimited')",
}


# How DuckDB says so, in words about bytes.
_NO_PARQUET = re.compile(r"No magic bytes found at end of file '(.+)'|File '(.+)' too small to be a Parquet file")


@dataclass(frozen=True)
class FaceTable:
    """The files of a table, escaped as DuckDB takes them, and how it reads them.

    reader: SQL in which `$files` stands for a list of files. filesystem: of fsspec; None for local files. planned: how
    many parts the job will have, where that is known. held: what keeps the files, where they are of another program's.
    """

    name: str
    files: Sequence[str]
    reader: str
    filesystem: Any = None
    planned: int | None = None
    held: object = None


def find_table(out: str) -> FaceTable:
    """The table of a batch's folder or of a single file, local or at an address.

    Raises `DatasetError` where there is none, `MissingDependencyError` where a package is not installed, `UsageError`
    for an address of no kind that fsspec knows.
    """
    if is_address(out):
        return _find_remote(out)
    path, shown = Path(out), printable_name(out)
    try:
        if path.is_dir():
            return _parts(out, shown, sorted(os.fspath(part) for part in path.glob(PARTS)))
        there = path.is_file()
    except OSError as problem:
        raise DatasetError(f"Cannot read {shown}: {reason(problem)}.") from problem
    if not there:
        raise DatasetError(f"There is no {shown}. Expected a folder of ferkit batch, or a table of ferkit predict.")
    if (foreign := normalise(out)) is not None:
        return FaceTable(shown, [_escaped(os.fspath(foreign.path))], _CSV, held=foreign)
    return FaceTable(shown, [_escaped(out)], _reader(out, shown))


def _find_remote(out: str) -> FaceTable:
    files, path = filesystem(out)
    if "file" in files.protocol:
        return find_table(path)
    shown, path = printable_name(out), path.rstrip("/")
    # Sizes and dates come with one listing; else the store would be asked for them six times per part.
    files = type(files)(*files.storage_args, **{**files.storage_options, "use_listings_cache": True})
    files.invalidate_cache()
    try:
        if files.isfile(path):
            return FaceTable(shown, [_escaped(files.unstrip_protocol(path))], _reader(path, shown), files)
        listed = files.ls(path, detail=False) if files.isdir(path) else []
    except Exception as problem:  # every store has errors of its own
        raise DatasetError(f"Cannot read {shown}: {reason(problem)}.") from problem
    parts = sorted(part for part in listed if fnmatchcase(part.rpartition("/")[2], PARTS))
    return _parts(out, shown, [files.unstrip_protocol(part) for part in parts], files)


def _parts(out: str, shown: str, found: Sequence[str], files: Any = None) -> FaceTable:
    planned = _planned_parts(out)
    if found:
        return FaceTable(shown, [_escaped(part) for part in found], PARQUET, files, planned)
    if planned is not None:
        raise DatasetError(f"The batch in {shown} has no finished part yet. Wait for the first one, or start it again.")
    raise DatasetError(f"{shown} holds no {PARTS}. Expected a folder of ferkit batch, or a table of ferkit predict.")


def _planned_parts(out: str) -> int | None:
    """How many parts the job will have; None where that is not to be known, which is no trouble for what is there."""
    try:
        job = read_job(open_storage(out), out)
        return None if job is None else int(job["parts"])
    except (FerkitError, KeyError, TypeError, ValueError):
        return None


def _reader(path: str, shown: str) -> str:
    for suffix, reader in _READERS.items():
        if path.lower().endswith(suffix):
            return reader
    raise DatasetError(
        f"{shown} is not a table of faces. Expected a folder of ferkit batch, {', '.join(_READERS)}, or a table of py-feat, iMotions, deepface or fer."
    )


def _escaped(path: str) -> str:
    """A path for DuckDB, which takes every name for a glob."""
    return re.sub(r"([*?\[])", r"[\1]", path)


@contextmanager
def one_line(table: FaceTable, errors: type[Exception]) -> Iterator[None]:
    """Turn what DuckDB, and the file system that it reads from, raises into one line."""
    try:
        yield
    except FerkitError:
        raise
    except (errors, OSError) as problem:
        said = first_line(problem)
        if table.reader == PARQUET and (found := _NO_PARQUET.search(said)):
            others = ", ".join(suffix for suffix, reader in _READERS.items() if reader != PARQUET)
            raise DatasetError(
                f"{found[1] or found[2]} is not a complete Parquet file. Expected what ferkit batch or "
                f"ferkit predict --parquet wrote; another kind of table under its own ending: {others}."
            ) from problem
        raise DatasetError(f"Cannot read {table.name}: {said}") from problem
    except Exception as problem:  # every store has errors of its own
        if table.filesystem is None:
            raise
        raise DatasetError(f"Cannot read {table.name}: {first_line(problem)}") from problem


def first_line(problem: BaseException) -> str:
    """What an error says, without the query and the advice that DuckDB adds below."""
    return printable_name((str(problem).strip().splitlines() or [type(problem).__name__])[0])


# ruff: noqa: S608 - what comes from data goes into SQL through `quoted` and `name`


Progress: TypeAlias = Callable[[str, int, int], object]
Outs: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_MEMORY = "1GB"  # of DuckDB; what is beyond goes to a temporary folder
# Files go in packs. Each leaves a row per group that is in it, so there must not be as many packs as there are files.
_MOST_PACKS, _LEAST_FILES = 64, 64
_REMOTE_READERS = 8  # they wait for the network rather than compute
_NEEDED = ("source", "label", "confidence", "error")


@dataclass(frozen=True)
class OpenTables:
    """Tables of faces, opened by DuckDB.

    columns: of each table. connection: of DuckDB; has the table `conditions` where there are any. conditions: its
    columns. errors: what DuckDB raises.
    """

    tables: Sequence[FaceTable]
    columns: Sequence[Sequence[str]]
    connection: Any
    conditions: tuple[str, ...]
    errors: type[Exception]

    @property
    def name(self) -> str:
        names = [table.name for table in self.tables]
        return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the models, each in its order."""
        return tuple(dict.fromkeys(name for columns in self.columns for name in class_columns(columns)))

    def condition_of(self, column: str) -> str:
        """SQL of a condition of the row `told`, by its source as it is or else by its file name, and by its track."""
        track = ["c.track = told.track"] if "track" in self.conditions else []
        sources = ["told.source", "parse_filename(told.source)"] if "source" in self.conditions else [None]
        found = []
        for source in sources:
            keys = " AND ".join([*([f"c.source = {source}"] if source else []), *track])
            found.append(f"(SELECT any_value(c.{name(column)}) FROM conditions c WHERE {keys})")
        return f"coalesce({', '.join(found)}, NULL)"


@dataclass(frozen=True)
class Counts:
    """What a pass left: the table `counts` in `connection`, a row per group, label and error message.

    Its columns: grp, label, message (text), n (rows), pictures, confidence (sum of those that are numbers), first, last
    (time taken), undated (pictures without one).
    """

    opened: OpenTables
    min_confidence: float

    @property
    def connection(self) -> Any:
        return self.opened.connection


@contextmanager
def open_tables(outs: Outs, conditions: str | os.PathLike[str] | None = None) -> Iterator[OpenTables]:
    """Open tables, and a table of conditions with a column `source` or `track` or both.

    Args:
        outs: a batch's folder, or a .parquet, .csv, .csv.gz or .jsonl file; local or an address of fsspec's; or several.
        conditions: a .csv or .parquet file, a row for each source, track, or track of a source.

    Raises:
        DatasetError: one is no such table or cannot be read. MissingDependencyError: a package is not installed.
    """
    duckdb = load_duckdb()
    paths = [outs] if isinstance(outs, str | os.PathLike) else list(outs)
    tables = [find_table(os.fsdecode(out)) for out in paths]
    with tempfile.TemporaryDirectory(prefix="ferkit-") as spill, duckdb.connect() as connection:
        _set_up(connection, spill)
        columns = []
        for table in tables:
            if table.filesystem is not None:
                connection.register_filesystem(table.filesystem)
            with one_line(table, duckdb.Error):
                columns.append(_columns(connection, table))
        known = () if conditions is None else _read_conditions(connection, Path(conditions), duckdb.Error)
        yield OpenTables(tables, columns, connection, known, duckdb.Error)


def _read_conditions(connection: Any, path: Path, errors: type[Exception]) -> tuple[str, ...]:
    """Make the table `conditions`, all of it text but the track; return its columns."""
    table = find_table(os.fspath(path))
    # Unlike our own tables these come from spreadsheets, so what separates the cells is found out.
    reader = _CONDITIONS if table.reader == _CSV else table.reader
    with one_line(table, errors):
        described = connection.execute(f"DESCRIBE SELECT * FROM {reader}", {"files": table.files}).fetchall()
        columns = tuple(row[0] for row in described)
        keys = [key for key in ("source", "track") if key in columns]
        if not keys:
            said = printable_name(", ".join(columns))
            raise DatasetError(f"{table.name} has no column source or track to find faces by. Its columns: {said}.")
        cast = (f"nullif(trim(CAST({name(one)} AS VARCHAR)), '') AS {name(one)}" for one in columns)
        track = " REPLACE (CAST(track AS BIGINT) AS track)" if "track" in keys else ""
        connection.execute(
            f"CREATE TABLE conditions AS SELECT *{track} FROM (SELECT {', '.join(cast)} FROM {reader})",
            {"files": table.files},
        )
        twice = connection.execute(
            f"SELECT {', '.join(keys)} FROM conditions GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
    if twice is not None:
        said = printable_name(", ".join(map(str, twice)))
        raise DatasetError(f"{table.name} has several rows for {said}. Expected one for each {' and '.join(keys)}.")
    return columns


@contextmanager
def counted(
    opened: OpenTables, *, key: str, dated: bool, tracked: bool, min_confidence: float, progress: Progress | None = None
) -> Iterator[Counts]:
    """Count the rows of tables in one pass.

    Args:
        opened: the tables.
        key: SQL of the group that a row belongs to, made of `source` (text), `track` (number or null) and `taken`
            (timestamp or null).
        dated: whether the key needs the column `taken`.
        tracked: whether the key needs the column `track`.
        min_confidence: faces below it count as `uncertain`.
        progress: told what is read, how many files are done, and of how many.

    Raises:
        DatasetError: a table lacks such a column or cannot be read.
    """
    # A table of the database: the cursors of other threads would not see a temporary one. It goes to disk all the same.
    opened.connection.execute(
        "CREATE TABLE counts (grp VARCHAR, label VARCHAR, message VARCHAR, n BIGINT, pictures BIGINT, "
        "confidence DOUBLE, first TIMESTAMP, last TIMESTAMP, undated BIGINT)"
    )
    for table, columns in zip(opened.tables, opened.columns, strict=True):
        with one_line(table, opened.errors):
            if dated and "taken" not in columns:
                raise DatasetError(
                    f"{table.name} has no column taken, the time of each picture, which ferkit batch writes. "
                    "Group by folder instead."
                )
            if tracked and "track" not in columns:
                raise DatasetError(
                    f"{table.name} has no column track, the person, which ferkit video writes. Group by source instead."
                )
            select = _select(columns, table.reader, key, min_confidence, tracked=tracked)
            _scan(opened.connection, table, select, progress)
    # What is asked later reads what was spilled: its trouble is that of the first table.
    with one_line(opened.tables[0], opened.errors):
        yield Counts(opened, min_confidence)


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
        "TimeZone = 'UTC'",
    ):
        connection.execute(f"SET {setting}")
    # In a notebook without ipywidgets DuckDB has no bar, and refuses to turn it off.
    with suppress(load_duckdb().InvalidInputException):
        connection.execute("SET enable_progress_bar = false")


def _columns(connection: Any, table: FaceTable) -> list[str]:
    described = connection.execute(f"DESCRIBE SELECT * FROM {table.reader}", {"files": [table.files[0]]}).fetchall()
    columns = [row[0] for row in described]
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise DatasetError(
            f"{table.name} is not a table of faces: it lacks the column {', '.join(missing)}. "
            f"Its columns: {printable_name(', '.join(columns))}."
        )
    return columns


def label_sql(min_confidence: float) -> str:
    """SQL of a face's label, with what is below a confidence as `uncertain`."""
    label, confidence = "nullif(CAST(label AS VARCHAR), '')", "CAST(confidence AS DOUBLE)"
    return (
        f"CASE WHEN {label} IS NOT NULL AND {confidence} < {min_confidence!r} THEN {quoted(UNCERTAIN)} ELSE {label} END"
    )


def _select(columns: Sequence[str], reader: str, key: str, min_confidence: float, *, tracked: bool) -> str:
    # The people of one frame stand in groups of their own, and each of them has the frame.
    begins = (
        "true"
        if tracked
        else "source IS DISTINCT FROM lag(source) OVER () OR frame IS DISTINCT FROM lag(frame) OVER ()"
    )
    track = "CAST(track AS BIGINT)" if "track" in columns else "NULL::BIGINT"
    taken = "TRY_CAST(taken AS TIMESTAMP)" if "taken" in columns else "NULL::TIMESTAMP"
    frame = "CAST(frame AS BIGINT)" if "frame" in columns else "0"
    # Without the picture's name in the message, so that the same trouble counts as one; without years that no calendar
    # has, as broken clocks say anything.
    return f"""
        WITH read AS (
            SELECT coalesce(CAST(source AS VARCHAR), '') AS source, {frame} AS frame, {track} AS track,
                {taken} AS taken, {label_sql(min_confidence)} AS label, CAST(confidence AS DOUBLE) AS confidence,
                replace(nullif(CAST(error AS VARCHAR), ''), CAST(source AS VARCHAR), '...') AS message
            FROM {reader}),
        told AS (
            SELECT source, track, label, confidence, message,
                CASE WHEN taken BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31' THEN taken END AS taken,
                {begins} AS begins
            FROM read)
        SELECT {key} AS grp, label, message, count(*) AS n, count(*) FILTER (begins) AS pictures,
            coalesce(sum(confidence) FILTER (label IS NOT NULL AND isfinite(confidence)), 0) AS confidence,
            min(taken) AS first, max(taken) AS last, count(*) FILTER (begins AND taken IS NULL) AS undated
        FROM told GROUP BY ALL"""


def _scan(connection: Any, table: FaceTable, select: str, progress: Progress | None) -> None:
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
