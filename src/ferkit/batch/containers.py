"""What archives and Parquet files hold, as references. Nothing is unpacked to disk, so no name can do harm."""

import io
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ferkit.batch import references as kinds
from ferkit.batch.parquet import Opened
from ferkit.batch.references import Reference
from ferkit.batch.storage import Far, is_address, reason
from ferkit.batch.tars import is_picture, open_unpacked, tar_pictures, unreadable
from ferkit.data import DAMAGED_HEADER
from ferkit.errors import DatasetError, FerkitError, one_line
from ferkit.sources import MAX_COPIED_BYTES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SUFFIXES = (".zip", *TAR_SUFFIXES, ".parquet")
_ZIPPED = {zipfile.ZIP_STORED: kinds.STORED, zipfile.ZIP_DEFLATED: kinds.DEFLATED}

# What turns a path or an address that a Parquet file names into references.
Named = Callable[[str], Iterator[Reference]]


def list_container(name: str, path: str, named: Named) -> Iterator[Reference]:
    """The pictures in an archive or a Parquet file; one that is damaged ends in a reference that says so.

    name: how the column `source` calls it. named: for the paths that a Parquet file may hold.
    """
    lower = path.lower()
    try:
        if lower.endswith(".zip"):
            yield from _zip(name, path)
        elif lower.endswith(".parquet"):
            yield from _parquet(name, path, named)
        elif is_address(path):
            # To list it, all of it would have to come here; whoever does it reads it once.
            yield Reference(name, path, kinds.SHARD)
        else:
            yield from _tar(name, path)
    except DatasetError as problem:
        yield Reference(name, path, problem=str(problem))
    except FerkitError:
        raise
    # The last two: an unknown way of packing, a password.
    except (OSError, EOFError, *DAMAGED_HEADER, NotImplementedError, RuntimeError) as problem:
        yield Reference(name, path, problem=_unreadable(name, reason(problem)))


def _unreadable(name: str, why: str) -> str:
    return one_line(f"Cannot read {name}: {why}.")


def _zip(name: str, path: str) -> Iterator[Reference]:
    with (
        io.BufferedReader(Far(path)) if is_address(path) else Path(path).open("rb") as file,
        zipfile.ZipFile(cast(BinaryIO, file)) as archive,
    ):
        # In the order of the file: a disk is then read from start to end.
        for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
            if is_picture(member.filename) and not stat.S_ISLNK(member.external_attr >> 16):
                yield _zipped(f"{name}::{member.filename}", path, member)


def _zipped(name: str, path: str, member: zipfile.ZipInfo) -> Reference:
    kind, problem = _ZIPPED.get(member.compress_type), None
    if member.flag_bits & 1:
        problem = "it is locked with a password. Pack it again without"
    elif kind is None:
        problem = "it is packed in a rare way. Pack it again as a plain .zip"
    elif member.file_size > MAX_COPIED_BYTES:
        problem = f"it has {member.file_size:,} bytes. Expected at most {MAX_COPIED_BYTES:,}"
    return Reference(
        name,
        path,
        kind or kinds.STORED,
        member.header_offset,
        member.compress_size,
        problem and _unreadable(name, problem),
    )


def _tar(name: str, path: str) -> Iterator[Reference]:
    with open_unpacked(path) as stream:
        if not stream.seekable():
            # Each part would unpack it from its start.
            yield Reference(name, path, kinds.SHARD)
            return
        for member, _ in tar_pictures(stream, name):
            inside = f"{name}::{member.name}"
            why = unreadable(member)
            problem = why and _unreadable(inside, why)
            yield Reference(inside, path, kinds.RANGE, member.offset_data, member.size, problem)


def _parquet(name: str, path: str, named: Named) -> Iterator[Reference]:
    row, last = 0, 0
    with Opened(path) as opened:
        for group in range(opened.file.metadata.num_row_groups):
            # Of one row group at a time, and as hashes: files may be long, and names as well.
            seen = {last}
            for place, text in enumerate(opened.names(group)):
                if opened.columns.data is not None:
                    last = hash(text)
                    # Rows with the same source one after another would count as one picture.
                    source = f"{text or name}::{row}" if not text or last in seen else text
                    seen.add(last)
                    yield Reference(source, path, kinds.ROW, place, group)
                elif text:
                    yield from named(text)
                else:
                    where = f"{name}::{row}"
                    yield Reference(where, path, problem=_unreadable(where, "there is no path in this row"))
                row += 1
