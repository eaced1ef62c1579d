"""Pictures: `read_image` of bytes, of files and of data URIs."""

import base64
import functools
import struct
import warnings
import zlib

import numpy as np
import PIL.Image

import pictures as made
from ferkit.sources import images, pixels
from fuzz.judge import Choices, Finding, refusals_allowed

WORDS = (b"IHDR", b"IDAT", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"iCCP", b"II*\0", b"MM\0*", b"\xff\xd8", b"\xff\xda",
         b"\xff\xe1", b"Exif\0\0", b"GIF89a", b"RIFF", b"WEBPVP8X", b"ANIM", b"ftypavif", b"ispe", b"P6 ", b"P7\n",
         b"BM", b"data:image/png;base64,", b";base64", b"%00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")  # fmt: skip
LONGEST = 8192

# The code is the same whatever the limit, and a fuzzer that decodes half a gigabyte a time gets nowhere.
MOST_PIXELS = 1 << 20
# Its plug-ins are imported when a picture asks for them, which is too late for the fuzzer to see into them.
PIL.Image.init()

KINDS = ("bytes", "data URI", "png with right checksums", "base64 in a data URI")


@functools.cache
def _quick() -> None:
    pixels.MAX_PIXELS = MOST_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
    warnings.simplefilter("ignore")


def seeds() -> dict[str, bytes]:
    picture = made.picture(12, 9)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    deep = PIL.Image.fromarray(np.arange(108, dtype=np.uint16).reshape(9, 12) * 500)
    whole = {
        "png": made.encoded(picture, "PNG", exif=exif),
        "png palette": made.encoded(picture.convert("P"), "PNG", transparency=3),
        "png deep": made.encoded(deep, "PNG"),
        "png one bit": made.encoded(picture.convert("1"), "PNG"),
        "png alpha": made.encoded(picture.convert("LA"), "PNG"),
        "apng": made.encoded(picture, "PNG", save_all=True, append_images=[picture.rotate(180)]),
        "jpeg": made.encoded(picture, "JPEG", exif=exif),
        "jpeg progressive": made.encoded(picture, "JPEG", progressive=True),
        "jpeg cmyk": made.encoded(picture.convert("CMYK"), "JPEG"),
        "mpo": made.encoded(picture, "MPO", save_all=True, append_images=[picture]),
        "gif": made.encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(180)]),
        "bmp": made.encoded(picture, "BMP"),
        "tiff": made.encoded(picture, "TIFF", exif=exif),
        "tiff lzw": made.encoded(picture, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": made.encoded(picture, "TIFF", compression="jpeg"),
        "tiff float": made.encoded(PIL.Image.new("F", (4, 3), 0.5), "TIFF"),
        "tiff int": made.encoded(PIL.Image.new("I", (4, 3), 70), "TIFF"),
        "webp": made.encoded(picture, "WEBP", exif=exif),
        "webp lossless": made.encoded(picture.convert("RGBA"), "WEBP", lossless=True),
        "avif": made.encoded(picture, "AVIF"),
        "ppm": made.encoded(picture, "PPM"),
        "pgm in letters": b"P2\n2 2\n255\n1 2 3 4\n",
        "pfm": b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 1),
    }
    found = {name: bytes([0]) + data for name, data in whole.items()}
    found |= {f"{name} repaired": bytes([2]) + data for name, data in whole.items() if "png" in name}
    found |= {f"{name} in base64": bytes([3]) + whole[name] for name in ("png", "jpeg", "gif")}
    encoded = base64.b64encode(whole["png"])
    found["data URI"] = bytes([1]) + b"data:image/png;base64," + encoded
    found["data URI of percents"] = bytes([1]) + b"data:," + b"".join(b"%%%02x" % byte for byte in whole["png"])
    found["data URI cut off"] = bytes([1]) + b"data:image/png;charset=x;base64," + encoded[:-3]
    return found


def look(data: bytes) -> None:
    _quick()
    choices = Choices(data)
    kind, content = choices.one_of(KINDS), choices.bytes()
    source: bytes | str = content
    if kind == "data URI":
        source = "data:" + content.decode("utf-8", "surrogateescape").removeprefix("data:")
    elif kind == "base64 in a data URI":
        source = "data:image/png;base64," + base64.b64encode(content).decode()
    elif kind == "png with right checksums":
        source = with_checksums(content)
    with refusals_allowed():
        pixels = images.read_image(source)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise Finding(f"read as {pixels.dtype} {pixels.shape}")


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks carry the checksums that they should: else nothing behind them is ever reached."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]
