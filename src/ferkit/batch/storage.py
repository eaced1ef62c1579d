"""Where a job lies: a local folder, or an address that fsspec knows, such as `s3://bucket/folder`."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ferkit._support.files import blame, write_atomically
from ferkit.errors import FerkitError, MissingDependencyError, UsageError

# Which extra, or which package where there is none, knows addresses of a kind.
_PACKAGES = {"s3": "pip install 'ferkit[s3]'", "s3a": "pip install 'ferkit[s3]'", "gs": "pip install gcsfs",
             "gcs": "pip install gcsfs", "az": "pip install adlfs", "abfs": "pip install adlfs"}  # fmt: skip

# Addresses of servers with files, not objects: what is put there is there piece by piece.
_PIECEMEAL = ("ftp://", "sftp://", "ssh://", "smb://", "hdfs://", "webhdfs://")

# What is asked of an object store at a time: its answers take as long to begin as a few megabytes take to come.
_BLOCK = 8 << 20
_LONGEST_REASON = 300  # letters


class Storage(Protocol):
    """A folder with files of whole content, by names such as `_job/job.json`."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""

    def open(self, name: str) -> BinaryIO | None:
        """A file to read parts of; None where there is none."""

    def write(self, name: str, data: bytes, *, lasting: bool = True) -> None:
        """Write a file so that a reader meets all of it or nothing, even after `kill -9`.

        lasting: whether it should also outlive the machine that loses its power.
        """

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no trouble."""

    def names(self, folder: str = "") -> list[str]:
        """Names of what lies in a folder, without those of folders above; empty where there is no such folder."""


def is_address(text: str) -> bool:
    """Whether fsspec is asked for it; web addresses too, though nothing can be written there."""
    return "://" in text


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it; else a one-line error that says what to install."""
    kind = address.partition("://")[0]
    try:
        import fsspec
    except ImportError as problem:
        raise MissingDependencyError(
            f"{address} needs fsspec, which the base install leaves out. Install it with: pip install 'ferkit[batch]'."
        ) from problem
    try:
        # Listings that are remembered would hide what other machines wrote meanwhile.
        found, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as problem:
        command = _PACKAGES.get(kind, f"{problem}")
        raise MissingDependencyError(f"Addresses of the kind {kind}:// need a package: {command}.") from problem
    except (ValueError, TypeError) as problem:
        raise UsageError(f"{address} is no address that fsspec knows ({reason(problem)}).") from problem
    except Exception as problem:  # some look for their server, or for Java, at once
        raise FerkitError(f"{address} cannot be reached: {reason(problem)}.") from problem
    return found, str(path)


def open_storage(place: str) -> Storage:
    """The storage of a folder's path or address. Nothing is made or asked for yet."""
    if place.lower().startswith(("http://", "https://")):
        raise UsageError(f"Nothing can be written to {place}. Expected a folder, s3://, gs:// or az://.")
    if place.lower().startswith(_PIECEMEAL):
        raise UsageError(f"In {place} files could be met half written. Expected a folder, s3://, gs:// or az://.")
    return Bucket(place) if is_address(place) else Folder(Path(place))


def absolute(place: str | Path) -> str:
    """A place as it is called from everywhere: an absolute path, or an address. `file://` is a path in other words."""
    place = str(place).removeprefix("file://")
    return place if is_address(place) else os.path.abspath(place)  # noqa: PTH100 - keeps links


class Folder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise FerkitError(f"Cannot read {self.path / name}: {problem.strerror or problem}.") from problem

    def open(self, name: str) -> BinaryIO | None:
        try:
            return (self.path / name).open("rb")
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise FerkitError(f"Cannot read {self.path / name}: {problem.strerror or problem}.") from problem

    def write(self, name: str, data: bytes, *, lasting: bool = True) -> None:
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
        with suppress(FileNotFoundError):
            (self.path / name).unlink()

    def names(self, folder: str = "") -> list[str]:
        try:
            return os.listdir(self.path / folder)  # noqa: PTH208 - names, not paths, and of 100,000 parts
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UsageError(f"{self.path} is a file. Expected a folder for the results.") from None
        except OSError as problem:
            raise FerkitError(f"Cannot list {self.path / folder}: {problem.strerror or problem}.") from problem


class Bucket:
    """A folder of an object store: what is put is there as a whole or not at all."""

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


def reason(problem: BaseException) -> str:
    """Why something failed, in one line without a full stop."""
    text = getattr(problem, "strerror", None) or " ".join(str(problem).split()).rstrip(".")
    return text[:_LONGEST_REASON] or type(problem).__name__


class Far(io.RawIOBase):
    """A file of an object store, read a block at a time; see `network` for what it raises."""

    def __init__(self, address: str) -> None:
        self._address = address
        with network(address):
            files, path = filesystem(address)
            self._file = files.open(path, "rb", block_size=_BLOCK, cache_type="readahead")
        self.bytes = int(self._file.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with network(self._address):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def network(address: str) -> Iterator[None]:
    """Turn what an object store causes into errors of one line.

    `FileNotFoundError` and a `PermissionError` about this one file pass. All else, such as keys that are wrong or ran
    out, would hit the next file too, so a job had better stop and be started again: a `FerkitError`.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, FerkitError):
        raise
    except Exception as problem:  # every store has errors of its own
        if isinstance(problem, PermissionError) and _denied(problem):
            raise
        raise FerkitError(
            f"Cannot read {address}: {reason(problem)}. Run the same command again to go on."
        ) from problem


def _denied(problem: PermissionError) -> bool:
    """Whether it is this file that may not be read. Of wrong keys and clocks s3fs makes a `PermissionError` as well."""
    answer = getattr(problem.__cause__, "response", None)
    if not isinstance(answer, dict):
        return problem.errno is not None  # the system's own, of files
    code = answer.get("Error", {}).get("Code")
    return bool(code == "AccessDenied") and "expire" not in str(problem).lower()
