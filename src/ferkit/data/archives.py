"""Archives as trees of files, read in place. Archives come from strangers, so nothing in them is believed.

A member with an absolute name or `..` in it is an attack or an accident: the archive is refused, although nothing would
be unpacked to disk. Links are ignored. What a member claims to be and what comes out are both bounded.
"""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, cast

from ferkit.data.sources import LARGEST_PICTURE_BYTES, Folder, Tree, guarded, is_junk, open_file, reading, unpacked
from ferkit.errors import DatasetError, FerkitError

_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_EMPTY_READS = 100

# What zipfile and tarfile raise where headers hold what they should not: names that are no text, numbers that are none,
# headers about headers without end.
DAMAGED_HEADER = (
    *(zipfile.BadZipFile, tarfile.TarError, struct.error),
    *(ValueError, LookupError, ArithmeticError, RecursionError),
)


class Finite:
    """A stream for tarfile, which reads on behind the end as far as a header says: for years, if that says enough."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._empty = stream, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._empty = 0 if data else self._empty + 1
        if self._empty > _EMPTY_READS:
            raise EOFError("A member ends behind the end of its archive.")
        return data


def open_tree(path: Path) -> Tree | None:
    """A folder or an archive as a tree; None for any other file."""
    if path.is_dir():
        return Folder(path)
    with open_file(path) as (stream, _):
        head = stream.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Zip(path)
    return Tar(path) if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC) else None


def _checked(name: str, archive: Path) -> str:
    """A member's name, if it stays inside the archive."""
    name = name.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).drive or ".." in name.split("/"):
        raise DatasetError(
            f"{archive} is refused: its member {name!r} points outside of the archive. Expected relative names; "
            "do not unpack this file."
        )
    return "/".join(part for part in name.split("/") if part not in ("", "."))


@contextmanager
def _unharmed(archive: Path) -> Iterator[None]:
    with reading(archive):
        try:
            yield
        except FerkitError:
            raise
        except DAMAGED_HEADER as problem:
            raise DatasetError(f"{archive} is cut off or damaged ({problem}). Download or copy it again.") from problem
        except (NotImplementedError, RuntimeError) as problem:  # an unknown compression; a password
            raise DatasetError(f"{archive} cannot be read: {problem}. Pack it again as a plain .zip.") from problem


class Zip:
    """A .zip file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _unharmed(path), zipfile.ZipFile(path) as archive:
            members = {
                _checked(one.filename, path): one
                for one in archive.infolist()
                if not one.is_dir() and not stat.S_ISLNK(one.external_attr >> 16)
            }
        self._members = {name: one for name, one in members.items() if not is_junk(name)}

    def names(self) -> Sequence[str]:
        # In the order of the file: the disk is read once, from start to end.
        return sorted(self._members, key=lambda name: self._members[name].header_offset)

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        with _unharmed(self.path), zipfile.ZipFile(self.path) as archive:
            for name in names:
                member = self._members[name]
                if member.file_size > LARGEST_PICTURE_BYTES:
                    yield name, f"{member.file_size:,} bytes, expected at most {LARGEST_PICTURE_BYTES:,}"
                    continue
                try:
                    with archive.open(member) as stream:
                        yield name, stream.read(LARGEST_PICTURE_BYTES)
                except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
                    yield name, f"damaged in the archive ({problem})"

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        member = self._members[name]
        with _unharmed(self.path), zipfile.ZipFile(self.path) as archive, archive.open(member) as raw:
            label, packed = f"{self.path} ({name})", member.compress_size
            with unpacked(guarded(cast(BinaryIO, raw), packed, label), packed, label) as stream:
                # The member's own file is private to zipfile; how much came out, scaled, serves a progress bar.
                scale = member.compress_size / max(member.file_size, 1)
                yield stream, lambda: int(raw.tell() * scale)


class Tar:
    """A .tar file, plain or packed by gzip, bzip2 or xz; read from start to end each time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = [name for name, _, _ in self._members()]

    def names(self) -> Sequence[str]:
        return self._names

    def _members(self) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        with (
            _unharmed(self.path),
            open_file(self.path) as (stream, _),
            tarfile.open(fileobj=cast(BinaryIO, Finite(stream)), mode="r|") as archive,
        ):
            while (member := archive.next()) is not None:
                name = _checked(member.name, self.path)
                if member.isreg() and not is_junk(name):
                    yield name, member, archive
                # A TarFile remembers every member it has seen; a stream never goes back to them.
                archive.members.clear()  # type: ignore[attr-defined]

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        wanted = set(names)
        for name, member, archive in self._members():
            if name not in wanted:
                continue
            if member.size > LARGEST_PICTURE_BYTES:
                yield name, f"{member.size:,} bytes, expected at most {LARGEST_PICTURE_BYTES:,}"
                continue
            stream = archive.extractfile(member)
            yield name, stream.read() if stream else "not a regular file"

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        for found, member, archive in self._members():
            raw = archive.extractfile(member) if found == name else None
            if raw is not None:
                label = f"{self.path} ({name})"
                with _unharmed(self.path), unpacked(cast(io.BufferedReader, raw), member.size, label) as stream:
                    yield stream, raw.tell
                return
        raise DatasetError(f"{self.path} no longer holds {name}. It changed while it was read; run again.")
