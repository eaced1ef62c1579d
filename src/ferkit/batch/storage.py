"""Where a job lies: a local folder, or an address that fsspec knows, such as `s3://bucket/folder`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from ferkit._support.files import blame, write_atomically
from ferkit.errors import FerkitError, UsageError
from ferkit.sources import filesystem, is_address, reason

# Addresses of servers with files, not objects: what is put there is there piece by piece.
_PIECEMEAL = ("ftp://", "sftp://", "ssh://", "smb://", "hdfs://", "webhdfs://")


def open_storage(place: str) -> "Storage":
    """The storage of a folder's path or address. Nothing is made or asked for yet."""
    if place.lower().startswith(("http://", "https://")):
        raise UsageError(f"Nothing can be written to {place}. Expected a folder, s3://, gs:// or az://.")
    if place.lower().startswith(_PIECEMEAL):
        raise UsageError(f"Files in {place} could be read half written. Expected a folder, s3://, gs:// or az://.")
    return Bucket(place) if is_address(place) else Folder(Path(place))


class Folder:
    """A local folder with files of whole content, by names such as `_job/job.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise FerkitError(f"Cannot read {self.path / name}: {problem.strerror or problem}.") from problem

    def open(self, name: str) -> BinaryIO | None:
        """A file to read parts of; None where there is none."""
        try:
            return (self.path / name).open("rb")
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise FerkitError(f"Cannot read {self.path / name}: {problem.strerror or problem}.") from problem

    def write(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        """Write a file so that a reader meets all of it or nothing, even after `kill -9`.

        lasting: whether it should also outlive the machine that loses its power.
        """
        target = self.path / name
        if lasting:
            with write_atomically(target) as draft:
                draft.write_bytes(data)
            return
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        with blame(target):
            try:
                try:
                    draft.write_bytes(data)
                except FileNotFoundError:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    draft.write_bytes(data)
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no trouble."""
        with suppress(FileNotFoundError):
            (self.path / name).unlink()

    def names(self, folder: str = "") -> list[str]:
        """Names of what lies in a folder, without those of folders above; empty where there is no such folder."""
        try:
            return os.listdir(self.path / folder)  # noqa: PTH208 - names, not paths, and of 100,000 parts
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UsageError(f"{self.path} is a file. Expected a folder for the results.") from None
        except OSError as problem:
            raise FerkitError(f"Cannot list {self.path / folder}: {problem.strerror or problem}.") from problem


class Bucket:
    """The same in an object store: what is put is there as a whole or not at all."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._files, self._path = filesystem(self.address)

    def read(self, name: str) -> bytes | None:
        with self._blame("read", name):
            try:
                return bytes(self._files.cat_file(self._place(name)))
            except FileNotFoundError:
                return None

    def open(self, name: str) -> BinaryIO | None:
        with self._blame("read", name):
            try:
                # Footers are looked for at the end, in a few kilobytes.
                return cast(BinaryIO, self._files.open(self._place(name), "rb", block_size=1 << 16))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        with self._blame("write", name):
            self._files.pipe_file(self._place(name), data)

    def remove(self, name: str) -> None:
        with self._blame("remove", name), suppress(FileNotFoundError):
            self._files.rm_file(self._place(name))

    def names(self, folder: str = "") -> list[str]:
        with self._blame("list", folder):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._place(folder), detail=False)
            except FileNotFoundError:
                return []
        # Consoles mark a folder by an empty object of its name and a slash.
        marker = f"{self._place(folder)}/"
        return [str(one).rstrip("/").rpartition("/")[2] for one in found if str(one) != marker]

    def _place(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}".rstrip("/")

    @contextmanager
    def _blame(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except FerkitError:
            raise
        except Exception as problem:  # every store has errors of its own
            raise FerkitError(f"Cannot {verb} {self.address}/{name}: {reason(problem)}.") from problem


Storage: TypeAlias = Folder | Bucket
