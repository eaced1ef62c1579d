"""The pictures in a folder, here or in an object store, and those that a glob matches."""

import glob
import os
import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from ferkit.sources.archives import is_junk
from ferkit.sources.stores import filesystem, is_address, network

_HEIC_SUFFIXES = (".heic", ".heif")
PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".pgm", ".ppm"),
    *(_HEIC_SUFFIXES if find_spec("pillow_heif") else ()),
)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts")
_LEFT_OUT = {
    ("video", "videos", "for: ferkit video"): VIDEO_SUFFIXES,
    ("HEIC photo", "HEIC photos", "install ferkit[heic], or convert to JPEG"): _HEIC_SUFFIXES,
    ("raw photo", "raw photos", "convert to JPEG"): (
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".raf",
        ".orf",
        ".rw2",
    ),
}
# So many kinds of others are named.
_SUFFIXES_NAMED = 5
_BESIDE_VIDEOS = {("image", "images", "for: ferkit predict"): PICTURE_SUFFIXES}
_NUMBERS = re.compile(r"(\d+)")


def files_below(folder: str, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> Iterator[str]:
    """All pictures in a folder and below it, told by their suffix, folder by folder and in natural order.

    Hidden files and links to folders are left out. A folder that cannot be listed comes as if it were a picture:
    reading it says why.
    """
    join = posixpath.join if is_address(folder) else os.path.join  # keeps "./" as the user typed it, and is fast
    for below, names in _walk(folder):
        if names is None:
            yield below
            continue
        for name in sorted(names, key=natural_key):
            if name.lower().endswith(suffixes):
                yield join(below, name)


def left_out(source: str, *, videos: bool = False) -> str:
    """What a folder, a glob or a .zip here holds beside its pictures, in words; nothing where it has nothing else.

    videos: whether its videos were taken and its pictures left out.

    >>> left_out("/there/is/none")
    ''
    """
    return other_files(_names_in(source), videos=videos)


def is_media(name: str) -> bool:
    """Whether a file that is no picture here may be taken for one: a video, a HEIC or raw photo."""
    return any(name.lower().endswith(endings) for endings in _LEFT_OUT.values() if endings[0] not in PICTURE_SUFFIXES)


def other_files(names: Iterable[str], *, videos: bool = False) -> str:
    """What some files are beside pictures, or beside videos, counted, in words.

    >>> other_files(["a.mp4", "b.mov", "c.txt", "d.jpg"])
    '2 videos (for: ferkit video) and 1 other file (.txt)'
    """
    found: Counter[tuple[str, str, str]] = Counter()
    suffixes: Counter[str] = Counter()
    kinds = (_BESIDE_VIDEOS if videos else _LEFT_OUT).items()
    for name in names:
        lower = name.lower()
        if lower.endswith(VIDEO_SUFFIXES if videos else PICTURE_SUFFIXES) or is_junk(name):
            continue
        if lower.endswith("/"):
            found["link to a folder", "links to folders", "not followed"] += 1
        elif what := next((what for what, endings in kinds if lower.endswith(endings)), None):
            found[what] += 1
        else:
            suffixes[os.path.splitext(lower)[1] or "no suffix"] += 1  # noqa: PTH122
    if suffixes:
        most = ", ".join(suffix for suffix, _ in suffixes.most_common(_SUFFIXES_NAMED))
        found["other file", "other files", most + ", ..." * (len(suffixes) > _SUFFIXES_NAMED)] = suffixes.total()
    parts = [f"{count:,} {what[0] if count == 1 else what[1]} ({what[2]})" for what, count in found.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _names_in(source: str) -> Iterator[str]:
    """The names of all files in a folder, a glob or a .zip; links to folders end in a slash."""
    if os.path.isdir(source):  # noqa: PTH112
        for below, folders, names in os.walk(source):
            folders[:] = [name for name in folders if not is_junk(name)]
            yield from (f"{name}/" for name in folders if os.path.islink(os.path.join(below, name)))  # noqa: PTH114, PTH118
            yield from names
    elif os.path.isfile(source):  # noqa: PTH113
        with suppress(zipfile.BadZipFile, OSError):  # reading it says why
            if source.lower().endswith(".zip"):
                with zipfile.ZipFile(source) as archive:
                    yield from (name for name in archive.namelist() if not name.endswith("/"))
    elif glob.has_magic(source) and not is_address(source):
        for match in _matches(source):
            if not os.path.isdir(match):  # noqa: PTH112
                yield match
            elif "**" not in source:
                yield from _names_in(match)


def _walk(folder: str) -> Iterator[tuple[str, list[str] | None]]:
    """A folder and all below it, with the names of their files; None for one that cannot be listed."""
    files, join = None, os.path.join
    if is_address(folder):
        files, inside = filesystem(folder)
        folder, join = str(files.unstrip_protocol(inside)).rstrip("/"), posixpath.join
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            entries = _entries(here) if files is None else _far_entries(files, here)
        except OSError:
            yield here, None
            continue
        yield here, [name for name, is_file in entries if is_file]
        below = sorted((name for name, is_file in entries if is_file is False), key=natural_key, reverse=True)
        waiting += [join(here, name) for name in below]


def _entries(folder: str) -> list[tuple[str, bool | None]]:
    """What is in a folder and not hidden, and whether it is a file; None for a link to a folder."""
    with os.scandir(folder or ".") as found:
        return [
            (one.name, None if one.is_symlink() and one.is_dir() else not one.is_dir())
            for one in found
            if not one.name.startswith(".")
        ]


def _far_entries(files: Any, folder: str) -> list[tuple[str, bool | None]]:
    with network(folder):
        found = files.ls(inside := files._strip_protocol(folder), detail=True)
    # Of each entry only its name is kept: stores tell a kilobyte about each. A console marks a folder by an entry of
    # it.
    paths = ((str(one["name"]).rstrip("/"), one["type"] != "directory") for one in found)
    names = ((path.rpartition("/")[2], is_file) for path, is_file in paths if path != inside)
    return [(name, is_file) for name, is_file in names if not name.startswith(".")]


def files_matching(pattern: str, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> Iterator[str]:
    """All pictures that a glob matches, and those in the folders that it matches, in natural order."""
    matches = dict.fromkeys(_matches(pattern))  # "**/a/**" meets some files twice
    for match in sorted(matches, key=natural_key):
        if not os.path.isdir(match):  # noqa: PTH112
            if match.lower().endswith(suffixes):
                yield match
        elif "**" not in pattern:  # which matches the files of folders itself
            yield from files_below(match, suffixes)


def _matches(pattern: str) -> Iterator[str]:
    """What `glob` finds, but "**" does not follow links: two that lead in a circle would keep `glob` busy for ever."""
    deep = re.search(r"(?:^|(?<=/))\*\*(?:/|$)", pattern.replace(os.sep, "/"))
    if deep is None:
        yield from glob.glob(pattern)  # noqa: PTH207 - the pattern may be absolute
        return
    head, tail = pattern[: deep.start()], pattern[deep.end() :]
    for folder in glob.glob(head) if head else [""]:  # noqa: PTH207
        for below, names in _walk(folder):
            if tail:
                yield from _matches(os.path.join(glob.escape(below), tail))  # noqa: PTH118
            else:
                yield from (os.path.join(below, name) for name in names or ())  # noqa: PTH118


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sort key that counts: picture 2 comes before picture 10.

    >>> sorted(["b10.jpg", "b2.jpg", "a.jpg"], key=natural_key)
    ['a.jpg', 'b2.jpg', 'b10.jpg']
    """
    # Words and numbers in turns, so that the same place of two keys holds the same kind.
    parts: list[str | int] = [*_NUMBERS.split(text.lower())]
    parts[1::2] = map(int, parts[1::2])
    return parts, text
