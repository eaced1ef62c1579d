"""What decoding a picture costs, counted from its bytes before a decoder sees them.

The header bounds the pixels, not the work: a progressive JPEG visits every pixel once a scan, Pillow keeps each text,
comment and tag that precedes the pixels, and decodes some rare kinds in Python. No thread can be ended in the middle of
that, so what would take more than a few seconds is refused.
"""

import re
import struct
from collections.abc import Callable
from typing import IO

from ferkit.errors import ImageError

# Scans of a JPEG: encoders write 10 to 20. More are taken as long as pixels times scans, at 0.6 to 1.5 ns, are few.
_MAX_SCANS, _MAX_SCANNED = 20, 500_000_000
# Segments, comments, tags: Pillow looks at each in Python. Cameras write some dozens.
_MAX_BLOCKS = 1000
# Parts of a picture's own data (PNG chunks, frames of an animation) in addition to one per 256 bytes.
_MAX_PARTS = 10_000
# Bytes between the segments of a JPEG, and those of the text in front of a PPM.
_MAX_FILL = 1 << 16
# Pillow joins these, each time anew.
_MAX_EXIF_SEGMENTS, _MAX_COMMENT_BLOCKS = 16, 4096
# Colour profiles of a PNG, which may have one. Each unpacks to a megabyte.
_MAX_PROFILES = 16
# Values that Pillow decodes one by one in Python: PPM as text, run-length encoded BMP.
_MAX_SLOW_VALUES = 4_000_000
# Strips and tiles of a TIFF, and how often the strips together may have the size of the file.
_MAX_TIFF_VALUES, _MAX_OVERLAP = 300_000, 4
# Of an AVIF. Its items are looked up one after the other, so time grows with the square.
_MAX_AVIF_META = 1 << 17


def check_cost(file: IO[bytes], name: str) -> None:
    """Refuse a picture whose decoding would take unreasonable time or memory for its size. Ends at the file's start.

    What is cut off or damaged passes: decoders reject it.

    Raises:
        ImageError: The picture is built to be slow, or by a very unusual program.
    """
    file.seek(0)
    head = file.read(32)
    check = next((check for mark, check in _CHECKS.items() if head[4 * (mark == b"ftyp") :].startswith(mark)), None)
    problem = None
    if check is not None:
        file.seek(0)
        try:
            problem = check(file)
        except struct.error:  # cut off
            problem = None
        file.seek(0)
    if problem is not None:
        raise ImageError(f"Cannot read {name}: decoding would take too long ({problem}). Save it again as PNG or JPEG.")


def _too_many(found: int, what: str, most: int) -> str | None:
    return f"more than {most:,} {what}" if found > most else None


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOI, _EOI, _SOS, _TEM, _APP1 = 0xD8, 0xD9, 0xDA, 0x01, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ONE_SCAN = frozenset((0xC0, 0xC1, 0xC9))  # sequential; also these may have a scan per component


def _jpeg(file: IO[bytes]) -> str | None:
    data = file.read()
    pixels = components = scans = fill = exif = frame = 0
    at = 2
    for number in range(_MAX_PARTS + 1):
        found = _MARKER.search(data, at)
        # The decoder ends at the end of image. Pillow, which reads only what precedes the first scan, does not.
        if found is None or (data[found.start() + 1] == _EOI and scans):
            return None
        fill += 0 if scans else found.start() - at
        kind, at = data[found.start() + 1], found.end()
        if kind in (_SOI, _EOI, _TEM):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if kind in _FRAMES:
            frame, (height, width, components) = kind, struct.unpack_from(">HHB", data, at + 3)
            pixels = max(pixels, width * height)
        elif kind == _SOS:
            scans += 1
            if scans == 1 and frame in _ONE_SCAN and data[at + 2 : at + 3] == bytes([components]):
                return None
        exif += kind == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0"
        problem = (
            _too_many(fill, "bytes of filling", _MAX_FILL)
            or _too_many(exif, "EXIF segments", _MAX_EXIF_SEGMENTS)
            or _too_many(0 if scans else number, "segments before the pixels", _MAX_BLOCKS)
        )
        if problem is None and scans > _MAX_SCANS and pixels * scans > _MAX_SCANNED:
            problem = f"{scans:,} scans of {pixels:,} pixels"
        if problem is not None:
            return problem
        at += max(length, 2)
    return f"more than {_MAX_PARTS:,} segments"


def _png(file: IO[bytes]) -> str | None:
    at = 8
    chunks = profiles = 0
    while True:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        chunks += 1
        if chunks > _MAX_PARTS + at // 256:
            return f"more than {chunks - 1:,} chunks in {at:,} bytes"
        if kind == b"IEND":
            return None
        profiles += kind == b"iCCP"
        if profiles > _MAX_PROFILES:
            return f"more than {_MAX_PROFILES} colour profiles"
        at += 12 + length


def _gif(file: IO[bytes]) -> str | None:
    """Only what precedes the first frame: no further one is decoded."""
    flags = file.read(13)[10:11] or b"\0"
    if flags[0] & 128:
        file.seek(3 << ((flags[0] & 7) + 1), 1)
    comment_blocks = 0
    for _ in range(_MAX_BLOCKS):
        mark = file.read(1)
        if mark in (b"", b",", b";"):
            return None
        if mark != b"!":
            continue
        file.seek(1, 1)
        while (size := file.read(1)) not in (b"", b"\0"):
            file.seek(size[0], 1)
            comment_blocks += 1
            if comment_blocks > _MAX_COMMENT_BLOCKS:
                return f"more than {_MAX_COMMENT_BLOCKS:,} blocks of comments"
    return f"more than {_MAX_BLOCKS:,} extensions"


