"""One picture, wherever it comes from: what it is called, and how its encoded bytes are opened."""

import base64
import binascii
import glob
import io
import os
import re
import stat
import sys
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
import PIL.Image

from ferkit._support.download import fetch
from ferkit._support.parallel import alone_with
from ferkit.errors import DownloadError, FerkitError, ImageError
from ferkit.sources.folders import PICTURE_SUFFIXES, files_below
from ferkit.sources.listing import MAX_COPIED_BYTES, in_home
from ferkit.sources.names import STDIN, InMemory, Picture, is_base64, is_data_uri, printable_name, size_in_words
from ferkit.sources.stores import is_address, is_web, lost_a_slash, near_names, read_object, reason

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

# The largest picture that we hold has half a gigabyte of pixels; files beyond that are no pictures.
MAX_FILE_BYTES = 1 << 29
_PIECE = 1 << 20
_EXPECTED_FILE = "Expected the path or URL of an image; check spelling and folder."


def as_array(source: Any) -> Any:
    """A tensor of any library (PyTorch, TensorFlow, JAX) as an array; all else as it is."""
    if isinstance(source, np.ndarray) or not (hasattr(source, "__array__") and hasattr(source, "dtype")):
        return source
    try:
        return np.asarray(source)
    except Exception as problem:  # it may be anybody's class: on a device, with gradients
        raise ImageError(
            f"Cannot read {type(source).__name__} as an array: {reason(problem)}. "
            "Expected one in main memory, as .detach().cpu() gives it."
        ) from problem


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
        if is_data_uri(text):
            return _open_data_uri(text, name)
        if is_web(text):
            return _open_address(text)
        text = in_home(text.removeprefix("file://"))
        return _open_object(text, name) if is_address(text) else _open_path(text, name)
    if isinstance(source, Picture):
        if source.source is None:
            raise ImageError(source.problem or f"Cannot read {name}.")
        if isinstance(source.source, InMemory):
            return _in_memory(source.source.getvalue(), name)
        return open_source(source.source)
    if callable(getattr(source, "read", None)):
        return _copied(source, name)  # type: ignore[arg-type] # arrays and PIL images have no read()
    raise ImageError(
        "Expected a picture as path, address, data URI, bytes, binary file, PIL image or numpy array. "
        f"Received: {type(source).__name__}.{' Give one of its columns.' if hasattr(source, 'columns') else ''}"
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
        raise ImageError(f"File not found: {name}. {_EXPECTED_FILE}") from problem
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
    if not is_base64(head):
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
    inside = next(files_below(path), None)
    if inside is None:
        return f"The folder {name} holds no pictures ({', '.join(PICTURE_SUFFIXES)})."
    if inside == path:
        return f"The folder {name} cannot be listed. Expected one that you may read."
    return f"{name} is a folder. Expected a picture, such as {printable_name(inside)}."


def _not_there(path: str, name: str, problem: OSError | ValueError) -> str:
    if len(path) > 255 and re.fullmatch(r"[\w+/=-]+", path):
        return f"Cannot read {name[:40]}...: it is not a path. Base64 needs data:image/png;base64, in front of it."
    if not isinstance(problem, FileNotFoundError):
        return f"Cannot read {name}: {reason(problem)}."
    if lost_a_slash(path):
        return f"{name} is an address that went through Path, which drops a slash. Give it as a str."
    if glob.has_magic(path):
        return f"No picture matches {name}."
    near = near_names(path)
    if near is None:
        return f"File not found: {name}. There is no folder {printable_name(Path(path).parent)} either."
    meant = f"Did you mean {' or '.join(map(printable_name, near))}?" if near else _EXPECTED_FILE
    return f"File not found: {name}. {meant}"


def _too_large(name: str, more: str, size: int, limit: int) -> str:
    return f"Cannot read {name}: it has {f'{more} ' if more else ''}{size_in_words(size)}. Expected at most {size_in_words(limit)}."
