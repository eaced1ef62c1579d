"""The pictures in a tar, from start to end. Nothing is unpacked to disk, so no name in it can do harm."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ferkit.batch.storage import Far, is_address
from ferkit.datasets.sources import is_junk, open_file, reading, unpacked
from ferkit.errors import DatasetError
from ferkit.listing import PICTURE_SUFFIXES


@contextmanager
def open_unpacked(path: str) -> Iterator[BinaryIO]:
    """A file or address as it is, or unpacked on the way where its first bytes say gzip, bzip2 or xz."""
    if not is_address(path):
        with open_file(Path(path)) as (stream, _):
            yield stream
        return
    with reading(path), Far(path) as far, unpacked(io.BufferedReader(far, 1 << 20), far.bytes, path) as stream:
        yield stream


def is_picture(name: str) -> bool:
    """Whether a member of an archive is taken for a picture: by its suffix, and not what systems leave behind."""
    # "." and ".." begin like hidden names; where they would lead is no matter, for nothing is written there.
    parts = [part for part in name.replace("\\", "/").split("/") if part not in (".", "..")]
    return name.lower().endswith(PICTURE_SUFFIXES) and not is_junk("/".join(parts))


def tar_pictures(stream: BinaryIO, name: str) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """The members that are pictures, one after the other, with the archive to extract them from before the next comes.

    Raises `DatasetError` where the archive is damaged or cut off, after the members in front of that.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:" if stream.seekable() else "r|") as archive:
            while (member := archive.next()) is not None:
                if member.isreg() and is_picture(member.name):
                    yield member, archive
                # A TarFile remembers every member it has seen; nobody goes back to them.
                archive.members.clear()  # type: ignore[attr-defined]
            # tarfile takes it for the end where it cannot make out a header, or where the file is cut off in front of one.
            if stream.seekable():
                stream.seek(archive.offset)
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as problem:
        raise DatasetError(f"{name} is cut off or damaged ({problem}). Download or copy it again.") from problem
