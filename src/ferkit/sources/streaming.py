"""From references to what can be decoded: files, members of archives, cells of Parquet files, objects of a store."""

import functools
import os
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, overload

import numpy as np
import PIL.Image

from ferkit._support.download import AddressError, fetch
from ferkit._support.parallel import ordered_map
from ferkit.errors import DatasetError, DownloadError, FerkitError
from ferkit.sources import listing as kinds
from ferkit.sources.archives import Tar, open_unpacked, reading, tar_members
from ferkit.sources.listing import (
    MAX_COPIED_BYTES,
    Reference,
    is_picture,
    list_sources,
    no_content,
    too_large,
    unreadable,
)
from ferkit.sources.names import InMemory, Picture
from ferkit.sources.pictures import Source, as_array
from ferkit.sources.stores import is_address, is_web, read_object, reason

# Over a network most of the time is waiting, so pictures are asked for before their turn comes: so many at once.
_THREADS = 8
_AHEAD = 16

# A picture by its name, and what gets it; nothing of it is touched before.
Entry = tuple[str, Callable[[], Picture]]


def one_or_many(sources: Any) -> Iterable[Any]:
    """Sources to go through; a single one, which may be iterable itself, as a list of it.

    Many are a list or any other iterable, a Series of pandas or Polars, an array of paths, and an array or tensor
    (N, H, W, channels).
    """
    sources = sources if hasattr(sources, "to_list") else as_array(sources)
    if isinstance(sources, np.ndarray) and (sources.ndim == 4 or (sources.ndim == 1 and sources.dtype.kind in "OU")):
        return iter(sources)
    single = (str, os.PathLike, bytes, bytearray, memoryview, PIL.Image.Image, Picture, Reference, Mapping)
    if isinstance(sources, single) or callable(getattr(sources, "read", None)) or not isinstance(sources, Iterable):
        return [sources]
    # Rows of an array are no pictures; a Series is an array too.
    return [sources] if hasattr(sources, "__array__") and not hasattr(sources, "to_list") else sources


@overload
def expand_sources(sources: Iterable[str]) -> Iterator[str | Picture]: ...


@overload
def expand_sources(sources: Iterable[Source | Reference]) -> Iterator[Source]: ...


def expand_sources(sources: Iterable[Any]) -> Iterator[Any]:
    """Put the pictures that sources hold in their place, one after the other; memory stays flat.

    Args:
        sources: Anything that `read_image` or `list_references` takes, and what `list_sources` gave.

    Yields:
        What `read_image` takes. Something that cannot be read says why when it is opened, and the others go on.
    """
    with Containers() as containers:
        for one in list_sources(sources):
            if not isinstance(one, Reference):
                yield one
            elif one.kind == kinds.FILE or one.problem is not None:
                yield Picture(one.name, None if one.problem else one.path, one.problem)
            else:
                try:
                    yield from (get() for _, get in containers.entries(one))
                except FerkitError as problem:
                    yield Picture(one.name, None, str(problem))


def read_pictures(references: Sequence[Reference]) -> Iterator[Picture]:
    """Read the pictures of references in their order; those that lie far away are fetched before their turn.

    Args:
        references: As `list_references` gives them.

    Returns:
        A picture per reference, or all those of a shard; one that cannot be read has a `problem`.

    Raises:
        FerkitError: An object store or a web server cannot be asked, which is no picture's fault.
    """
    if not any(is_address(one.path) for one in references):
        return (get() for _, get in entries(references))
    if all(one.kind == kinds.FILE for one in references):
        return ordered_map(_file, references, _THREADS)
    return _read_ahead(get() for _, get in entries(references))


def entries(references: Iterable[Reference]) -> Iterator[Entry]:
    """The same one at a time: each is to be got before the next is asked for, or not at all."""
    with Containers() as containers:
        for reference in references:
            yield from containers.entries(reference)


def _read_ahead(items: Iterator[Picture]) -> Iterator[Picture]:
    with ThreadPoolExecutor(1, "ferkit-read") as reader:
        due = deque(reader.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := due.popleft().result()) is not None:
                due.append(reader.submit(next, items, None))
                yield item
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _file(reference: Reference) -> Picture:
    name, path = reference.name, reference.path
    if reference.problem is not None:
        return Picture(name, None, reference.problem)
    if not is_address(path):
        return Picture(name, path)
    if is_web(path):
        return _fetched(name, path)
    try:
        return _in_memory(name, read_object(path, MAX_COPIED_BYTES))
    except FileNotFoundError:
        return _failed(name, "it is no longer there")
    except OSError as problem:
        return _failed(name, reason(problem))


