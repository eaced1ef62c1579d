"""What a source holds, as references: where each picture lies. Folders, globs, lists, archives, Parquet; also far away.

References are small, so that a plan of millions is a few files of them; nothing is opened before its turn.
"""

import functools
import glob
import io
import itertools
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ferkit._support.download import fetch
from ferkit._support.parallel import ordered_map
from ferkit.errors import DatasetError, FerkitError, one_line
from ferkit.sources.archives import TAR_SUFFIXES, is_junk, open_unpacked, reading_archive, tar_members, zip_members
from ferkit.sources.folders import PICTURE_SUFFIXES, files_below, files_matching, natural_key
from ferkit.sources.stores import (
    absolute,
    exists,
    filesystem,
    folder_of,
    is_address,
    is_folder,
    is_web,
    network,
    open_binary,
    reason,
)

CONTAINER_SUFFIXES = (".zip", *TAR_SUFFIXES, ".parquet")
LIST_SUFFIXES = (".txt", ".lst")
MANY_SUFFIXES = (*CONTAINER_SUFFIXES, *LIST_SUFFIXES)
# What has to be copied into memory before it can be looked at: addresses, members of archives, standard input, open
# files, data URIs.
MAX_COPIED_BYTES = 100_000_000

# How the bytes of a picture are got.
FILE = "file"  # the file itself: `path`
RANGE = "range"  # `size` bytes from `offset` of the file: a member of a tar
STORED, DEFLATED = "zip-stored", "zip-deflated"  # `size` bytes behind the local header at `offset`: a member of a zip
ROW = "row"  # row `offset` of row group `size` of a Parquet file
SHARD = "shard"  # all pictures of a tar, compressed or far away, in one pass: the one reference that stands for many

_ZIPPED = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
_EXPECTED = "Expected a folder, a glob, a .zip, a .tar, a .parquet, a list .txt or a picture, local or as an address such as s3://"
# Stores answer slowly, and many questions at once.
_THREADS = 16
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Reference:
    """Where a picture lies.

    Attributes:
        name: What results call it.
        path: The file that holds it, as an absolute path or address.
        kind: One of the kinds above, which say what `offset` and `size` mean.
        offset: Where it begins.
        size: How much of the file it takes.
        problem: Why it cannot be read, where that was seen in the listing.
    """

    name: str
    path: str
    kind: str = FILE
    offset: int = 0
    size: int = 0
    problem: str | None = None

    @property
    def group(self) -> tuple[str, int] | None:
        """What is best read together with its neighbours; parts of a job end between two groups where they can."""
        if self.kind == ROW:
            return self.path, self.size
        return (self.path, 0) if self.kind == SHARD else None


def is_many(source: object) -> bool:
    """Whether a source may stand for any number of pictures: a folder, a glob, a list, an archive, a Parquet file.

    Nothing far away is asked: there, what is not named like a picture is taken for many. A file may be called
    "me[1].jpg": what exists is no glob.
    """
    if not isinstance(source, str | os.PathLike):
        return False
    text = os.fsdecode(source)
    if text == "-" or text[:5].lower() == "data:":
        return False
    # These answer False to what can be no path, where Path's raise.
    if is_web(text):
        return urlsplit(text).path.lower().endswith(MANY_SUFFIXES)
    if is_address(text) and not text.startswith("file://"):
        return _is_pattern(text) or not text.lower().endswith(PICTURE_SUFFIXES)
    text = in_home(text.removeprefix("file://"))
    if os.path.isdir(text):  # noqa: PTH112
        return True
    if os.path.lexists(text):
        return text.lower().endswith(MANY_SUFFIXES)
    return _is_pattern(text)


def in_home(path: str) -> str:
    """The path with `~` in its place, as shells write it; a file that is called so stays.

    >>> in_home("photos/me.jpg")
    'photos/me.jpg'
    """
    return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path  # noqa: PTH111


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) or _RANGE.search(text) is not None


def list_sources(sources: Iterable[Any]) -> Iterator[Any]:
    """Put what sources stand for in their place: names of files, and references to what is inside of others.

    Folders are read with all that is below them, in natural order, without following links to folders (which may lead
    in a circle) and without hidden files. What does not exist or holds nothing is passed on: reading it says so, and
    the others go on. Folders are listed one by one, when their turn comes.
    """
    for source in sources:
        if not is_many(source):
            yield source
            continue
        text = in_home(os.fsdecode(source))
        try:
            for one in list_references(text):
                plain = one.kind == FILE and one.problem is None and absolute(one.name) == one.path
                yield one.name if plain else one
        except FerkitError as problem:
            # Of folders and globs `open_source` has more to say.
            said = not is_address(text) and not os.path.isfile(text) and not _RANGE.search(text)  # noqa: PTH113
            yield source if said else Reference(text, text, problem=str(problem))