def _ppm(file: IO[bytes]) -> str | None:
    start = file.read(_MAX_FILL)
    plain = start[1:2] in (b"1", b"2", b"3")
    fields = re.sub(rb"#[^\r\n]*([\r\n]|\Z)", b" ", start).split(maxsplit=4)
    if len(fields) < 3 and len(start) == _MAX_FILL:
        return f"more than {_MAX_FILL:,} bytes before the pixels"
    if plain and all(field.isdigit() and len(field) < 10 for field in fields[1:3]):
        values = int(fields[1]) * int(fields[2]) * (3 if start[1:2] == b"3" else 1)
        # Each takes two bytes, so a small file that claims more ends early.
        if problem := _too_many(min(values, file.seek(0, 2)), "values written as text", _MAX_SLOW_VALUES):
            return problem
        file.seek(0)
        return _too_many(file.read().count(b"#"), "comments", _MAX_BLOCKS)
    return None


_RLE = (1, 2)


def _bmp(file: IO[bytes]) -> str | None:
    head = file.read(34)
    (size,) = struct.unpack_from("<I", head, 14)
    if size < 40:
        return None
    width, height, _, _, compression = struct.unpack_from("<iiHHI", head, 18)
    if compression not in _RLE:
        return None
    return _too_many(max(abs(width * height), file.seek(0, 2) // 2), "run-length encoded pixels", _MAX_SLOW_VALUES)


# Size in bytes by TIFF's number of a type.
_TIFF_SIZES = {3: 2, 4: 4, 8: 2, 9: 4, 5: 8, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_STRIP_SIZES = (279, 325)
_WIDTH, _HEIGHT, _COMPRESSION, _JPEG_IN_TIFF = 256, 257, 259, 7


def _tiff(file: IO[bytes]) -> str | None:
    head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    big = 43 in head[2:4]
    entry, word, width = (order + "HHQ8s", order + "Q", 8) if big else (order + "HHI4s", order + "I", 4)
    (at,) = struct.unpack_from(word, head, 8 if big else 4)
    file.seek(min(at, 1 << 62))
    (entries,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    if problem := _too_many(entries, "tags", _MAX_BLOCKS):
        return problem
    found = [struct.unpack(entry, file.read(struct.calcsize(entry))) for _ in range(entries)]
    values = sum(count for _, kind, count, _ in found if kind in _TIFF_SIZES)
    if problem := _too_many(values, "values in its tags", _MAX_TIFF_VALUES):
        return problem
    total, size = 0, file.seek(0, 2)
    for tag, kind, count, inline in found:
        if tag in _STRIP_SIZES and kind in (3, 4, 16):
            letter, length = {3: "H", 4: "I", 16: "Q"}[kind], _TIFF_SIZES[kind] * count
            if length > width:
                file.seek(min(struct.unpack(word, inline)[0], 1 << 62))
                inline = file.read(length)
            total += sum(struct.unpack(f"{order}{count}{letter}", inline[:length]))
    if total > _MAX_OVERLAP * size + _MAX_FILL:
        return f"strips of {total:,} bytes in a file of {size:,}"
    return _scans_of_tiff({tag: _first(order, kind, inline) for tag, kind, _, inline in found}, file, found)


def _scans_of_tiff(first: dict[int, int], file: IO[bytes], found: list[tuple[int, int, int, bytes]]) -> str | None:
    """A TIFF may hold JPEGs, one a strip, and each may have many scans."""
    if first.get(_COMPRESSION) != _JPEG_IN_TIFF:
        return None
    file.seek(0)
    strips = max((count for tag, _, count, _ in found if tag in _STRIP_SIZES), default=1)
    scans = file.read().count(b"\xff" + bytes([_SOS])) // max(strips, 1)
    pixels = first.get(_WIDTH, 0) * first.get(_HEIGHT, 0)
    if scans > _MAX_SCANS and pixels * scans > _MAX_SCANNED:
        return f"{scans:,} scans of {pixels:,} pixels"
    return None


def _first(order: str, kind: int, inline: bytes) -> int:
    """The first value of a tag that is a number."""
    letter = {3: "H", 4: "I"}.get(kind)
    return int(struct.unpack_from(order + letter, inline)[0]) if letter else 0


def _avif(file: IO[bytes]) -> str | None:
    at = 0
    for _ in range(_MAX_BLOCKS):
        file.seek(at)
        start = file.read(16)
        if len(start) < 8:
            return None
        size, kind = struct.unpack_from(">I4s", start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", start, 8)
        # Zero: to the end of the file.
        size = min(size or 1 << 62, file.seek(0, 2) - at)
        if kind in (b"meta", b"moov") and size > _MAX_AVIF_META * (1 if kind == b"meta" else 32):
            return f"{size:,} bytes about its items"
        at += max(size, 8)
    return f"more than {_MAX_BLOCKS:,} boxes"


_CHECKS: dict[bytes, Callable[[IO[bytes]], str | None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"P": _ppm,
    b"II": _tiff,
    b"MM": _tiff,
    b"ftyp": _avif,
}
