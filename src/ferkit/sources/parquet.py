"""Parquet files that hold pictures, or name them; on disk, far away or in memory. They are streamed: memory stays flat."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ferkit._support.arrow import pa, pq
from ferkit.errors import DatasetError, FerkitError
from ferkit.sources.archives import LARGEST_RATIO, RATIO_FREE_BYTES, bomb
from ferkit.sources.stores import is_address, open_binary, refuse_pipe

# In this order: what is asked for first is taken.
IMAGE = (
    "image",
    "img",
    "picture",
    "face",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "img_bytes",
    "image_bytes",
    "bytes",
    "content",
)
_PATH = ("path", "file", "file_path", "filepath", "filename", "file_name", "image_path", "url", "uri", "key", "image")
_NAME = ("path", "key", "__key__", "name", "file_name", "filename", "file_path", "image_path", "url", "uri", "id")

# Rows that are in memory at once: a few photos; or names, which are short.
_CELLS, _NAMES = 16, 4096
# Rows that a file may claim for each of its bytes: nothing that holds pictures or their names packs them tighter.
_ROWS_PER_BYTE = 8


@contextmanager
def reading_parquet(what: str) -> Iterator[None]:
    """Turn what Arrow raises of a damaged file into a `DatasetError`; of text that is none it is a `ValueError`.

    What the system or a server says of the file itself passes.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, FerkitError):
        raise
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise DatasetError(f"{what} ({problem}). Copy or download it again.") from problem


def open_parquet(path: str, content: BinaryIO | None = None) -> pq.ParquetFile:
    """A Parquet file by its path or address, or its content at hand. Raises `DatasetError` where it is none or a bomb."""
    with reading_parquet(f"{path} is not a readable Parquet file"):
        if content is None and not is_address(path):
            refuse_pipe(path)
        # Arrow takes a name that is no text only where it does not open the file itself.
        source = content or (open_binary(path) if is_address(path) else pa.OSFile(os.fsencode(path)))
        try:
            size = source.seek(0, os.SEEK_END)
            # By itself Arrow takes whole row groups into memory.
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            _refuse_bomb(file.metadata, path, size)
            file.schema_arrow.names  # noqa: B018 - raises of names that are no text
        except BaseException:
            source.close()
            raise
    return file


def _refuse_bomb(metadata: Any, name: str, size: int) -> None:
    """Refuse a file that says itself that it unpacks to far more than it holds, as pictures never do."""
    if metadata.num_rows > _ROWS_PER_BYTE * size:
        raise DatasetError(
            f"{name} claims {metadata.num_rows:,} rows in {size:,} bytes, so it is damaged. Copy it again."
        )
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.total_byte_size <= RATIO_FREE_BYTES:
            continue
        for column in map(group.column, range(group.num_columns)):
            if column.total_uncompressed_size > max(RATIO_FREE_BYTES, LARGEST_RATIO * column.total_compressed_size):
                raise bomb(name)


def image_column(schema: pa.Schema) -> str | None:
    """The column of encoded pictures: bytes, or the struct of Hugging Face's `datasets` that holds them; else None."""
    return _first(schema, IMAGE, _is_binary) or _first(schema, IMAGE, _holds_bytes)


def picture_bytes(cell: object) -> bytes | None:
    """The encoded picture in a cell; None where there is none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else None


class PictureTable:
    """The pictures that a Parquet file holds, or the paths of those that it names. A context manager.

    data: the column of encoded pictures; without it `names` are the paths of pictures elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open_parquet(path)
        schema = self._file.schema_arrow
        self.groups = int(self._file.metadata.num_row_groups)
        image, name = image_column(schema), _first(schema, _NAME, _is_text)
        if image is None:
            self.data, self._name = None, _first(schema, _PATH, _is_text)
            if self._name is None:
                self._file.close(force=True)
                raise DatasetError(
                    f"{path} has no column of encoded pictures ({', '.join(IMAGE[:3])}, ...) or of paths "
                    f"({', '.join(_PATH[:3])}, ...). It has: {', '.join(schema.names)}."
                )
        else:
            kind = schema.field(image).type
            parts = {field.name for field in kind} if pa.types.is_struct(kind) else set()
            self.data = f"{image}.bytes" if parts else image
            self._name = name or (f"{image}.path" if "path" in parts else None)
        self._group, self._row = -1, 0
        self._rows: Iterator[Any] = iter(())

    def __enter__(self) -> "PictureTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close(force=True)

    def names(self, group: int) -> Iterator[str | None]:
        """Name or path of each row of a row group; None where there is none."""
        if self._name is None:
            yield from itertools.repeat(None, self._file.metadata.row_group(group).num_rows)
            return
        with self._reading(group):
            for value in self._values(group, self._name, _NAMES):
                yield value.as_py()

    def picture(self, group: int, row: int) -> bytes | None:
        """The picture in a row of a row group; None where the cell is empty. Best asked for in the order of the rows."""
        if group != self._group or row < self._row:
            self._group, self._row = group, 0
            self._rows = self._values(group, self.data or "", _CELLS)
        with self._reading(group):
            for cell in self._rows:
                self._row += 1
                if self._row > row:
                    return picture_bytes(cell.as_py())
        raise DatasetError(f"{self.path} no longer has that row")

    def _reading(self, group: int) -> Any:
        return reading_parquet(f"Row group {group} of {self.path} is damaged")

    def _values(self, group: int, column: str, count: int) -> Iterator[Any]:
        """The cells of a column of a row group, as Arrow has them, so many in memory at once."""
        for batch in self._file.iter_batches(count, row_groups=[group], columns=[column], use_threads=False):
            found = batch.column(0)
            yield from found.field(0) if pa.types.is_struct(found.type) else found


def _first(schema: pa.Schema, choices: tuple[str, ...], test: Any) -> str | None:
    names = {name.lower(): name for name in reversed(schema.names)}
    return next((names[one] for one in choices if one in names and test(schema.field(names[one]).type)), None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
