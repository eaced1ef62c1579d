"""SRC as a stream of references: folder, glob, archives, Parquet files, a list; local or far away."""

import functools
import glob
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from ferkit._support.download import fetch
from ferkit._support.parallel import ordered_map
from ferkit.batch import containers
from ferkit.batch.references import Reference
from ferkit.batch.storage import Far, filesystem, is_address, network, reason
from ferkit.errors import DatasetError
from ferkit.sources import MAX_COPIED_BYTES, PICTURE_SUFFIXES, natural_key, pictures_below, pictures_matching

LIST_SUFFIXES = (".txt", ".lst")
_WEB = ("http://", "https://")
_EXPECTED = "Expected a folder, a glob, a .zip, a .tar, a .parquet, a list .txt or a picture, local or as an address such as s3://"
# Stores answer slowly, and many questions at once.
_THREADS = 16
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def list_references(source: str) -> Iterator[Reference]:
    """The pictures of SRC, in an order that is the same each time.

    A folder and what it is made of: the pictures below it. A glob: the pictures, or by its suffix the archives or
    Parquet files, that match. `{0000..0127}` stands for each number in turn. A list has a path, an address or a
    container per line; what is relative counts from the folder of the list.

    Raises `FerkitError` where something does not exist or nothing is a picture. What turns out to be damaged later comes
    as a reference with a `problem`.
    """
    sources = list(braces(source))
    found = itertools.chain.from_iterable(map(_one, sources) if len(sources) == 1 else _several(sources))
    first = next(found, None)
    if first is None:
        raise DatasetError(f"{source} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).{_hint(source)}")
    return itertools.chain([first], found)


