"""Where pictures come from: paths, folders, globs, standard input, bytes, open files."""

import difflib
import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import PIL.Image

from ferkit.errors import ImageError

# Anything `read_image` takes.
Source: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image | np.ndarray[Any, np.dtype[Any]]

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".pgm", ".ppm"),
)
STDIN = "-"


def expand_sources(arguments: Iterable[str]) -> Iterator[str]:
    """Turn the words of a command line into pictures: files as they are, folders and globs into what they hold.

    Folders are read with all that is below them, in natural order, without following links to folders (which may lead
    in a circle). What does not exist or holds nothing is passed on: reading it says so, and the others go on.
    """
    for argument in arguments:
        path = Path(argument)
        # A file may be called "me[1].jpg": what exists is no pattern.
        if path.is_dir():
            found = _pictures_below(path)
        elif argument != STDIN and not path.exists() and glob.has_magic(argument):
            found = _pictures_matching(argument)
        else:
            yield argument
            continue
        first = next(found, None)
        yield argument if first is None else first
        yield from found


def _pictures_below(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders.sort(key=natural_key)
        for name in sorted(files, key=natural_key):
            if name.lower().endswith(PICTURE_SUFFIXES):
                yield os.path.join(here, name)  # noqa: PTH118 - keeps "./" as the user typed it, and is fast


def _pictures_matching(pattern: str) -> Iterator[str]:
    matches: dict[str, str] = {}
    # "**" follows links, even in a circle: of the many names of one file the shortest is kept.
    for match in sorted(glob.glob(pattern, recursive=True), key=len):  # noqa: PTH207 - the pattern may be absolute
        matches.setdefault(os.path.realpath(match), match)
    for match in sorted(matches.values(), key=natural_key):
        if not Path(match).is_dir():
            if match.lower().endswith(PICTURE_SUFFIXES):
                yield match
        elif "**" not in pattern:  # which matches the files of folders itself
            yield from _pictures_below(Path(match))


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key that counts: picture 2 comes before picture 10.

    >>> sorted(["b10.jpg", "b2.jpg", "a.jpg"], key=natural_key)
    ['a.jpg', 'b2.jpg', 'b10.jpg']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if place % 2 else (0, part.lower()) for place, part in enumerate(parts)] + [(0, text)]


def name_of(source: Source) -> str:
    """What results and errors call a source: its path where it has one."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, PIL.Image.Image):
        return getattr(source, "filename", "") or "PIL image"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "file"


def open_source(source: Source) -> IO[bytes]:
    """Open what holds an encoded picture: a path, `-`, bytes or a binary file. Raises `ImageError` where it cannot.

    Files that the caller opened stay the caller's: they are copied into memory, not closed.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        if source == STDIN:
            return io.BytesIO(sys.stdin.buffer.read())
        return _open_path(Path(source))
    if callable(getattr(source, "read", None)):
        data = source.read()  # type: ignore[union-attr] # arrays and PIL images have no read()
        if isinstance(data, bytes):
            return io.BytesIO(data)
        raise ImageError(f"Cannot read {name_of(source)}: it was opened as text. Open it with mode 'rb'.")
    raise ImageError(
        f"Expected a picture as path, bytes, binary file, PIL image or numpy array. Received: {type(source).__name__}."
    )


def _open_path(path: Path) -> IO[bytes]:
    try:
        if not path.is_dir():
            return path.open("rb")
    except FileNotFoundError as problem:
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(path), re.IGNORECASE):
            raise ImageError(f"{path} is an address. Expected a file: download the picture first.") from problem
        if glob.has_magic(str(path)):
            raise ImageError(f"No picture matches {path}.") from problem
        raise ImageError(f"There is no file {path}.{_near(path)}") from problem
    except (OSError, ValueError) as problem:  # ValueError: a null character in the path
        raise ImageError(f"Cannot read {path}: {getattr(problem, 'strerror', None) or problem}.") from problem
    inside = next(_pictures_below(path), None)
    if inside is None:
        raise ImageError(f"The folder {path} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    raise ImageError(f"{path} is a folder. Expected a picture, such as {inside}.")


def _near(path: Path) -> str:
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return f" There is no folder {path.parent} either."
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
