"""The pictures in a folder, and those that a glob matches."""

import glob
import os
import re
from collections.abc import Iterator

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".pgm", ".ppm"),
)
_NUMBERS = re.compile(r"(\d+)")


def pictures_below(folder: str) -> Iterator[str]:
    """All pictures in a folder and below it, told by their suffix, folder by folder and in natural order.

    Hidden files and links to folders are left out. A folder that cannot be listed comes as if it were a picture:
    reading it says why.
    """
    for below, names in _walk(folder):
        if names is None:
            yield below
            continue
        for name in sorted(names, key=natural_key):
            if name.lower().endswith(PICTURE_SUFFIXES):
                yield os.path.join(below, name)  # noqa: PTH118 - keeps "./" as the user typed it, and is fast


def _walk(folder: str) -> Iterator[tuple[str, list[str] | None]]:
    """A folder and all below it, with the names of their files; None for one that cannot be listed."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        files, folders = [], []
        try:
            with os.scandir(here or ".") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif not (entry.is_symlink() and entry.is_dir()):
                        files.append(entry.name)
        except OSError:
            yield here, None
            continue
        yield here, files
        waiting += [os.path.join(here, name) for name in sorted(folders, key=natural_key, reverse=True)]  # noqa: PTH118


def pictures_matching(pattern: str) -> Iterator[str]:
    """All pictures that a glob matches, and those in the folders that it matches, in natural order."""
    matches = dict.fromkeys(_matches(pattern))  # "**/a/**" meets some files twice
    for match in sorted(matches, key=natural_key):
        if not os.path.isdir(match):  # noqa: PTH112
            if match.lower().endswith(PICTURE_SUFFIXES):
                yield match
        elif "**" not in pattern:  # which matches the files of folders itself
            yield from pictures_below(match)


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
