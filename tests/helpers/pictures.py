"""Pictures made on the spot, in every format, and headers that claim what they do not hold."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import PIL.Image


def picture(width: int = 40, height: int = 30) -> PIL.Image.Image:
    """Red rises to the right, green downwards: every turn and mirroring shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], axis=2)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def encoded(image: PIL.Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int, before: bytes = b"") -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_claiming(data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF with other values in its directory."""
    numbers = {"width": 256, "height": 257, "rows_per_strip": 278}
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", changed, 4)
    (count,) = struct.unpack_from("<H", changed, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        (number,) = struct.unpack_from("<H", changed, entry)
        for name, value in tags.items():
            if numbers[name] == number:
                struct.pack_into("<HII", changed, entry + 2, 4, 1, value)
    return bytes(changed)


def bombs(side: int) -> dict[str, bytes]:
    """In every format a file of a few hundred bytes that claims side x side pixels, at most 65,535."""
    small = picture(64, 64)
    short, long = struct.pack("<HH", side, side), struct.pack("<ii", side, side)

    def patched(form: str, place: int, new: bytes, **options: Any) -> bytes:
        data = encoded(small, form, **options)
        return data[:place] + new + data[place + len(new) :]

    gif, avif = encoded(small, "GIF"), encoded(small, "AVIF")
    frame, size = gif.rindex(b",\0\0\0\0"), avif.index(b"ispe") + 8
    jpeg = encoded(small, "JPEG")
    start = jpeg.index(b"\xff\xc0") + 5
    webp = encoded(small, "WEBP", lossless=True)
    at_most = min(side, 16383)  # webp has 14 bits, less one
    canvas = struct.pack("<I", at_most)[:3] * 2
    return {
        "png": png_header(side, side),
        "jpeg": jpeg[:start] + struct.pack(">HH", side, side) + jpeg[start + 4 :],
        "gif screen": patched("GIF", 6, short),
        "gif frame": gif[: frame + 5] + short + gif[frame + 9 :],
        "bmp": patched("BMP", 18, long),
        "tiff": tiff_claiming(encoded(small, "TIFF"), width=side, height=side),
        "tiff packed": tiff_claiming(
            encoded(small, "TIFF", compression="tiff_lzw"), width=side, height=side, rows_per_strip=side
        ),
        "webp canvas": b"RIFF"
        + struct.pack("<I", len(webp) + 10)
        + b"WEBPVP8X"
        + struct.pack("<II", 10, 0)
        + canvas
        + webp[12:],
        "webp lossless": webp[:21] + struct.pack("<I", at_most | at_most << 14) + webp[25:],
        "avif": avif[:size] + struct.pack(">II", side, side) + avif[size + 8 :],
        "ppm": f"P6 {side} {side} 255\n".encode() + b"x" * 99,
        "pgm in letters": f"P2 {side} {side} 255\n".encode() + b"1 " * 99,
    }


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG in which every scan refines all pixels, and says in a few bytes that nothing changes."""
    blocks = -(-width // 8) * -(-height // 8)
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    first = _segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))  # DC: one zero bit a block
    # AC: each code says that the next 2^14 blocks end here.
    code = "".join("0" + "0" * 14 for _ in range(blocks // (1 << 14) + 1))
    packed = int(code.ljust(-(-len(code) // 8) * 8, "1"), 2).to_bytes(-(-len(code) // 8), "big")
    again = _segment(0xDA, b"\1\1\0\1\x3f\x10") + packed
    tables = _segment(0xC4, b"\0\1" + bytes(15) + b"\0") + _segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    head = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64) + _segment(0xC2, frame) + tables
    return head + first + again * (scans - 1) + b"\xff\xd9"


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def _segment(kind: int, data: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data


def floods(size: int) -> dict[str, bytes]:
    """Small pictures in which so many bytes of something else cost a decoder time or memory far beyond their size."""
    small, four = picture(64, 64), b"\xff\xfe\0\2"
    jpeg, png, gif, avif = (encoded(small, form) for form in ("JPEG", "PNG", "GIF", "AVIF"))
    palette = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    exif = _segment(0xE1, b"Exif\0\0" + bytes(60_000))
    meta = avif.index(b"meta") - 4
    places = b"".join(struct.pack(">IHHH", number, 0, 0, 0) for number in range(1, size // 10))
    boxes = _box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + _box(b"pitm", bytes(4) + b"\0\1")
    boxes += _box(b"iloc", b"\2\0\0\0\x44\0" + struct.pack(">I", size // 10 - 1) + places)

    def before(mark: bytes, data: bytes, flood: bytes) -> bytes:
        place = data.index(mark) - (4 if data is png else 0)
        return data[:place] + flood + data[place:]

    rows, packed = 30_000, zlib.compress(bytes(range(256)) * (size // 256))
    numbers = [(256, 9), (257, rows), (258, 8), (259, 8), (262, 1), (277, 1), (278, 1)]
    place = 8 + 2 + 12 * 9 + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers]
    entries.insert(5, struct.pack("<HHII", 273, 4, rows, place))
    entries.append(struct.pack("<HHII", 279, 4, rows, place + 4 * rows))
    longs = struct.pack("<I", place + 8 * rows) * rows + struct.pack("<I", size) * rows
    overlapping = b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4) + longs + packed
    big_tags = struct.pack("<HHQQ", 40_000, 1, 1, 0) * (size // 20)
    bmp = struct.pack("<IiiHHIIiiII", 40, 3000, 2000, 1, 8, 1, size, 0, 0, 256, 0) + bytes(1024) + bytes(size)
    profile = zlib.compress(bytes(1_040_000), 9)
    inner = many_scans(2500, 2000, 500)
    numbers = [(256, 2500), (257, 2000), (258, 8), (259, 7), (262, 1), (273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, 2000), (279, len(inner))]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers)
    return {
        "jpeg scans": many_scans(1920, 1080, 500),
        "jpeg comments": jpeg[:2] + four * (size // 4) + jpeg[2:],
        "jpeg comments behind an end": jpeg[:2] + b"\xff\xd9" + four * (size // 4) + jpeg[2:],
        "jpeg filling": jpeg[:2] + b"\xff" * size + jpeg[2:],
        "jpeg exif": jpeg[:2] + exif * max(20, size // 60_000) + jpeg[2:],
        "png texts": before(b"IDAT", png, chunk(b"tEXt", b"a\0b") * (size // 15)),
        "png profiles": before(b"IDAT", png, chunk(b"iCCP", b"a\0\0" + profile) * max(20, size // (len(profile) + 15))),
        "png empty parts": before(b"IEND", png, chunk(b"IDAT", b"") * (size // 12)),
        "gif comments": gif[:palette] + b"!\xfe\1a\0" * (size // 5) + gif[palette:],
        "gif one comment": gif[:palette] + b"!\xfe" + b"\1a" * (size // 2) + b"\0" + gif[palette:],
        "gif nothing": gif[:palette] + bytes(size) + gif[palette:],
        "ppm comment": b"P6 #" + b"a" * size + b"\n1 1 255\n" + bytes(3),
        "ppm blanks": b"P6" + b" " * size + b"1 1 255\n" + bytes(3),
        "ppm text": b"P2 3000 2000 255\n" + b"0 " * 4_000_000,
        "ppm comments in text": b"P2 1 1 255\n" + b"#a\n" * (size // 3) + b"0 ",
        "bmp runs": b"BM" + struct.pack("<IHHI", 1078 + size, 0, 0, 1078) + bmp,
        "tiff tags": b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, size // 20) + big_tags + bytes(8),
        "tiff strips of the same bytes": overlapping,
        "tiff of jpeg scans": b"II*\0" + struct.pack("<IH", 8, 9) + directory + bytes(4) + inner,
        "avif items": avif[:meta] + _box(b"meta", bytes(4) + boxes),
    }
