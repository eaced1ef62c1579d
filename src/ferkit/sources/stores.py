"""Files on this machine and at addresses that fsspec knows, such as `s3://bucket/a.tar`, opened alike.

What lies far away fails in two ways. A file that is missing or forbidden is that file's fault. A server that does not
answer, or that no longer takes a key, would fail for the next file too: that is a `FerkitError`.
"""

import difflib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ferkit._support.download import offline
from ferkit.errors import DownloadError, FerkitError, MissingDependencyError, UsageError

# Which extra, or which package where there is none, knows addresses of a kind.
_PACKAGES = {"s3": "pip install 'ferkit[s3]'", "s3a": "pip install 'ferkit[s3]'", "gs": "pip install gcsfs",
             "gcs": "pip install gcsfs", "az": "pip install adlfs", "abfs": "pip install adlfs",
             "http": "pip install aiohttp", "https": "pip install aiohttp"}  # fmt: skip

# What is asked of an object store at a time: its answers take as long to begin as a few megabytes take to come.
_BLOCK = 8 << 20
_LONGEST_REASON = 300  # letters


def is_address(text: str) -> bool:
    """Whether fsspec is asked for it; web addresses too, though nothing can be written there."""
    return "://" in text


def is_web(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def absolute(place: str | os.PathLike[str]) -> str:
    """A place as it is called from everywhere: an absolute path, or an address. `file://` is a path in other words."""
    text = os.fsdecode(place).removeprefix("file://")
    return text if is_address(text) else os.path.abspath(text)  # noqa: PTH100 - keeps links, and names that are no text


def folder_of(path: str) -> str:
    """The folder that a file lies in: an absolute path, or an address."""
    return path.rpartition("/")[0] if is_address(path) else str(Path(absolute(path)).parent)


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it; else a one-line error that says what to install."""
    kind = address.partition("://")[0]
    if is_web(address) and offline():
        raise DownloadError(f"Cannot fetch {address}: FERKIT_OFFLINE is set. Unset it, or give a file.")
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
        raise UsageError(f"{address} is not a URL that fsspec supports ({reason(problem)}).") from problem
    except Exception as problem:  # some look for their server, or for Java, at once
        raise FerkitError(f"{address} cannot be reached: {reason(problem)}.") from problem
    return found, str(path)


def open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    """A file on disk or far away, to read and to seek in. Raises `OSError`, or what `network` does."""
    text = os.fsdecode(path)
    if is_address(text):
        return cast(BinaryIO, io.BufferedReader(_Remote(text), 1 << 20))
    refuse_pipe(text)
    return open(text, "rb")  # noqa: PTH123 - whoever asked for it closes it


def refuse_pipe(path: str) -> None:
    """Raise `OSError` for what is no file: a pipe would wait for somebody to write, a device may never end."""
    mode = os.stat(path).st_mode  # noqa: PTH116
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.ESPIPE, "it is a pipe, socket or device, not a file")


def read_object(address: str, limit: int) -> bytes:
    """What lies at an address of an object store. Of what is too large, one byte more than `limit` comes."""
    with network(address):
        files, path = filesystem(address)
        return bytes(files.cat_file(path, start=0, end=limit + 1))


def exists(path: str) -> bool:
    """Whether a file, a folder or a link is there."""
    if not is_address(path):
        return os.path.lexists(path)
    files, inside = filesystem(path)
    with network(path):
        return bool(files.exists(inside))


def is_folder(path: str) -> bool:
    """Whether it is a folder, or a name that objects of a store begin with. Never raises for what can be no path."""
    if not is_address(path):
        return os.path.isdir(path)  # noqa: PTH112
    files, inside = filesystem(path)
    with network(path):
        return bool(files.isdir(inside))


def lost_a_slash(path: str) -> bool:
    """Whether it was an address once, and went through `Path`."""
    return re.match(r"[a-z][a-z0-9+.-]+:/[^/]", path, re.IGNORECASE) is not None


def near_names(path: str) -> list[str] | None:
    """Paths of what is named much like a path that is not there; None where there is no such folder either."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208 - names, not paths
    except (OSError, ValueError):
        return None
    return [str(Path(folder, near)) for near in difflib.get_close_matches(name, sorted(names), n=2, cutoff=0.6)]


def reason(problem: BaseException) -> str:
    """Why something failed, in one line without a full stop."""
    text = getattr(problem, "strerror", None) or " ".join(str(problem).split()).rstrip(".")
    return text[:_LONGEST_REASON] or type(problem).__name__


class _Remote(io.RawIOBase):
    """A file of an object store, read a block at a time."""

    def __init__(self, address: str) -> None:
        self._address = address
        with network(address):
            files, path = filesystem(address)
            self._file = files.open(path, "rb", block_size=_BLOCK, cache_type="readahead")

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
        if not self.closed:
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
        raise FerkitError(f"Cannot read {address}: {reason(problem)}. To resume, run the same command.") from problem


def _denied(problem: PermissionError) -> bool:
    """Whether it is this file that may not be read. Of wrong keys and clocks s3fs makes a `PermissionError` as well."""
    answer = getattr(problem.__cause__, "response", None)
    if not isinstance(answer, dict):
        return problem.errno is not None  # the system's own, of files
    code = answer.get("Error", {}).get("Code")
    return bool(code == "AccessDenied") and "expire" not in str(problem).lower()
