"""One picture, wherever it comes from: what it is called, and how its encoded bytes are opened."""

import base64
import binascii
import difflib
import glob
import io
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import PIL.Image

from ferkit._support.download import fetch
from ferkit._support.parallel import alone_with
from ferkit.errors import DownloadError, FerkitError, ImageError
from ferkit.sources.listing import MAX_COPIED_BYTES, PICTURE_SUFFIXES, Reference, pictures_below
from ferkit.sources.stores import is_address, is_web, read_object, reason


class InMemory(io.BytesIO):
    """An encoded picture that knows its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


@dataclass(frozen=True)
class Picture:
    """A picture by its name, its bytes at hand or its place known.

    source: a path, an address, or the bytes; None where there is a `problem`, which says why in one line.
    """

    name: str
    source: str | InMemory | None
    problem: str | None = None


# Anything `read_image` takes.
Source: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | Picture
    | PIL.Image.Image
    | np.ndarray[Any, np.dtype[Any]]
)

STDIN = "-"

# The largest picture that we hold has half a gigabyte of pixels; files beyond that are no pictures.
MAX_FILE_BYTES = 1 << 29
_PIECE = 1 << 20
_LONGEST_PATH = 4096


def name_of(source: object) -> str:
    """What results call a source: its path or address where it has one; long ones are cut short."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        if _is_data_uri(text):
            head, _, body = text.partition(",")
            return f"{head[:40]},... ({_size(len(body) * 3 // 4 if _is_base64(head) else len(body))})"
        return text if len(text) <= _LONGEST_PATH else f"{text[:60]}... ({len(text):,} letters)"
    if isinstance(source, Picture | Reference):
        return source.name
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, PIL.Image.Image):
        name = getattr(source, "filename", "")
        return os.fsdecode(name) if name else "PIL image"
    if callable(getattr(source, "read", None)):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) and name else "file"
    return type(source).__name__


def path_of(name: str) -> Path:
    """What to name a file after that is made of a source of this name: its path, or the last part of its address.

    >>> str(path_of("https://example.org/photos/me.png?size=large"))
    'me.png'
    """
    if _is_data_uri(name):
        return Path("picture")
    if is_address(name):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(name).path.rpartition("/")[2])) or "picture")
    return Path({STDIN: "stdin"}.get(name, name))


