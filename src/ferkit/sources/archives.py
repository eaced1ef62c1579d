"""Archives and packed files, read in place: nothing is unpacked to disk, so no name in them can do harm.

Archives come from strangers, so nothing in them is believed. What a member claims to be and what comes out of it are
both bounded, links are not followed, and what libraries raise of damaged headers becomes one line.
"""

import bz2
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from typing import BinaryIO, Self, cast

from ferkit.errors import DatasetError, FerkitError
from ferkit.sources.stores import open_binary

try:
    # Intel's library, three times as fast as zlib; there is no wheel for some platforms.
    from isal import isal_zlib as deflate
    from isal.igzip import IGzipFile as GzipFile
except ImportError:
    import zlib as deflate  # type: ignore[no-redef]
    from gzip import GzipFile  # type: ignore[assignment]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# Rows of numbers pack about 3 to 1, pictures hardly at all; a bomb packs about 1,000 to 1.
LARGEST_RATIO, RATIO_FREE_BYTES = 100, 64 << 20

_EMPTY_READS = 100
_UNPACKERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda raw: GzipFile(fileobj=raw),  # type: ignore[no-untyped-call]
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_DAMAGED = (EOFError, BadGzipFile, zlib.error, cast(type[Exception], deflate.error), lzma.LZMAError)
# What zipfile and tarfile raise where headers hold what they should not: names that are no text, numbers that are none,
# headers about headers without end.
DAMAGED_HEADER = (
    *(zipfile.BadZipFile, tarfile.TarError, struct.error),
    *(ValueError, LookupError, ArithmeticError, RecursionError),
)


def bomb(name: object) -> DatasetError:
    """The error for what unpacks to far more than it holds."""
    return DatasetError(
        f"{name} unpacks to more than {LARGEST_RATIO} times its size, so it is rejected as a possible decompression bomb. "
        "Unpack it yourself if you trust it."
    )


class _Guarded(io.RawIOBase):
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
            raise bomb(self._name)
        return len(data)


def guarded(stream: BinaryIO, packed_bytes: int, name: str) -> io.BufferedReader:
    """A stream that is refused when it grows to far more than the packed bytes that it comes from."""
    return io.BufferedReader(_Guarded(stream, packed_bytes, name), 1 << 18)


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
def reading_archive(name: object) -> Iterator[None]:
    """`reading`, and the same for what zipfile and tarfile raise of damaged headers."""
    with reading(name):
        try:
            yield
        except FerkitError:
            raise
        except DAMAGED_HEADER as problem:
            raise DatasetError(f"{name} is cut off or damaged ({problem}). Download or copy it again.") from problem
        except (NotImplementedError, RuntimeError) as problem:  # an unknown compression; a password
            raise DatasetError(f"{name} cannot be read: {problem}. Pack it again as a plain .zip.") from problem


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
def open_file(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """A file on disk or far away, unpacked on the way, and how far its packed bytes are read."""
    name = os.fsdecode(path)
    with reading(name), open_binary(name) as raw:
        size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        with unpacked(cast(io.BufferedReader, raw), size, name) as stream:
            yield stream, raw.tell


@contextmanager
def open_unpacked(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file on disk or far away, unpacked on the way where its first bytes say gzip, bzip2 or xz."""
    with open_file(path) as (stream, _):
        yield stream


def is_junk(name: str) -> bool:
    """Whether a file is something that systems leave behind, not data."""
    # "." and ".." begin like hidden names.
    parts = [part for part in name.replace("\\", "/").split("/") if part not in (".", "..")]
    return "__MACOSX" in parts or any(part.startswith(".") or part.lower() == "thumbs.db" for part in parts)


def zip_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in a .zip, without links, in the order of their bytes: a disk is then read from start to end."""
    found = (one for one in archive.infolist() if not one.is_dir() and not stat.S_ISLNK(one.external_attr >> 16))
    return sorted(found, key=lambda one: one.header_offset)


class _Finite:
    """A stream for tarfile, which reads on behind the end as far as a header says: for years, if that says enough."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._empty = stream, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._empty = 0 if data else self._empty + 1
        if self._empty > _EMPTY_READS:
            raise EOFError("A member ends behind the end of its archive.")
        return data


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            member = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            cast(Tar, archive).ended = True
            raise
        # With a size below zero the next header would be this one again, for ever (CVE-2025-8194).
        if archive.offset <= member.offset:
            raise tarfile.ReadError("a member ends before it begins")
        return member


class Tar(tarfile.TarFile):
    """A tar that notes whether its end came, a block of zeros, and what it broke at.

    Nobody reads on behind where it broke: what comes there may be anything.
    """

    tarinfo = _Member
    ended = False
    broken: Exception | None = None

    def content(self, member: tarfile.TarInfo) -> bytes:
        """What a member holds; raises what unpacking it raises."""
        try:
            file = self.extractfile(member)
            return b"" if file is None else file.read()
        except Exception as problem:
            self.broken = problem
            raise


def tar_members(stream: BinaryIO, name: str) -> Iterator[tuple[tarfile.TarInfo, Tar]]:
    """The members of a tar, one after the other, with the archive to extract each from before the next comes.

    Raises `DatasetError` where the archive is damaged or cut off, after the members in front of that.
    """
    try:
        seekable = stream.seekable()
        file = stream if seekable else cast(BinaryIO, _Finite(stream))
        with Tar.open(fileobj=file, mode="r:" if seekable else "r|") as archive:
            while (member := archive.next()) is not None:
                yield member, archive
                if archive.broken is not None:
                    raise archive.broken
                # A TarFile remembers every member it has seen; nobody goes back to them.
                archive.members.clear()  # type: ignore[attr-defined]
            # tarfile takes it for the end where it cannot make out a header, or where the file is cut off in front of
            # one.
            if not archive.ended:
                raise tarfile.ReadError("its end is missing")
    except FerkitError:
        raise
    except DAMAGED_HEADER as problem:
        raise DatasetError(f"{name} is cut off or damaged ({problem}). Download or copy it again.") from problem
