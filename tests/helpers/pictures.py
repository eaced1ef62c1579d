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