def printable_name(source: object) -> str:
    """The same for messages: in one line, without letters that a terminal would obey."""
    name = name_of(source)
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def open_source(source: Source) -> IO[bytes]:
    """Open what holds one encoded picture: all that `read_image` takes but arrays and PIL images.

    Raises `ImageError` where it cannot, or where there is nothing or too much to be a picture. Files that the caller
    opened stay the caller's: they are copied into memory, not closed.
    """
    name = printable_name(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(source if isinstance(source, bytes) else memoryview(source).tobytes(), name)
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        if text == STDIN:
            return _open_stdin(name)
        if _is_data_uri(text):
            return _open_data_uri(text, name)
        if is_web(text):
            return _open_address(text)
        text = text.removeprefix("file://")
        return _open_object(text, name) if is_address(text) else _open_path(text, name)
    if isinstance(source, Picture):
        if source.source is None:
            raise ImageError(source.problem or f"Cannot read {name}.")
        # The bytes are ours, and nobody else reads them.
        return source.source if isinstance(source.source, InMemory) else open_source(source.source)
    if callable(getattr(source, "read", None)):
        return _copied(source, name)  # type: ignore[arg-type] # arrays and PIL images have no read()
    raise ImageError(
        "Expected a picture as path, address, data URI, bytes, binary file, PIL image or numpy array. "
        f"Received: {type(source).__name__}."
    )


def _in_memory(data: bytes, name: str, hint: str = "") -> IO[bytes]:
    if not data:
        raise ImageError(f"Cannot read {name}: it is empty.{hint}")
    return io.BytesIO(data)


def _copied(file: IO[bytes], name: str) -> IO[bytes]:
    if isinstance(file, io.TextIOBase):
        raise ImageError(f"Cannot read {name}: it was opened as text. Open it with mode 'rb'.")
    data = bytearray()
    try:
        with alone_with(file):  # whom it belongs to may have named it twice
            while piece := file.read(_PIECE):
                if not isinstance(piece, bytes | bytearray):
                    raise ImageError(f"Cannot read {name}: read() gave {type(piece).__name__}. Expected bytes.")
                data += piece
                if len(data) > MAX_COPIED_BYTES:
                    raise ImageError(_too_large(name, "more than", MAX_COPIED_BYTES, MAX_COPIED_BYTES))
    except ImageError:
        raise
    except Exception as problem:  # it may be anybody's class
        raise ImageError(f"Cannot read {name}: {reason(problem)}.") from problem
    return _in_memory(bytes(data), name, " Was it read before? Go back to its start with seek(0).")


def _open_stdin(name: str) -> IO[bytes]:
    stdin = getattr(sys.stdin, "buffer", None)
    if stdin is None or sys.stdin.isatty():
        raise ImageError(f"Cannot read {name}: nothing is piped to standard input. Pipe a picture, or name a file.")
    return _copied(stdin, "standard input")


def _open_address(url: str) -> IO[bytes]:
    try:
        return _in_memory(fetch(url, limit=MAX_COPIED_BYTES), printable_name(url))
    except DownloadError as problem:
        raise ImageError(str(problem)) from problem


def _open_object(address: str, name: str) -> IO[bytes]:
    try:
        data = read_object(address, MAX_COPIED_BYTES)
    except FileNotFoundError as problem:
        raise ImageError(f"There is no file {name}.") from problem
    except FerkitError as problem:
        raise ImageError(str(problem)) from problem
    except OSError as problem:
        raise ImageError(f"Cannot read {name}: {reason(problem)}.") from problem
    if len(data) > MAX_COPIED_BYTES:
        raise ImageError(_too_large(name, "more than", MAX_COPIED_BYTES, MAX_COPIED_BYTES))
    return _in_memory(data, name)


def _open_data_uri(text: str, name: str) -> IO[bytes]:
    if len(text) > MAX_COPIED_BYTES:
        raise ImageError(_too_large(name, "", len(text), MAX_COPIED_BYTES))
    head, comma, body = text.partition(",")
    if not comma:
        raise ImageError(f"Cannot read {name}: a data URI without a comma. Expected data:image/png;base64,....")
    data = unquote_to_bytes(body)
    if not _is_base64(head):
        return _in_memory(data, name)
    # Blanks and line breaks mean nothing; "-" and "_" are what addresses have for "+" and "/".
    letters = b"".join(data.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return _in_memory(base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True), name)
    except binascii.Error as problem:
        raise ImageError(f"Cannot read {name}: what follows the comma is not base64.") from problem


def _open_path(path: str, name: str) -> IO[bytes]:
    try:
        status = os.stat(path)  # noqa: PTH116
        # Before it is opened: a pipe would wait for somebody to write, a device may never end.
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_FILE_BYTES:
            return open(path, "rb")  # noqa: PTH123 - whoever asked for it closes it
    except (OSError, ValueError) as problem:  # ValueError: a null character in the path
        raise ImageError(_not_there(path, name, problem)) from problem
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(_is_folder(path, name))
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"Cannot read {name}: a pipe, socket or device. Expected a file; standard input is '{STDIN}'.")
    if status.st_size == 0:
        raise ImageError(f"Cannot read {name}: it is empty.")
    raise ImageError(_too_large(name, "", status.st_size, MAX_FILE_BYTES))


def _is_folder(path: str, name: str) -> str:
    inside = next(pictures_below(path), None)
    if inside is None:
        return f"The folder {name} holds no pictures ({', '.join(PICTURE_SUFFIXES)})."
    if inside == path:
        return f"The folder {name} cannot be listed. Expected one that you may read."
    return f"{name} is a folder. Expected a picture, such as {printable_name(inside)}."


def _not_there(path: str, name: str, problem: OSError | ValueError) -> str:
    if len(path) > 255 and re.fullmatch(r"[\w+/=-]+", path):
        return f"Cannot read {name[:40]}...: it is no path. Base64 needs data:image/png;base64, in front of it."
    if not isinstance(problem, FileNotFoundError):
        return f"Cannot read {name}: {reason(problem)}."
    if re.match(r"[a-z][a-z0-9+.-]+:/[^/]", path, re.IGNORECASE):
        return f"{name} is an address that went through Path, which drops a slash. Give it as a str."
    if glob.has_magic(path):
        return f"No picture matches {name}."
    return f"There is no file {name}.{_near(Path(path))}"


def _near(path: Path) -> str:
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return f" There is no folder {printable_name(path.parent)} either."
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(printable_name(path.parent / name) for name in near)}?" if near else ""


def _is_data_uri(text: str) -> bool:
    return text[:5].lower() == "data:"


def _is_base64(head: str) -> bool:
    return head.lower().rstrip().endswith(";base64")


def _too_large(name: str, more: str, size: int, limit: int) -> str:
    return f"Cannot read {name}: it has {f'{more} ' if more else ''}{_size(size)}. Expected at most {_size(limit)}."


def _size(count: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (1000, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