# A list of the web names servers that are gone for good, which must not hold up a job for ever. So many pictures in a
# row that no server answers for are another matter: the network is down, and rows that say so would stay.
_PATIENCE = 16
_unanswered = 0  # in a row, by this process


def _fetched(name: str, address: str) -> Picture:
    global _unanswered
    try:
        found = _in_memory(name, fetch(address, limit=MAX_COPIED_BYTES))
    except AddressError as problem:
        found = Picture(name, None, str(problem))
    except DownloadError as problem:
        _unanswered += 1
        if _unanswered < _PATIENCE:
            return Picture(name, None, str(problem))
        _unanswered = 0
        raise FerkitError(f"{problem} To resume, run the same command.") from problem
    _unanswered = 0
    return found


class Containers:
    """Opens archives and Parquet files, each once, as long as references keep to one. A context manager."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._key: tuple[str, bool] | None = None
        self._stream: Any = None

    def __enter__(self) -> "Containers":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def entries(self, reference: Reference) -> Iterator[Entry]:
        """The pictures of a reference: one, or all of a shard."""
        if reference.kind == kinds.SHARD and reference.problem is None:
            yield from _shard(reference)
        else:
            plain = reference.kind == kinds.FILE or reference.problem is not None
            yield reference.name, functools.partial(_file if plain else self._picture, reference)

    def _picture(self, reference: Reference) -> Picture:
        name, is_row = reference.name, reference.kind == kinds.ROW
        try:
            if self._key != (reference.path, is_row):
                self._open(reference.path, is_row)
            if is_row:
                return _in_memory(name, self._stream.picture(reference.size, reference.offset))
            if reference.kind == kinds.RANGE:
                return _in_memory(name, self._bytes(reference.offset, reference.size))
            return _in_memory(name, self._member(reference))
        except (OSError, EOFError, zlib.error, struct.error, DatasetError) as problem:
            self._key = None  # a stream that failed is not read on
            return _failed(name, reason(problem))

    def _open(self, path: str, is_row: bool) -> None:
        self._opened.close()
        self._key = None
        if is_row:
            from ferkit.sources.parquet import PictureTable

            self._stream = self._opened.enter_context(PictureTable(path))
        else:
            self._stream = self._opened.enter_context(open_unpacked(path))
        self._key = path, is_row

    def _bytes(self, offset: int, size: int) -> bytes:
        if why := too_large(size):
            raise OSError(why)
        self._stream.seek(offset)
        data = bytes(self._stream.read(size))
        if len(data) < size:
            raise EOFError("the archive ends within it")
        return data

    def _member(self, reference: Reference) -> bytes:
        """A member of a zip, found by its local header: no worker has to hold the list of all members."""
        header = struct.unpack("<4s22xHH", self._bytes(reference.offset, 30))
        if header[0] != b"PK\x03\x04":
            raise OSError("the archive is damaged or has changed: the member is not where it was")
        packed = self._bytes(reference.offset + 30 + header[1] + header[2], reference.size)
        if reference.kind == kinds.STORED:
            return packed
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, MAX_COPIED_BYTES + 1)


def _shard(reference: Reference) -> Iterator[Entry]:
    try:
        with open_unpacked(reference.path) as stream:
            for member, archive in tar_members(stream, reference.name):
                if (member.isreg() or member.islnk()) and is_picture(member.name):
                    name = f"{reference.name}::{member.name}"
                    yield name, functools.partial(_extracted, name, member, archive)
    except (DatasetError, OSError) as problem:
        yield reference.name, functools.partial(_failed, reference.name, reason(problem))


def _extracted(name: str, member: tarfile.TarInfo, archive: Tar) -> Picture:
    if why := no_content(member):
        return _failed(name, why)
    try:
        with reading("its archive"):
            return _in_memory(name, archive.content(member))
    except (tarfile.TarError, DatasetError) as problem:
        return _failed(name, reason(problem))


def _in_memory(name: str, data: bytes | None) -> Picture:
    why = "there are no picture bytes in this row" if data is None else too_large(len(data))
    return _failed(name, why) if why else Picture(name, InMemory(bytes(data or b""), name))


def _failed(name: str, why: str) -> Picture:
    return Picture(name, None, unreadable(name, why))