def braces(source: str) -> Iterator[str]:
    """Each number of each range in turn, as shards are written.

    >>> list(braces("shard-{08..10}.tar"))
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    match = None if os.path.lexists(source) else _RANGE.search(source)
    if match is None:
        yield source
        return
    low, high = match[1], match[2]
    for number in range(int(low), int(high) + 1):
        yield from braces(f"{source[: match.start()]}{number:0{len(low)}}{source[match.end() :]}")


def _several(sources: Sequence[str]) -> Iterator[Iterator[Reference]]:
    """What braces stand for. That a shard is missing is said before hours are spent on the others."""
    plain = [one for one in sources if one.lower().endswith(containers.SUFFIXES) and not glob.has_magic(one)]
    for one, there in zip(plain, ordered_map(_is_there, plain, _THREADS), strict=True):
        if not there:
            raise DatasetError(f"There is no {one}. {_EXPECTED}.")
    return (_entry(one, one) if plain else _one(one) for one in sources)


def _is_there(source: str) -> bool:
    if not is_address(source):
        return os.path.lexists(source)
    files, path = filesystem(source)
    with network(source):
        return bool(files.exists(path))


def _one(source: str) -> Iterator[Reference]:
    """SRC without braces."""
    if is_address(source) and not _is_web(source):
        yield from _far(source)
    elif _is_web(source):
        yield from _given(source, source)
    elif os.path.isdir(source):  # noqa: PTH112 - never raises
        yield from (_file(name) for name in pictures_below(source))
    elif os.path.lexists(source):
        yield from _given(source, source)
    elif glob.has_magic(source):
        yield from _matching(source)
    else:
        raise DatasetError(f"There is no {source}. {_EXPECTED}.")


def _given(name: str, path: str) -> Iterator[Reference]:
    """A file that was named: a list of others, or an entry of its own."""
    return _listed(name, path) if path.lower().endswith(LIST_SUFFIXES) else _entry(name, path)


def _entry(name: str, path: str) -> Iterator[Reference]:
    """A picture, or the pictures in an archive or a Parquet file, told apart by the suffix."""
    path = path if is_address(path) else os.path.abspath(path)  # noqa: PTH100 - keeps links, and bytes that are no text
    if path.lower().endswith(containers.SUFFIXES):
        return containers.list_container(name, path, functools.partial(_relative, _folder_of(path)))
    return iter([Reference(name, path)])


def _file(name: str) -> Reference:
    return Reference(name, os.path.abspath(name))  # noqa: PTH100


def _matching(pattern: str) -> Iterator[Reference]:
    if not pattern.lower().endswith(containers.SUFFIXES):
        yield from map(_file, pictures_matching(pattern))
        return
    for path in sorted(glob.glob(pattern, recursive=True), key=natural_key):  # noqa: PTH207 - it may be absolute
        yield from _entry(path, path)


def _listed(name: str, path: str) -> Iterator[Reference]:
    """What a list names, line by line: it may be longer than memory."""
    try:
        with _opened(path) as file:
            for number, line in enumerate(file):
                text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip("\r\n")
                if text:
                    yield from _relative(_folder_of(path), text)
    except OSError as problem:
        raise DatasetError(f"Cannot read {name}: {reason(problem)}.") from problem


def _opened(path: str) -> BinaryIO:
    if _is_web(path):
        return io.BytesIO(fetch(path, limit=MAX_COPIED_BYTES))
    return cast(BinaryIO, io.BufferedReader(Far(path))) if is_address(path) else open(path, "rb")  # noqa: PTH123


def _relative(folder: str, text: str) -> Iterator[Reference]:
    """What a list or a Parquet file in a folder calls by this name."""
    path = text if is_address(text) or os.path.isabs(text) else f"{folder}/{text}"  # noqa: PTH117
    return _entry(text, path)


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0] if is_address(path) else os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120


def _far(address: str) -> Iterator[Reference]:
    files, path = filesystem(address)
    if glob.has_magic(path):
        with network(address):
            matches = sorted(map(str, files.glob(path)), key=natural_key)
        suffixes = containers.SUFFIXES if path.lower().endswith(containers.SUFFIXES) else PICTURE_SUFFIXES
        for match in matches:
            if match.lower().endswith(suffixes):
                yield from _entry(name := str(files.unstrip_protocol(match)), name)
        return
    try:
        with network(address):
            folder = files.isdir(path)
            if not folder and not files.exists(path):
                raise FileNotFoundError
    except OSError as problem:
        why = "is not there" if isinstance(problem, FileNotFoundError) else f"cannot be read: {reason(problem)}"
        raise DatasetError(f"{address} {why}. {_EXPECTED}.") from problem
    if folder:
        yield from _far_below(files, path)
    else:
        yield from _given(address, address)


def _far_below(files: Any, folder: str) -> Iterator[Reference]:
    """All pictures below a folder of an object store, folder by folder and in natural order, as `pictures_below`."""
    waiting = [folder.rstrip("/")]
    while waiting:
        here = waiting.pop()
        with network(here):
            # Of each entry only its name is kept: stores tell a kilobyte about each.
            entries = [(str(one["name"]).rstrip("/"), one["type"]) for one in files.ls(here, detail=True)]
        below = [name for name, kind in entries if kind == "directory" and name != here and not _hidden(name)]
        waiting += sorted(below, key=natural_key, reverse=True)
        for name in sorted((name for name, kind in entries if kind != "directory"), key=natural_key):
            if name.lower().endswith(PICTURE_SUFFIXES) and not _hidden(name):
                address = str(files.unstrip_protocol(name))
                yield Reference(address, address)


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _is_web(text: str) -> bool:
    return text.lower().startswith(_WEB)


def _hint(source: str) -> str:
    """What to say to those who name a folder of shards."""
    if not os.path.isdir(source):  # noqa: PTH112
        return ""
    ends = (one for name in sorted(os.listdir(source)) for one in containers.SUFFIXES if name.lower().endswith(one))  # noqa: PTH208
    end = next(ends, None)
    return "" if end is None else f" For archives and Parquet files take a glob: {source}/*{end}"
