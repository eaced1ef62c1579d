"""The forms a data set comes in. A reader looks at a source's content, says whether it is its own, and reads it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ferkit._support.registry import Registry, describe
from ferkit.data.csv_columns import CSV_SUFFIXES, Columns, Utf8, find_columns
from ferkit.data.csv_files import read_batches
from ferkit.data.folders import read_folders
from ferkit.data.layouts import is_list
from ferkit.data.names import numbered_classes
from ferkit.data.pictures import Shaper
from ferkit.data.records import Batch, DataFile, Faces, Reading, Source
from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, WITH_CONTEMPT
from ferkit.sources import PICTURE_SUFFIXES, is_folder, open_binary, open_file, open_tree, reading

DATA_SUFFIXES = (*CSV_SUFFIXES, ".parquet")


class Reader(Protocol):
    """One form of data set. Raise `version` when the same source gives other faces, labels or notes."""

    version: int

    def recognise(self, source: Source) -> bool:
        """Whether this reader can read the source, by its content."""

    def read(self, source: Source, shaper: Shaper) -> Reading:
        """Read a source that `recognise` accepted."""


_PARQUET_MAGIC = b"PAR1"

READERS: Registry[Reader] = Registry("data set format")


def open_source(path: str | Path) -> Source:
    """Look at a path or an address: a file with many faces, or the files of a folder or an archive."""
    place = str(path)
    size = 0 if is_folder(place) else _size(place)
    if size == 0 and not is_folder(place):
        raise DatasetError(f"{path} is empty. Expected a CSV or Parquet file or an archive; download it again.")
    tree = open_tree(place)
    if tree is None:
        return Source(place, size, [DataFile(place, partial(open_file, place), size, place)])
    names = tree.names()
    files = [
        DataFile(name, partial(tree.open, name), size or _size(tree.path_of(name) or place), tree.path_of(name))
        for name in names
        if name.lower().endswith(DATA_SUFFIXES)
    ]
    pictures = [name for name in names if name.lower().endswith(PICTURE_SUFFIXES)]
    return Source(place, size, files, tree, pictures)


def _size(place: str) -> int:
    with reading(place), open_binary(place) as file:
        return file.seek(0, os.SEEK_END)


def read_source(path: str | Path, shaper: Shaper) -> Reading:
    """Recognise a source and read it; a `DatasetError` says what was expected if no reader knows it."""
    source = open_source(path)
    for reader in READERS.values():
        if reader.recognise(source):
            return reader.read(source, shaper)
    known = "; ".join(describe(reader) for reader in READERS.values())
    raise DatasetError(f"{_what_came(source)} Expected one of: {known}; plain or in a .zip or .tar.gz.")


def _what_came(source: Source) -> str:
    if source.tree is not None and not source.files:
        names = source.tree.names()
        example = f", e.g. {names[0]}" if names else ""
        return f"{source.name} holds no picture ({len(names):,} other files{example})."
    name, head = (source.name, source.files[0].head(200)) if source.tree is None else ("", b"")
    if source.tree is not None:
        return f"{source.name} holds {', '.join(one.name for one in source.files[:3])}, of no known form."
    if head.startswith((b"7z\xbc\xaf", b"Rar!")):
        return f"{name} is a 7z or RAR archive, which is not read; pack it as .zip."
    if name.lower().endswith(PICTURE_SUFFIXES):
        return f"{name} is a single picture, not a data set (to recognise it: ferkit predict)."
    if b"\0" in head[:8] and head[:8].replace(b"\0", b"").isalnum():
        return f"{name} seems to be in UTF-16 without a byte order mark; save it as UTF-8."
    line = head.split(b"\n")[0].strip().decode("utf-8", "replace")
    if line.isprintable() and is_list(line):
        return f"{name} is a list of pictures, which are read with it: name their folder, {Path(name).parent}."
    return f"{name}: the {f'header {line[:60]!r}' if line.isprintable() else 'format'} was not recognised."


class CsvReader:
    """CSV of pixels as FER-2013's (header emotion,pixels,Usage)"""

    version = 4

    def recognise(self, source: Source) -> bool:
        return bool(self._matching(source))

    def first_line(self, source: Source) -> int:
        """The line of the first face, counted from 1."""
        return 1 + self._matching(source)[0][1].header

    def _matching(self, source: Source) -> list[tuple[DataFile, Columns]]:
        found = [(one, columns) for one in source.files if (columns := _columns(one))]
        reasons = [f"{one.name} {columns}" for one, columns in found if isinstance(columns, str)]
        known = [(one, columns) for one, columns in found if not isinstance(columns, str)]
        if reasons and not known:
            raise DatasetError(reasons[0])
        return [one for one in known if one[1].usage is not None] or known

    def read(self, source: Source, shaper: Shaper) -> Reading:
        files = self._matching(source)
        if len(files) > 1:
            raise DatasetError(
                f"{source.name} holds several CSV files of faces: {', '.join(one.name for one, _ in files)}. "
                "Expected one; unpack and name the one you mean."
            )
        file, columns = files[0]
        notes = [columns.found] if columns.found else []
        classes = [*WITH_CONTEMPT]
        return Reading("csv", classes, self._batches(file, columns, shaper, classes, notes), file.size, notes)

    def _batches(
        self, file: DataFile, columns: Columns, shaper: Shaper, classes: list[str], notes: list[str]
    ) -> Iterator[Batch]:
        numbers: set[int] = set()
        with file.open() as (stream, position):
            text = Utf8(stream)
            if columns.header:
                header = text.head.partition(b"\n")[0]
                # What has no line ends must not fill the memory.
                if len(header) >= Utf8.HEAD:
                    raise DatasetError(f"{file.name} has a header longer than {Utf8.HEAD:,} bytes: no CSV of faces.")
                text.skip(len(header) + 1)
            for batch in read_batches(text, columns, file.name):
                numbers.update(np.unique(batch.labels).tolist())
                yield replace(batch, images=_reshaped(batch.images, shaper), done=position())
        contempt = WITH_CONTEMPT.index("contempt") in numbers
        classes[:] = WITH_CONTEMPT if contempt else EMOTIONS
        if columns.numbered:
            classes[:] = numbered_classes(file.name, numbers, notes)


