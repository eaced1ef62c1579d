"""The pictures in a tar, from start to end. Nothing is unpacked to disk, so no name in it can do harm."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self, cast

from ferkit.batch.storage import Far, is_address
from ferkit.data import DAMAGED_HEADER, Finite, is_junk, open_file, reading, unpacked
from ferkit.errors import DatasetError, FerkitError
from ferkit.sources import PICTURE_SUFFIXES


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


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            member = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            cast(Archive, archive).ended = True
            raise
        # With a size below zero the next header would be this one again, for ever (CVE-2025-8194).
        if archive.offset <= member.offset:
            raise tarfile.ReadError("a member ends before it begins")
        return member


class Archive(tarfile.TarFile):
    """A tar that notes whether its end came, a block of zeros, and what it broke at.

    Nobody reads on behind where it broke: what comes there may be anything.
    """

    tarinfo = _Member
    ended = False
    broken: Exception | None = None

    def content(self, member: tarfile.TarInfo) -> bytes:
        """What a member holds; raises what unpacking it raises."""
        try:
            file = self.extractfile(member)
            return b"" if file is None else file.read()
        except Exception as problem:
            self.broken = problem
            raise


def tar_pictures(stream: BinaryIO, name: str) -> Iterator[tuple[tarfile.TarInfo, Archive]]:
    """The members that are pictures, one after the other, with the archive to extract them from before the next comes.

    Hard links are among them, see `unreadable`.

    Raises `DatasetError` where the archive is damaged or cut off, after the members in front of that.
    """
    try:
        seekable = stream.seekable()
        file = stream if seekable else cast(BinaryIO, Finite(stream))
        with Archive.open(fileobj=file, mode="r:" if seekable else "r|") as archive:
            while (member := archive.next()) is not None:
                if (member.isreg() or member.islnk()) and is_picture(member.name):
                    yield member, archive
                    if archive.broken is not None:
                        raise archive.broken
                # A TarFile remembers every member it has seen; nobody goes back to them.
                archive.members.clear()  # type: ignore[attr-defined]
            # tarfile takes it for the end where it cannot make out a header, or where the file is cut off in front of one.
            if not archive.ended:
                raise tarfile.ReadError("its end is missing")
    except FerkitError:
        raise
    except DAMAGED_HEADER as problem:
        raise DatasetError(f"{name} is cut off or damaged ({problem}). Download or copy it again.") from problem


def unreadable(member: tarfile.TarInfo) -> str | None:
    """Why the content of a member is not in its place; None where it is."""
    if member.islnk():
        # Those who read a tar once, from start to end, are past what it links to.
        return "it is a hard link to another member. Pack the archive again with --hard-dereference"
    if member.size < 0:
        return "its size makes no sense: the archive is damaged"
    return "it is a sparse file. Pack the archive again without --sparse" if member.sparse else None
