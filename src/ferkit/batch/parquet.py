"""Pictures that a Parquet file names, or holds."""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ferkit.batch.storage import Far, is_address
from ferkit.data import refuse_bomb
from ferkit.errors import DatasetError, FerkitError

# In this order: what is asked for first is taken.
_IMAGE = (
    "image",
    "img",
    "picture",
    "face",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "bytes",
    "image_bytes",
    "img_bytes",
    "content",
)
_PATH = ("path", "file", "file_path", "filepath", "filename", "file_name", "image_path", "url", "uri", "key", "image")
_NAME = ("path", "key", "__key__", "name", "file_name", "filename", "file_path", "image_path", "url", "uri", "id")

# Rows that are in memory at once: a few photos; or names, which are short.
_CELLS, _NAMES = 16, 4096
# Rows that a file may claim for each of its bytes: nothing that holds pictures or their names packs them tighter.
_ROWS_PER_BYTE = 8

# What Arrow raises of a damaged file, besides `OSError`: of text that is none, too.
_DAMAGED = (pa.ArrowException, ValueError)


@dataclass(frozen=True)
class Columns:
    """Which columns matter: either `data`, encoded pictures, or `path`; and `name`, where one has names."""

    data: str | None
    path: str | None
    name: str | None


class Opened:
    """A Parquet file on disk or far away. A context manager; raises `DatasetError` for one that cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._closing = ExitStack()
        try:
            # Arrow takes a name as bytes only where it does not open the file itself.
            source = self._closing.enter_context(Far(path) if is_address(path) else pa.OSFile(os.fsencode(path)))
            # Streamed: by itself Arrow takes whole row groups into memory.
            self.file = self._closing.enter_context(pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20))
            refuse_bomb(self.file.metadata, path)
            schema, rows, size = self.file.schema_arrow, self.file.metadata.num_rows, source.seek(0, os.SEEK_END)
        except (*_DAMAGED, OSError) as problem:
            self._closing.close()
            if isinstance(problem, FileNotFoundError | PermissionError | FerkitError):
                raise
            raise DatasetError(f"{path} is no Parquet file that can be read ({problem}). Copy it again.") from problem
        if rows > _ROWS_PER_BYTE * size:
            self._closing.close()
            raise DatasetError(f"{path} claims {rows:,} rows in {size:,} bytes, so it is damaged. Copy it again.")
        self.columns = _columns(schema, path)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def names(self, group: int) -> Iterator[str | None]:
        """Name or path of each row of a row group; None where there is none."""
        column = self.columns.path or self.columns.name
        if column is None:
            yield from itertools.repeat(None, self.file.metadata.row_group(group).num_rows)
            return
        try:
            for value in self.values(group, column, _NAMES):
                yield value.as_py()
        except FerkitError:
            raise
        except _DAMAGED as problem:
            raise DatasetError(f"Row group {group} of {self.path} is damaged ({problem}). Copy it again.") from problem

    def values(self, group: int, column: str, count: int) -> Iterator[Any]:
        """The cells of a column of a row group, as Arrow has them, so many in memory at once."""
        for batch in self.file.iter_batches(count, row_groups=[group], columns=[column], use_threads=False):
            found = batch.column(0)
            yield from found.field(0) if pa.types.is_struct(found.type) else found


class Cells(Opened):
    """The encoded pictures of a file, asked for in the order of the rows."""

    def __enter__(self) -> "Cells":
        self._group, self._row = -1, 0
        self._rows: Iterator[Any] = iter(())
        return self

    def cell(self, group: int, row: int) -> bytes | None:
        """The picture in a row of a row group; None where the cell is empty."""
        if group != self._group or row < self._row:
            self._group, self._row = group, 0
            self._rows = self.values(group, self.columns.data or "", _CELLS)
        try:
            for cell in self._rows:
                self._row += 1
                if self._row > row:
                    found = cell.as_py()
                    return found if isinstance(found, bytes) else None
        except FerkitError:
            raise
        except _DAMAGED as problem:
            raise DatasetError(f"row group {group} of {self.path} is damaged ({problem})") from problem
        raise DatasetError(f"{self.path} no longer has that row")


def _columns(schema: pa.Schema, path: str) -> Columns:
    names = {name.lower(): name for name in reversed(schema.names)}

    def first(choices: tuple[str, ...], test: Any) -> str | None:
        return next((names[one] for one in choices if one in names and test(schema.field(names[one]).type)), None)

    name = first(_NAME, _is_text)
    data = first(_IMAGE, _is_binary)
    if data is not None:
        return Columns(data, None, name)
    struct = first(_IMAGE, _holds_bytes)
    if struct is not None:
        inner = {field.name for field in schema.field(struct).type}
        return Columns(f"{struct}.bytes", None, name or (f"{struct}.path" if "path" in inner else None))
    named = first(_PATH, _is_text)
    if named is None:
        raise DatasetError(
            f"{path} has no column of encoded pictures ({', '.join(_IMAGE[:3])}, ...) or of paths "
            f"({', '.join(_PATH[:3])}, ...). It has: {', '.join(schema.names)}."
        )
    return Columns(None, named, None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether it is the struct of Hugging Face's `datasets`: bytes, and the path that they came from."""
    return bool(pa.types.is_struct(kind)) and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
