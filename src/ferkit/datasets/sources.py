"""Where faces lie: one file, plain or gzip. Opened as a stream, recognised by content."""

import difflib
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ferkit.errors import DatasetError

GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Open a file, unpacking gzip on the way; yields the stream and a function that says how far the file is read.

    A damaged or cut-off file, or one that cannot be read, becomes a `DatasetError` of one line.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            yield (cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw), raw.tell
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        what = "ends in the middle" if isinstance(problem, EOFError) else f"is damaged ({problem})"
        raise DatasetError(f"{path} {what}: the gzip data is incomplete. Download or copy it again.") from problem
    except OSError as problem:
        raise DatasetError(f"Cannot read {path}: {problem.strerror or problem}.") from problem


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise DatasetError(f"Cannot read {path}: {problem.strerror or problem}.") from problem


def missing(path: Path) -> DatasetError:
    """The error for a path that does not exist, with near names of what lies beside it."""
    folder = path.parent
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if not folder.is_dir():
        hint = f"The folder {folder} does not exist either."
    elif near:
        hint = f"Did you mean {' or '.join(str(folder / name) for name in near)}?"
    else:
        hint = "Give the path of a CSV, Parquet file, archive or folder of pictures."
    return DatasetError(f"There is no {path}. {hint}")