def _columns(file: DataFile) -> Columns | str | None:
    with file.open() as (stream, _):
        return find_columns(Utf8(stream).head)


def _reshaped(images: Faces, shaper: Shaper) -> Faces:
    """Gray faces in the size and channels asked for; as they are if nothing was asked for."""
    colour = np.broadcast_to(images, (*images.shape[:3], 3))
    if shaper.height is None or images.shape[1:3] == (shaper.height, shaper.width):
        return np.ascontiguousarray(colour) if shaper.channels == 3 else images
    from ferkit.detection import resize_face

    target = shaper.face_input
    shape = (len(images), target.height, target.width, target.channels)
    return np.array([resize_face(image, target) for image in colour], np.uint8).reshape(shape)


class ParquetReader:
    """Parquet with encoded pictures and labels"""

    version = 3

    def recognise(self, source: Source) -> bool:
        return any(one.head(4) == _PARQUET_MAGIC for one in source.files)

    def read(self, source: Source, shaper: Shaper) -> Reading:
        files = [one for one in source.files if one.head(4) == _PARQUET_MAGIC]
        # pyarrow takes a tenth of a second to import, and most sets are not Parquet.
        from ferkit.data.parquet import read_parquet

        return read_parquet(files, source.name, shaper)


class FolderReader:
    """pictures in class folders (happy/1.jpg, train/happy/1.jpg or happy/train/1.jpg), with a list (labels.csv), or as published (RAF-DB, AffectNet, FER+, CK+, JAFFE, KDEF)"""

    version = 4

    def recognise(self, source: Source) -> bool:
        return source.tree is not None and bool(source.pictures)

    def read(self, source: Source, shaper: Shaper) -> Reading:
        if source.tree is None:
            raise DatasetError(f"{source.name} is not a folder or an archive.")
        return read_folders(source, source.tree, shaper)


READERS.register("csv")(CsvReader())
READERS.register("parquet")(ParquetReader())
READERS.register("folders")(FolderReader())
