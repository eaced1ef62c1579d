"""Where faces lie: a file, a folder or an archive, recognised by content and never unpacked to disk."""

import bz2
import difflib
import hashlib
import io
import lzma
import os
import stat
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from ferkit.errors import DatasetError

try:
    # Intel's library behind the interface of zlib, three times as fast; there is no wheel for some platforms.
    from isal import isal_zlib as gunzip
except ImportError:
    import zlib as gunzip  # type: ignore[no-redef]

DATA_SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".parquet")

# No photograph of a face is larger; what claims to be would only fill the memory.
LARGEST_PICTURE_BYTES = 64 << 20
# Rows of numbers pack about 3 to 1, pictures hardly at all; a bomb packs about 1,000 to 1.
LARGEST_RATIO, RATIO_FREE_BYTES = 100, 64 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_PACKED_BYTES = 1 << 17
_PIECES_AHEAD = 4
_HASHED_BYTES = 4 << 20

_UNPACKERS: dict[bytes, Callable[[BinaryIO], object]] = {
    _GZIP_MAGIC: lambda raw: Gunzip(raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_DAMAGED = (EOFError, zlib.error, cast(type[Exception], gunzip.error), lzma.LZMAError)


class Tree(Protocol):
    """Named files of a folder or an archive. Names are relative, with `/` between their parts."""

    def names(self) -> Sequence[str]:
        """Files in reading order, without links and without what systems leave behind (`.DS_Store`, `__MACOSX`)."""

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        """Name and content of each, in reading order; a `str` instead of bytes is the reason why it cannot be read."""

    def open(self, name: str) -> AbstractContextManager[tuple[BinaryIO, Callable[[], int]]]:
        """One file as a stream, and how many bytes of the source are read so far."""


@dataclass(frozen=True)
class DataFile:
    """A file that holds many faces, itself the source or inside one.

    open: context manager that yields the unpacked stream and how far the packed bytes are read.
    size: packed bytes in all.
    path: where it lies on disk as it is, or None if it is packed or inside an archive.
    """

    name: str
    open: Callable[[], AbstractContextManager[tuple[BinaryIO, Callable[[], int]]]]
    size: int
    path: Path | None = None

    def head(self, count: int = 1 << 16) -> bytes:
        with self.open() as (stream, _):
            return stream.read(count)


@dataclass(frozen=True)
class Source:
    """What readers look at: the files that may hold many faces, and the single pictures."""

    name: str
    size: int
    files: Sequence[DataFile]
    tree: Tree | None = None
    pictures: Sequence[str] = ()


class Guarded(io.RawIOBase):
    """A stream that refuses to unpack to far more than was packed: a decompression bomb."""

    def __init__(self, stream: BinaryIO, packed_bytes: int, name: str) -> None:
        self._stream, self._name = stream, name
        self._left = max(RATIO_FREE_BYTES, packed_bytes * LARGEST_RATIO)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise DatasetError(
                f"{self._name} unpacks to more than {LARGEST_RATIO} times its size, so it is refused as a "
                "decompression bomb. Unpack it yourself if you trust it."
            )
        return len(data)


class Gunzip(io.RawIOBase):
    """A gzip stream unpacked, its checksum verified. Takes a quarter of the time of `gzip.GzipFile` with isal."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._member = gunzip.decompressobj(zlib.MAX_WBITS | 16)
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = size if size >= 0 else sys.maxsize
        while True:
            if self._member.eof:
                # Another member may follow, after zeros that pad tapes; anything else there is ignored, as gzip does.
                rest = (self._member.unused_data or self._packed.read(_PACKED_BYTES)).lstrip(b"\0")
                if not rest.startswith(_GZIP_MAGIC):
                    return b""
                self._member, self._waiting = gunzip.decompressobj(zlib.MAX_WBITS | 16), rest
            data = self._waiting or self._packed.read(_PACKED_BYTES)
            if not data:
                raise EOFError("The gzip stream ends early.")
            unpacked_data = self._member.decompress(data, size)
            self._waiting = self._member.unconsumed_tail
            if unpacked_data:
                return unpacked_data


def read_ahead(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Pieces of a stream, read (and unpacked) by another thread while the last ones are worked on."""
    with ThreadPoolExecutor(1, "ferkit-read") as reader:
        ahead = deque(reader.submit(stream.read, size) for _ in range(_PIECES_AHEAD))
        while piece := ahead.popleft().result():
            ahead.append(reader.submit(stream.read, size))
            yield piece


def guarded(stream: BinaryIO, packed_bytes: int, name: str) -> io.BufferedReader:
    """A stream that is read through `Guarded`."""
    return io.BufferedReader(Guarded(stream, packed_bytes, name), 1 << 18)


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Turn what a damaged file or an unreadable disk causes into a `DatasetError` of one line."""
    try:
        yield
    except _DAMAGED as problem:
        what = (
            "is cut off: its packed data ends too early" if isinstance(problem, EOFError) else f"is damaged ({problem})"
        )
        raise DatasetError(f"{name} {what}. Download or copy it again.") from problem
    except OSError as problem:
        raise DatasetError(f"Cannot read {name}: {problem.strerror or problem}.") from problem


@contextmanager
def unpacked(raw: io.BufferedReader, size: int, name: str) -> Iterator[BinaryIO]:
    """The stream as it is, or unpacked if its first bytes say gzip, bzip2 or xz; `size` is that of the packed bytes."""
    magic = raw.peek(8)
    for start, opener in _UNPACKERS.items():
        if magic.startswith(start):
            yield guarded(cast(BinaryIO, opener(raw)), size, name)
            return
    yield raw


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """A file on disk, unpacked on the way, and how far it is read."""
    with reading(path), path.open("rb") as raw, unpacked(raw, path.stat().st_size, str(path)) as stream:
        yield stream, raw.tell


def is_junk(name: str) -> bool:
    """Whether a file is something that systems leave behind, not data."""
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1].lower() == "thumbs.db"


class Folder:
    """A folder on disk as a `Tree`; links are followed, each folder once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: list[str] | None = None

    def names(self) -> Sequence[str]:
        if self._names is None:
            with reading(self.path):
                self._names = sorted(self._walk())
        return self._names

    def _walk(self) -> Iterator[str]:
        def refuse(problem: OSError) -> None:
            raise problem

        seen: set[str] = set()
        for top, folders, files in os.walk(self.path, onerror=refuse, followlinks=True):
            if (real := os.path.realpath(top)) in seen:
                folders.clear()
                continue
            seen.add(real)
            inside = Path(top).relative_to(self.path).as_posix()
            for file in files:
                name = file if inside == "." else f"{inside}/{file}"
                if not is_junk(name):
                    yield name

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        for name in names:
            try:
                status = (self.path / name).stat()
                if not stat.S_ISREG(status.st_mode):
                    yield name, "not a regular file"
                elif status.st_size > LARGEST_PICTURE_BYTES:
                    yield name, f"{status.st_size:,} bytes, expected at most {LARGEST_PICTURE_BYTES:,}"
                else:
                    yield name, (self.path / name).read_bytes()
            except OSError as problem:
                yield name, f"cannot be read: {problem.strerror or problem}"

    def open(self, name: str) -> AbstractContextManager[tuple[BinaryIO, Callable[[], int]]]:
        return open_file(self.path / name)

    def checksum(self) -> str:
        """SHA-256 over names, sizes and times of change: what is in the files is not read."""
        digest = hashlib.sha256()
        with reading(self.path):
            for name in self.names():
                try:
                    status = (self.path / name).stat()
                except FileNotFoundError:  # a dangling link, which the reader will report
                    continue
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def checksum(path: Path) -> str:
    """Checksum of a file's content (SHA-256 of the SHA-256s of its parts), or of a folder's listing; hex."""
    if path.is_dir():
        return Folder(path).checksum()

    def part(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_HASHED_BYTES)).digest()

    # Parts are hashed side by side: in one go, this would be a fifth of the time that a plain CSV takes.
    with reading(path), ThreadPoolExecutor(os.cpu_count() or 1, "ferkit-hash") as hashers:
        return hashlib.sha256(b"".join(hashers.map(part, range(0, path.stat().st_size, _HASHED_BYTES)))).hexdigest()


def is_there(path: Path) -> bool:
    """Whether a file or folder exists; False also for names that no file system takes."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DatasetError(
                f"{path} is neither a file nor a folder. Data is read more than once: write it to a file."
            )
        return path.exists()
    except OSError:
        return False


def missing(path: Path) -> DatasetError:
    """The error for a path that does not exist, with near names of what lies beside it."""
    folder = path.parent
    try:
        names = sorted(one.name for one in folder.iterdir())
    except OSError:
        return DatasetError(f"There is no {path}, nor a folder {folder} that can be read. Check the path.")
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    if near:
        return DatasetError(f"There is no {path}. Did you mean {' or '.join(str(folder / name) for name in near)}?")
    return DatasetError(f"There is no {path}. Expected a CSV or Parquet file, an archive or a folder of pictures.")
