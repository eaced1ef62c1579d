"""From references to what can be decoded: files, members of archives, cells of Parquet files."""

import functools
import io
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from ferkit._support.download import AddressError, fetch
from ferkit._support.parallel import ordered_map
from ferkit.batch import references as kinds
from ferkit.batch.parquet import Cells
from ferkit.batch.references import Reference
from ferkit.batch.storage import filesystem, is_address, network, reason
from ferkit.batch.tars import Archive, open_unpacked, tar_pictures, unreadable
from ferkit.data import reading
from ferkit.errors import DatasetError, DownloadError, FerkitError, one_line
from ferkit.sources import MAX_COPIED_BYTES

# Over a network most of the time is waiting, so pictures are asked for before their turn comes: so many at once.
_THREADS = 8
_AHEAD = 16
_WEB = ("http://", "https://")

T = TypeVar("T")


class InMemory(io.BytesIO):
    """An encoded picture that knows its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


@dataclass(frozen=True)
class Picture:
    """A picture of the plan, its bytes at hand or its path known.

    source: what `read_image` takes; None where there is a `problem`, which says why in one line.
    """

    name: str
    source: str | InMemory | None
    problem: str | None = None


# A picture of the plan by its name, and what gets it; nothing of it is touched before.
Entry = tuple[str, Callable[[], Picture]]


def pictures(references: Sequence[Reference]) -> Iterator[Picture]:
    """The pictures of a part in their order; a reference that cannot be read comes as a picture with a `problem`.

    Those that lie far away are fetched before their turn. Raises `FerkitError` where an object store or a web server
    cannot be asked: that is no picture's fault.
    """
    if not any(is_address(one.path) for one in references):
        return (get() for _, get in entries(references))
    if all(one.kind == kinds.FILE for one in references):
        return ordered_map(_file, references, _THREADS)
    return _read_ahead(get() for _, get in entries(references))


def entries(references: Sequence[Reference]) -> Iterator[Entry]:
    """The same one at a time: each is to be got before the next is asked for, or not at all."""
    with Containers() as containers:
        for reference in references:
            if reference.kind == kinds.SHARD and reference.problem is None:
                yield from _shard(reference)
            elif reference.kind == kinds.FILE or reference.problem is not None:
                yield reference.name, functools.partial(_file, reference)
            else:
                yield reference.name, functools.partial(containers.picture, reference)


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
    if path.lower().startswith(_WEB):
        return _fetched(name, path)
    try:
        with network(path):
            files, place = filesystem(path)
            # One byte more than is allowed, so that no object fills the memory.
            return _in_memory(name, files.cat_file(place, start=0, end=MAX_COPIED_BYTES + 1))
    except FileNotFoundError:
        return _failed(name, "it is no longer there")
    except OSError as problem:
        return _failed(name, reason(problem))


# A list of the web names servers that are gone for good, which must not hold up a job for ever. So many pictures in a row
# that no server answers for are another matter: the network is down, and rows that say so would stay.
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
        raise FerkitError(f"{problem} Run the same command again to go on.") from problem
    _unanswered = 0
    return found


class Containers:
    """Opens archives and Parquet files, each once, as long as references keep to one. A context manager."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._key: tuple[str, str] | None = None
        self._stream: Any = None

    def __enter__(self) -> "Containers":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def picture(self, reference: Reference) -> Picture:
        """The picture of a reference that is inside another file."""
        name, what = reference.name, "row" if reference.kind == kinds.ROW else "bytes"
        try:
            if self._key != (reference.path, what):
                self._open(reference.path, what)
            if what == "row":
                return _in_memory(name, self._stream.cell(reference.size, reference.offset))
            if reference.kind == kinds.RANGE:
                return _in_memory(name, self._bytes(reference.offset, reference.size))
            return _in_memory(name, self._member(reference))
        except (OSError, EOFError, zlib.error, struct.error, DatasetError) as problem:
            self._key = None  # a stream that failed is not read on
            return _failed(name, reason(problem))

    def _open(self, path: str, what: str) -> None:
        self._opened.close()
        self._key = None
        self._stream = self._opened.enter_context(Cells(path) if what == "row" else open_unpacked(path))
        self._key = path, what

    def _bytes(self, offset: int, size: int) -> bytes:
        if size > MAX_COPIED_BYTES:
            raise OSError(_too_large(size))
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
            for member, archive in tar_pictures(stream, reference.name):
                name = f"{reference.name}::{member.name}"
                yield name, functools.partial(_extracted, name, member, archive)
    except (DatasetError, OSError) as problem:
        yield reference.name, functools.partial(_failed, reference.name, reason(problem))


def _extracted(name: str, member: tarfile.TarInfo, archive: Archive) -> Picture:
    why = unreadable(member) or (_too_large(member.size) if member.size > MAX_COPIED_BYTES else None)
    if why is not None:
        return _failed(name, why)
    try:
        with reading("its archive"):
            return _in_memory(name, archive.content(member))
    except (tarfile.TarError, DatasetError) as problem:
        return _failed(name, reason(problem))


def _in_memory(name: str, data: bytes | None) -> Picture:
    if data is None:
        return _failed(name, "there are no picture bytes in this row")
    if len(data) > MAX_COPIED_BYTES:
        return _failed(name, _too_large(len(data)))
    return Picture(name, InMemory(bytes(data), name))


def _failed(name: str, why: str) -> Picture:
    return Picture(name, None, one_line(f"Cannot read {name}: {why}."))


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes or more. Expected at most {MAX_COPIED_BYTES:,}"
