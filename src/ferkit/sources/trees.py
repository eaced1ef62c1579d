"""The files of a folder or an archive by their names, here or far away; read in place, never unpacked to disk.

A member of an archive with an absolute name or `..` in it is an attack or an accident: such an archive is refused.
"""

import hashlib
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, TypeAlias, cast

from ferkit._support.parallel import ordered_map
from ferkit.errors import DatasetError
from ferkit.sources.archives import (
    Tar,
    guarded,
    is_junk,
    open_file,
    open_unpacked,
    reading,
    reading_archive,
    tar_members,
    unpacked,
    zip_members,
)
from ferkit.sources.stores import (
    exists,
    filesystem,
    is_address,
    is_folder,
    lost_a_slash,
    near_names,
    network,
    open_binary,
    read_object,
    reason,
)

# No photograph of a face is larger; what claims to be would only fill the memory.
MAX_FACE_BYTES = 64 << 20

_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_HASHED_BYTES = 4 << 20
# Stores answer slowly, and many questions at once.
_THREADS = 8

Opened = AbstractContextManager[tuple[BinaryIO, Callable[[], int]]]


def open_tree(path: str | os.PathLike[str]) -> "Tree | None":
    """A folder or an archive as a tree; None for any other file. Archives are told by their first bytes."""
    text = os.fsdecode(path)
    if is_folder(text):
        return _Folder(text)
    with open_unpacked(text) as stream:
        head = stream.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _Zip(text)
    return _Tar(text) if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC) else None


def _too_large(size: int) -> str | None:
    return None if size <= MAX_FACE_BYTES else f"{size:,} bytes, expected at most {MAX_FACE_BYTES:,}"


class _Folder:
    """A folder on disk or of an object store; links are followed, each folder once.

    Names of files are relative, with `/` between their parts.
    """

    def __init__(self, path: str) -> None:
        self.path, self._far = path, is_address(path)

    @cached_property
    def facts(self) -> dict[str, str]:
        """What changes of each file when the file does, by names in reading order."""
        with reading(self.path), network(self.path) if self._far else nullcontext():
            found = self._remote() if self._far else self._local()
            return dict(sorted((name, facts) for name, facts in found if name and not is_junk(name)))

    def _local(self) -> Iterator[tuple[str, str]]:
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
                facts = ""  # of a dangling link, which `contents` reports
                with suppress(FileNotFoundError):
                    status = Path(top, file).stat()
                    facts = f"{status.st_size}\0{status.st_mtime_ns}"
                yield file if inside == "." else f"{inside}/{file}", facts

    def _remote(self) -> Iterator[tuple[str, str]]:
        files, root = filesystem(self.path)
        start = len(root.rstrip("/")) + 1
        return ((path[start:], _facts(info)) for path, info in files.find(root, detail=True).items())

    def names(self) -> Sequence[str]:
        """Files in reading order, without what systems leave behind (`.DS_Store`, `__MACOSX`)."""
        return list(self.facts)

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        """Name and content of each, in reading order; a `str` instead of bytes is the reason why it cannot be read."""
        return ordered_map(lambda name: (name, self._content(self.path_of(name))), names, _THREADS if self._far else 1)

    def _content(self, path: str) -> bytes | str:
        try:
            if self._far:
                data = read_object(path, MAX_FACE_BYTES)
                return _too_large(len(data)) or data
            status = Path(path).stat()
            if not stat.S_ISREG(status.st_mode):
                return "not a regular file"
            return _too_large(status.st_size) or Path(path).read_bytes()
        except OSError as problem:
            return f"cannot be read: {reason(problem)}"

    def path_of(self, name: str) -> str:
        """Where a file lies by itself; None inside an archive."""
        return f"{self.path.rstrip('/')}/{name}"

    def open(self, name: str) -> Opened:
        """One file as a stream, and how many bytes of the source are read so far."""
        return open_file(self.path_of(name))


def _checked(name: str, archive: str) -> str:
    """A member's name, if it stays inside the archive."""
    name = name.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).drive or ".." in name.split("/"):
        raise DatasetError(
            f"{archive} is rejected: its member {name!r} points outside of the archive. Expected relative names; "
            "do not unpack this file."
        )
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class _Archive:
    def __init__(self, path: str) -> None:
        self.path = path

    def path_of(self, _: str) -> None:
        return None


