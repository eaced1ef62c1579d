"""Where a table of faces lies, and how DuckDB reads it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit.errors import DatasetError, MissingDependencyError
from ferkit.sources import printable_name

PARTS = "part-*.parquet"
# What begins with "_" is not part of a data set: the plan of the job.
JOB = "_job"
PARQUET = "read_parquet($files)"
# A CSV is read as text: what it holds is not guessed from its first rows.
_CSV = "read_csv($files, header=true, delim=',', quote='\"', escape='\"', all_varchar=true, nullstr='')"
_READERS = {
    ".parquet": PARQUET,
    ".csv": _CSV,
    ".csv.gz": _CSV,
    ".jsonl": "read_json($files, format='newline_delimited')",
}


@dataclass(frozen=True)
class FaceTable:
    """The files of a table, escaped as DuckDB takes them, and how it reads them.

    reader: SQL in which `$files` stands for a list of files. filesystem: of fsspec; None for local files.
    """

    name: str
    files: Sequence[str]
    reader: str
    filesystem: Any = None


def find_table(out: str) -> FaceTable:
    """The table of a batch's folder or of a single file, local or at an address.

    Raises `DatasetError` where there is none, `MissingDependencyError` where a package is not installed.
    """
    if "://" in out:
        return _find_remote(out)
    path, shown = Path(out), printable_name(out)
    try:
        if path.is_dir():
            found = sorted(os.fspath(part) for part in path.glob(PARTS))
            return FaceTable(shown, _parts(found, shown, begun=(path / JOB).is_dir()), PARQUET)
        there = path.is_file()
    except (OSError, ValueError) as problem:  # ValueError: a null character in the path
        raise DatasetError(f"Cannot read {shown}: {getattr(problem, 'strerror', None) or problem}.") from problem
    if not there:
        raise DatasetError(f"There is no {shown}. Expected what ferkit batch wrote, or a table of ferkit predict.")
    return FaceTable(shown, [_escaped(out)], _reader(out, shown))


def _find_remote(out: str) -> FaceTable:
    try:
        import fsspec
    except ImportError as problem:
        raise MissingDependencyError("Addresses need fsspec: pip install 'ferkit[batch]'.") from problem
    shown = printable_name(out)
    try:
        filesystem, path = fsspec.core.url_to_fs(out)
        if "file" in filesystem.protocol:
            return find_table(path)
        path = path.rstrip("/")
        filesystem.invalidate_cache()  # parts may have come since this process looked last
        single = filesystem.isfile(path)
        found = [path] if single else sorted(filesystem.glob(f"{_escaped(path)}/{PARTS}"))
        begun = not found and filesystem.exists(f"{path}/{JOB}/job.json")
    except DatasetError:
        raise
    except ImportError as problem:
        extra = "pip install 'ferkit[s3]'" if out.startswith("s3:") else "install the package that it names"
        raise MissingDependencyError(f"Cannot open {shown} ({first_line(problem)}): {extra}.") from problem
    except Exception as problem:  # every store has errors of its own
        raise DatasetError(f"Cannot read {shown}: {first_line(problem)}") from problem
    reader = _reader(path, shown) if single else PARQUET
    parts = [filesystem.unstrip_protocol(part) for part in found]
    return FaceTable(shown, _parts(parts, shown, begun=begun), reader, filesystem)


def _parts(found: Sequence[str], shown: str, *, begun: bool) -> Sequence[str]:
    if found:
        return [_escaped(part) for part in found]
    if begun:
        raise DatasetError(f"The batch in {shown} has no part done yet. Wait for the first, or start it again.")
    raise DatasetError(f"{shown} holds no {PARTS}. Expected what ferkit batch wrote, or a table of ferkit predict.")


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
    except DatasetError:
        raise
    except (errors, OSError) as problem:
        raise DatasetError(f"Cannot read {table.name}: {first_line(problem)}") from problem
    except Exception as problem:  # every store has errors of its own
        if table.filesystem is None:
            raise
        raise DatasetError(f"Cannot read {table.name}: {first_line(problem)}") from problem


def first_line(problem: BaseException) -> str:
    return printable_name((str(problem).strip().splitlines() or [type(problem).__name__])[0])