def list_references(source: str, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> Iterator[Reference]:
    """List the pictures of a source, in an order that is the same each time.

    Args:
        source: A path or an address: a folder (with all below it), a glob of pictures, archives or Parquet files, a
            `.zip`, a `.tar`, a `.parquet`, a list `.txt` or a picture. `{0000..0127}` stands for each number in turn. A
            list has a path, an address or a container per line; relative paths count from the folder of the list.
        suffixes: What to look for in folders and globs; `VIDEO_SUFFIXES` finds videos.

    Returns:
        A reference per picture. What turns out to be damaged later comes as a reference with a `problem`.

    Raises:
        FerkitError: Something does not exist, or nothing is a picture.
    """
    sources = list(braces(source))
    look = functools.partial(_one, suffixes=suffixes)
    found = itertools.chain.from_iterable(map(look, sources) if len(sources) == 1 else _several(sources, look))
    first = next(found, None)
    if first is None:
        what = "pictures" if suffixes == PICTURE_SUFFIXES else "videos"
        raise DatasetError(f"{source} holds no {what} ({', '.join(suffixes)}).{_hint(source)}")
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


def _several(sources: Sequence[str], look: Callable[[str], Iterator[Reference]]) -> Iterator[Iterator[Reference]]:
    """What braces stand for. That a shard is missing is said before hours are spent on the others."""
    plain = [one for one in sources if one.lower().endswith(CONTAINER_SUFFIXES) and not glob.has_magic(one)]
    for one, there in zip(plain, ordered_map(exists, plain, _THREADS), strict=True):
        if not there:
            raise DatasetError(f"There is no {one}. {_EXPECTED}.")
    return (_entry(one, one) if plain else look(one) for one in sources)


def _one(source: str, suffixes: tuple[str, ...]) -> Iterator[Reference]:
    """A source without braces."""
    source = source.removeprefix("file://")
    far = is_address(source)
    if is_web(source):
        return _given(source)
    if glob.has_magic(source) and (far or not os.path.lexists(source)):
        return _matching(source, suffixes)
    try:
        if is_folder(source):
            return map(_file, files_below(source, suffixes))
        if exists(source):
            return _given(source)
    except OSError as problem:
        raise DatasetError(f"{source} cannot be read: {reason(problem)}. {_EXPECTED}.") from problem
    raise DatasetError(f"{source} is not there. {_EXPECTED}." if far else f"There is no {source}. {_EXPECTED}.")


def _matching(pattern: str, suffixes: tuple[str, ...]) -> Iterator[Reference]:
    """The pictures that a glob matches; or archives and Parquet files, where its suffix says so."""
    holders = pattern.lower().endswith(CONTAINER_SUFFIXES)
    if is_address(pattern):
        files, inside = filesystem(pattern)
        with network(pattern):
            names = [str(files.unstrip_protocol(str(one))) for one in files.glob(inside)]
        wanted = CONTAINER_SUFFIXES if holders else suffixes
        found: Iterable[str] = sorted((one for one in names if one.lower().endswith(wanted)), key=natural_key)
    elif holders:
        found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - it may be absolute
    else:
        return map(_file, files_matching(pattern, suffixes))
    return itertools.chain.from_iterable(_entry(one, one) for one in found)


def _given(name: str) -> Iterator[Reference]:
    """A file that was named: a list of others, or an entry of its own."""
    return _listed(name) if name.lower().endswith(LIST_SUFFIXES) else _entry(name, name)


def _entry(name: str, path: str) -> Iterator[Reference]:
    """A picture, or the pictures in an archive or a Parquet file, told apart by the suffix."""
    if not path.lower().endswith(CONTAINER_SUFFIXES):
        return iter([Reference(name, absolute(path))])
    path = absolute(path)
    return list_container(name, path, lambda text: _relative(folder_of(path), text))


def _file(name: str) -> Reference:
    return Reference(name, absolute(name))


def _listed(name: str) -> Iterator[Reference]:
    """What a list names, line by line: it may be longer than memory."""
    folder = folder_of(name)
    try:
        with io.BytesIO(fetch(name, limit=MAX_COPIED_BYTES)) if is_web(name) else open_binary(name) as file:
            for number, line in enumerate(file):
                text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip("\r\n")
                if text:
                    yield from _relative(folder, text)
    except OSError as problem:
        raise DatasetError(f"Cannot read {name}: {reason(problem)}.") from problem


def _relative(folder: str, text: str) -> Iterator[Reference]:
    """What a list or a Parquet file in a folder calls by this name."""
    return _entry(text, text if is_address(text) or os.path.isabs(text) else f"{folder}/{text}")  # noqa: PTH117


def _hint(source: str) -> str:
    """What to say to those who name a folder of shards."""
    if not os.path.isdir(source):  # noqa: PTH112
        return ""
    ends = (one for name in sorted(os.listdir(source)) for one in CONTAINER_SUFFIXES if name.lower().endswith(one))  # noqa: PTH208
    end = next(ends, None)
    return "" if end is None else f" For archives and Parquet files take a glob: {source}/*{end}"


# Archives and Parquet files.


def list_container(name: str, path: str, named: Callable[[str], Iterator[Reference]]) -> Iterator[Reference]:
    """List the pictures in an archive or a Parquet file; one that is damaged ends in a reference that says so.

    Args:
        name: What results call the file.
        path: Its absolute path or address.
        named: What turns a path that a Parquet file holds into references.

    Yields:
        A reference per picture.
    """
    lower = path.lower()
    try:
        with reading_archive(name):
            if lower.endswith(".zip"):
                with open_binary(path) as file, zipfile.ZipFile(file) as archive:
                    yield from _zip(name, path, archive)
            elif lower.endswith(".parquet"):
                yield from _parquet(name, path, named)
            elif is_address(path):
                # To list it, all of it would have to come here; whoever does it reads it once.
                yield Reference(name, path, SHARD)
            else:
                with open_unpacked(path) as stream:
                    yield from _tar(name, path, stream)
    except DatasetError as problem:
        yield Reference(name, path, problem=str(problem))


def unreadable(name: str, why: str) -> str:
    """The one line that says of a picture why it cannot be read."""
    return one_line(f"Cannot read {name}: {why}.")


def too_large(size: int) -> str | None:
    """Why a picture of so many bytes is not read into memory; None where it may be."""
    return None if size <= MAX_COPIED_BYTES else f"it has {size:,} bytes or more. Expected at most {MAX_COPIED_BYTES:,}"


def is_picture(name: str) -> bool:
    """Whether a member of an archive is taken for a picture: by its suffix, and not what systems leave behind."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not is_junk(name)


def _zip(name: str, path: str, archive: zipfile.ZipFile) -> Iterator[Reference]:
    for member in filter(lambda one: is_picture(one.filename), zip_members(archive)):
        kind, why = _ZIPPED.get(member.compress_type), too_large(member.file_size)
        if member.flag_bits & 1:
            why = "it is locked with a password. Pack it again without"
        elif kind is None:
            why = "it is packed in a rare way. Pack it again as a plain .zip"
        inside = f"{name}::{member.filename}"
        problem = why and unreadable(inside, why)
        yield Reference(inside, path, kind or STORED, member.header_offset, member.compress_size, problem)


def _tar(name: str, path: str, stream: BinaryIO) -> Iterator[Reference]:
    if not stream.seekable():
        # Each part would unpack it from its start.
        yield Reference(name, path, SHARD)
        return
    for member, _ in tar_members(stream, name):
        if (member.isreg() or member.islnk()) and is_picture(member.name):
            inside, why = f"{name}::{member.name}", no_content(member)
            yield Reference(inside, path, RANGE, member.offset_data, member.size, why and unreadable(inside, why))


def no_content(member: Any) -> str | None:
    """Why the content of a member of a tar is not in its place; None where it is."""
    if member.islnk():
        # Those who read a tar once, from start to end, are past what it links to.
        return "it is a hard link to another member. Pack the archive again with --hard-dereference"
    if member.size < 0:
        return "its size makes no sense: the archive is damaged"
    if member.sparse:
        return "it is a sparse file. Pack the archive again without --sparse"
    return too_large(member.size)


def _parquet(name: str, path: str, named: Callable[[str], Iterator[Reference]]) -> Iterator[Reference]:
    from ferkit.sources.parquet import PictureTable  # Arrow takes a tenth of a second to import

    row, last = 0, 0
    with PictureTable(path) as table:
        for group in range(table.groups):
            # Of one row group at a time, and as hashes: files may be long, and names as well.
            seen = {last}
            for place, text in enumerate(table.names(group)):
                where = f"{name}::{row}"
                if table.data is not None:
                    last = hash(text)
                    # Rows with the same source one after another would count as one picture.
                    source = (f"{text}::{row}" if last in seen else text) if text else where
                    seen.add(last)
                    yield Reference(source, path, ROW, place, group)
                elif text:
                    yield from named(text)
                else:
                    yield Reference(where, path, problem=unreadable(where, "there is no path in this row"))
                row += 1