class _Zip(_Archive):
    """A .zip file."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with self._opened() as archive:
            members = {_checked(one.filename, path): one for one in zip_members(archive)}
        self._members = {name: one for name, one in members.items() if not is_junk(name)}

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        with reading_archive(self.path), open_binary(self.path) as file, zipfile.ZipFile(file) as archive:
            yield archive

    def names(self) -> Sequence[str]:
        return list(self._members)

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        with self._opened() as archive:
            for name in names:
                member = self._members[name]
                try:
                    why = _too_large(member.file_size)
                    if why is None:
                        with archive.open(
                            member
                        ) as stream:  # never read() without a size: it unpacks all that there is
                            yield name, stream.read(MAX_FACE_BYTES)
                    else:
                        yield name, why
                except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
                    yield name, f"damaged in the archive ({problem})"

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        member = self._members[name]
        with self._opened() as archive, archive.open(member) as raw:
            label, packed = f"{self.path} ({name})", member.compress_size
            with unpacked(guarded(cast(BinaryIO, raw), packed, label), packed, label) as stream:
                # The member's own file is private to zipfile; how much came out, scaled, serves a progress bar.
                scale = packed / max(member.file_size, 1)
                yield stream, lambda: int(raw.tell() * scale)


class _Tar(_Archive):
    """A .tar file, plain or packed by gzip, bzip2 or xz; read from start to end each time."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._names = [name for name, _, _ in self._members()]

    def names(self) -> Sequence[str]:
        return self._names

    def _members(self) -> Iterator[tuple[str, tarfile.TarInfo, Tar]]:
        with open_unpacked(self.path) as stream:
            for member, archive in tar_members(stream, self.path):
                name = _checked(member.name, self.path)
                if member.isreg() and not is_junk(name):
                    yield name, member, archive

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
        wanted = set(names)
        with reading_archive(self.path):
            for name, member, archive in self._members():
                if name in wanted:
                    yield name, _too_large(member.size) or archive.content(member)

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        for found, member, archive in self._members():
            raw = archive.extractfile(member) if found == name else None
            if raw is not None:
                label = f"{self.path} ({name})"
                with reading_archive(self.path), unpacked(cast(io.BufferedReader, raw), member.size, label) as stream:
                    yield stream, raw.tell
                return
        raise DatasetError(f"{self.path} no longer holds {name}. It changed while it was read; run again.")


Tree: TypeAlias = _Folder | _Zip | _Tar


def checksum(path: str) -> str:
    """Checksum of a file's content (SHA-256 of the SHA-256s of its parts), or of a folder's listing; hex.

    Of what is far away the store's own facts are taken: size, time of change, ETag.
    """
    if is_folder(path):
        listing = "".join(f"{name}\0{facts}\n" for name, facts in _Folder(path).facts.items())
        return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
    if is_address(path):
        files, inside = filesystem(path)
        with reading(path), network(path):
            return hashlib.sha256(_facts(files.info(inside)).encode()).hexdigest()

    def part(start: int) -> bytes:
        with Path(path).open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_HASHED_BYTES)).digest()

    # Parts are hashed side by side: in one go, this would be a fifth of the time that a plain CSV takes.
    with reading(path), ThreadPoolExecutor(os.cpu_count() or 1, "ferkit-hash") as hashers:
        size = Path(path).stat().st_size
        return hashlib.sha256(b"".join(hashers.map(part, range(0, size, _HASHED_BYTES)))).hexdigest()


def _facts(info: dict[str, Any]) -> str:
    return str(sorted((name, str(value)) for name, value in info.items()))


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder exists; False also for names that no file system takes."""
    text = os.fsdecode(path)
    if is_address(text):
        return exists(text)
    try:
        local = Path(text)
        if local.exists() and not (local.is_file() or local.is_dir()):
            raise DatasetError(
                f"{path} is neither a file nor a folder. Data is read more than once: write it to a file."
            )
        return local.exists()
    except OSError:
        return False


def missing(path: str | os.PathLike[str]) -> DatasetError:
    """The error for a path that does not exist, with near names of what lies beside it."""
    text = os.fsdecode(path)
    if is_address(text):
        return DatasetError(f"There is no {text}. Check the address.")
    if lost_a_slash(text):
        return DatasetError(f"{text} is an address that went through Path, which drops a slash. Give it as a str.")
    near = near_names(text)
    if near is None:
        return DatasetError(f"There is no {text}, nor a folder {Path(text).parent} that can be read. Check the path.")
    if near:
        return DatasetError(f"There is no {text}. Did you mean {' or '.join(near)}?")
    return DatasetError(f"There is no {text}. Expected a CSV or Parquet file, an archive or a folder of pictures.")
