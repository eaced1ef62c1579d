"""When a picture was taken, as its camera wrote it down."""

import io
import struct
from contextlib import suppress
from datetime import datetime
from typing import IO

import PIL.Image

from ferkit.sources import FORMATS

_EXIF, _TAKEN = 0x8769, 0x9003  # the block of the camera's own facts, and DateTimeOriginal in it
# In a JPEG the block stands in front of the pixels, after another of 64 KB at most.
_HEAD = 1 << 17
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # older programs keep the block in one of these, by this name:
_IN_TEXT = b"Raw profile type exif\0"


def taken_at(source: str | io.BytesIO) -> datetime | None:
    """EXIF DateTimeOriginal, in the local time of the camera; None where there is none or it is no date.

    source: a path, or a file in memory, which is back at its start afterwards.
    """
    with suppress(Exception):  # a damaged EXIF block is no reason to refuse the picture
        if isinstance(source, io.BytesIO):
            try:
                return _read(source)
            finally:
                source.seek(0)
        with open(source, "rb") as file:  # noqa: PTH123 - what is no path raises here, and read_image says why
            return _read(file)
    return None


def _read(file: IO[bytes]) -> datetime | None:
    head = file.read(_HEAD)
    # Most pictures of the web have no such block, and to look is faster than to ask Pillow.
    if head.startswith(b"\xff\xd8") and b"Exif\0\0" not in head:
        return None
    if head.startswith(_PNG) and not _may_have_exif(file):
        return None
    file.seek(0)
    with PIL.Image.open(file, formats=FORMATS) as image:
        text = image.getexif().get_ifd(_EXIF).get(_TAKEN)
    return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S") if text else None


def _may_have_exif(file: IO[bytes]) -> bool:
    """Whether a PNG has such a block. It may stand behind the pixels, so Pillow would decode those to find none."""
    place = len(_PNG)
    while len(start := _at(file, place, 8 + len(_IN_TEXT))) >= 8:
        length, kind = struct.unpack(">I4s", start[:8])
        if kind == b"eXIf" or (kind in _TEXTS and start.endswith(_IN_TEXT)):
            return True
        place += 12 + length  # with length and kind in front, and a checksum behind
    return False


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)
