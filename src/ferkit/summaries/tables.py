"""Where a table of faces lies, and how DuckDB reads it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ferkit.batch.job import read_job
from ferkit.batch.storage import filesystem, is_address, open_storage, reason
from ferkit.errors import DatasetError, FerkitError
from ferkit.sources import printable_name

PARTS = "part-*.parquet"
PARQUET = "read_parquet($files)"
# A CSV is read as text: what it holds is not guessed from its first rows.
_CSV = "read_csv($files, header=true, delim=',', quote='\"', escape='\"', all_varchar=true, nullstr='')"
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
    many parts the job will have, where that is known.
    """

    name: str
    files: Sequence[str]
    reader: str
    filesystem: Any = None
    planned: int | None = None


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
        raise DatasetError(f"There is no {shown}. Expected what ferkit batch wrote, or a table of ferkit predict.")
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
        raise DatasetError(f"The batch in {shown} has no part done yet. Wait for the first, or start it again.")
    raise DatasetError(f"{shown} holds no {PARTS}. Expected what ferkit batch wrote, or a table of ferkit predict.")


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
    raise DatasetError(f"{shown} is no table of faces. Expected a folder of ferkit batch, or {', '.join(_READERS)}.")


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
                f"{found[1] or found[2]} is no Parquet file, or its end is missing. Expected what ferkit batch or "
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
