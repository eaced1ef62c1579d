"""Any picture decoded to RGB uint8, and what a network expects of a face."""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit._support.parallel import alone_with
from ferkit.errors import ImageError, UsageError
from ferkit.sources.cost import check_cost
from ferkit.sources.names import printable_name
from ferkit.sources.pictures import Source, open_source

RgbImage = npt.NDArray[np.uint8]
# Of the channels of an array.
Order = Literal["rgb", "bgr"]

# Above this, Pillow itself refuses a picture. 108-megapixel photos pass; half a gigabyte of pixels is the most we hold.
MAX_PIXELS = 2 * 89_478_485
# Pixels that are converted at a time: what a conversion needs in between stays small, and in the processor's cache.
_STRIP = 1 << 18

# In this order: Pillow knows the first five from the start, and looks for plug-ins (0.2 s) when it meets another.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
_EXPECTED = "a picture (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF)"
# What people take for such a picture, by the bytes at a place.
_OTHERS = (
    (4, b"ftyphei", "a HEIC photo; convert it to JPEG"),
    (4, b"ftypmif1", "a HEIC photo; convert it to JPEG"),
    (4, b"ftypavi", "a damaged or too large AVIF picture"),
    (4, b"ftyp", "a video; look at it with: ferkit video"),
    (0, b"\x1aE\xdf\xa3", "a video; look at it with: ferkit video"),
    (0, b"<", "a web page or a drawing in XML"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "an archive or a document; unpack it"),
    (0, b"8BPS", "a Photoshop file; export it as PNG"),
)
_TABLES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz")

# What cameras and scanners store in 16 bits without using them all.
_SENSOR_BITS = (8, 10, 12, 14)
# The marks at the end of a JPEG and before each of its scans.
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_ENOUGH_SCANS = {"RGB": 9, "L": 5}
# A JPEG that lacks more of its rows is refused.
_MOST_MISSING = 0.1

_ORIENTATION = 0x0112
# Pillow looks at each of its tags in Python. In a JPEG it has 64 KB, in other formats any size.
_LARGEST_EXIF = 1 << 20
# How a stored picture is turned upright, by its EXIF orientation.
_TURNS: dict[int, Callable[[RgbImage], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@dataclass(frozen=True)
class FaceInput:
    """What a network expects of a face; stored in `card.json`, so training and serving cannot disagree.

    The defaults crop faces as FER-2013 has them (`benchmarks/DETECTION.md`).

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 1 for grayscale, 3 for RGB.
        margin: How much of the face's size is added around it, as a fraction (0.1 adds 10 % in all).
        align: Whether landmarks, where a detector gives them, locate the face and level its eyes.
    """

    height: int = 48
    width: int = 48
    channels: int = 1
    margin: float = -0.05
    align: bool = True


def read_image(source: Source, notes: list[str] | None = None, *, order: Order = "rgb") -> RgbImage:
    """Decode any picture to RGB uint8 (height, width, 3), upright.

    The first frame of an animation is taken, EXIF orientation is applied, 16 bits are scaled to 8 (10, 12 or
    14 bits in 16 by what they hold), transparent pixels become white, and a JPEG that lacks its end is read, as viewers do.

    Args:
        source: A path, an address (https, http or an object store such as `s3://`), a data URI, `-` (standard input),
            bytes, a binary file, a `Picture`, a PIL image, or an array: uint8 or float in [0, 1], of shape (H, W),
            (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.
        notes: Where what was assumed about the picture is added, in a line each.
        order: Channels of an array: "rgb", or "bgr" as OpenCV has them. All else knows its own.

    Returns:
        The pixels. An array that is RGB uint8 already is returned as it is, not as a copy.

    Raises:
        ImageError: It is not one picture, or it is too large; nothing is decoded then.
    """
    if order not in get_args(Order):
        raise UsageError(f"order must be one of {', '.join(get_args(Order))}. Received: {order}.")
    name, notes = printable_name(source), [] if notes is None else notes
    try:
        if isinstance(source, np.ndarray):
            pixels = _from_array(np.asarray(source), name)  # a matrix or a masked array would go its own ways
            return pixels if order == "rgb" or source.ndim < 3 else np.ascontiguousarray(pixels[..., ::-1])
        if isinstance(source, PIL.Image.Image):
            return _from_pil(source, name, notes)
        with open_source(source) as file:
            return _decode(file, name, notes)
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError as problem:
        raise ImageError(
            f"Cannot read {name}: it claims more than {MAX_PIXELS:,} pixels. Shrink it first."
        ) from problem
    except MemoryError as problem:
        raise ImageError(f"Cannot read {name}: its pixels do not fit into memory. Shrink it first.") from problem
    except Exception as problem:  # decoders meet damaged data with nearly any exception
        why = " ".join(str(problem).split()) or type(problem).__name__
        raise ImageError(
            f"Cannot read {name}: cut off, damaged or of a rare kind ({why}). Expected {_EXPECTED}."
        ) from problem


def _decode(file: IO[bytes], name: str, notes: list[str]) -> RgbImage:
    check_cost(file, name)
    try:
        image = PIL.Image.open(file, formats=FORMATS)  # reads the header only
    except PIL.UnidentifiedImageError as problem:
        file.seek(0)
        head = file.read(32).lstrip(b"\xef\xbb\xbf \t\r\n")
        what = next(
            (f"it is {what}" for place, mark, what in _OTHERS if head[place:].startswith(mark)),
            "it is a table; where it is a data set, see: ferkit data, ferkit evaluate"
            if name.lower().endswith(_TABLES)
            else "not a picture that can be decoded",
        )
        raise ImageError(f"Cannot read {name}: {what}. Expected {_EXPECTED}.") from problem
    with image:
        _check_size(image.width, image.height, name)
        pixels = _jpeg_pixels(image, file, notes)
        if pixels is None:
            pixels = _deep_color(image, file, name, notes)
        return _from_pil(image, name, notes) if pixels is None else _upright(pixels, image)


def _jpeg_pixels(image: PIL.Image.Image, file: IO[bytes], notes: list[str]) -> RgbImage | None:
    """Pixels of a colour or gray JPEG, as stored; None for all else and for what it refuses.

    OpenCV's libjpeg-turbo gives the very pixels that Pillow's gives, in half of the time: without copies in between.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    file.seek(0)
    data = file.read()
    pixels = _decoded_jpeg(data, image.width, image.height)
    # Scans of a progressive JPEG refine each other, and the last two of the usual ten or six show hardly more.
    is_cut = pixels is None and (not image.info.get("progressive") or data.count(_SCAN) >= _ENOUGH_SCANS[image.mode])
    if is_cut:
        pixels = _decoded_jpeg(data + _END, image.width, image.height)
    if pixels is None:
        return None
    if is_cut:
        # What is missing is filled with one colour.
        known = np.flatnonzero((pixels != pixels[-1, -1]).any(axis=(1, 2)))
        if len(known) == 0 or known[-1] + 1 < (1 - _MOST_MISSING) * image.height:
            return None
        notes.append("the file lacks its end, so the lowest rows may be gray, or details missing")
    return pixels


def _decoded_jpeg(data: bytes, width: int, height: int) -> RgbImage | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None or pixels.shape != (height, width, 3) else np.asarray(pixels, np.uint8)


def _from_pil(image: PIL.Image.Image, name: str, notes: list[str]) -> RgbImage:
    _check_size(image.width, image.height, name)
    with alone_with(image):  # Pillow decodes when pixels are first needed, and not in two threads at once
        image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return _upright(_from_array(_deep_gray(np.asarray(image), name, notes), name), image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        mode = "RGBA" if part.has_transparency_data else "L" if part.mode == "L" else "RGB"
        part = part if part.mode == mode else part.convert(mode)
        pixels[top : top + rows] = _rgb(np.asarray(part).reshape(-1, len(mode))).reshape(part.height, part.width, 3)
    return _upright(pixels, image)


def _upright(pixels: RgbImage, image: PIL.Image.Image) -> RgbImage:
    """Turn what was stored as the camera was held."""
    orientation = None
    with suppress(Exception):  # a damaged EXIF block is no reason to refuse the picture
        if len(image.info.get("exif", b"")) <= _LARGEST_EXIF:
            orientation = image.getexif().get(_ORIENTATION)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else np.asarray(turn(pixels), np.uint8)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width}x{height} pixels. Expected at most {MAX_PIXELS:,} in all. Shrink it first."
        )
    if width * height == 0:
        raise ImageError(f"{name} has {width}x{height} pixels. Expected at least one.")


def _deep_gray(pixels: npt.NDArray[Any], name: str, notes: list[str]) -> npt.NDArray[Any]:
    """Integers of 16 bits as uint8; floats unchanged."""
    if pixels.dtype.kind == "f":
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ImageError(f"Expected pixels of at most 16 bits, 0 to 65535. Received: {name} with {low} to {high}.")
    return _eight_bits(pixels, high, notes)[..., 0]


def _deep_color(image: PIL.Image.Image, file: IO[bytes], name: str, notes: list[str]) -> RgbImage | None:
    """Pixels of a colour PNG or TIFF of 16 bits a channel, of which Pillow keeps the upper eight; None for all else."""
    deep = image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    if not deep or image.mode not in ("RGB", "RGBA"):
        return None
    file.seek(0)
    try:
        pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if (
        pixels is None
        or pixels.dtype != np.uint16
        or pixels.shape[:2] != (image.height, image.width)
        or pixels.ndim != 3
    ):
        return None
    color = [2, 1, 0, 3][: pixels.shape[2]]
    return _from_array(_eight_bits(pixels[..., color], int(pixels[..., :3].max()), notes), name)


def _eight_bits(pixels: npt.NDArray[Any], high: int, notes: list[str]) -> npt.NDArray[np.uint8]:
    """Integers (H, W) or (H, W, channels) of which the highest is `high`, as uint8 (H, W, channels)."""
    bits = next(bits for bits in (*_SENSOR_BITS, 16) if high < 1 << bits)
    if bits < 16 and high > 0:
        notes.append(f"its 16 bits hold {bits} (at most {high:,}), so it was brightened to the range of {bits} bits")
    most = (1 << bits) - 1
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]

    def scaled(part: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        return np.minimum((part.astype(np.uint32) * 255 + most // 2) // most, 255).astype(np.uint8)

    return _in_strips(pixels, scaled, channels=channels)


def _from_array(array: npt.NDArray[Any], name: str) -> RgbImage:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4) or array.size == 0 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise ImageError(
            f"Expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float in [0, 1]. "
            f"Received: {name} of {array.dtype} {array.shape}."
        )
    _check_size(array.shape[1], array.shape[0], name)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        # What resizing left a hair outside still rounds to 0..255. False for NaN.
        if not (low * 255 > -0.49 and high * 255 < 255.49):
            more = " Divide them by 255." if low >= 0 and high <= 255 else ""
            raise ImageError(f"Expected float pixels in [0, 1]. Received: {name} with {low:g} to {high:g}.{more}")
    elif channels == 3:
        return np.ascontiguousarray(array)
    return _in_strips(array.reshape(*array.shape[:2], channels), _rgb, channels=3)


def _in_strips(array: npt.NDArray[Any], convert: Callable[[Any], Any], channels: int) -> npt.NDArray[np.uint8]:
    """Convert pixels (H, W, C) to uint8 (H, W, channels) a few at a time: what is needed in between stays small."""
    height, width = array.shape[:2]
    pixels = array.reshape(height * width, -1)
    converted = np.empty((len(pixels), channels), np.uint8)
    for start in range(0, len(pixels), _STRIP):
        converted[start : start + _STRIP] = convert(pixels[start : start + _STRIP])
    return converted.reshape(height, width, channels)


def _rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels (N, 1), (N, 3) or (N, 4), uint8 or float, as (N, 3) on white."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
    if pixels.shape[1] == 1:
        return np.asarray(cv2.cvtColor(pixels.reshape(1, -1), cv2.COLOR_GRAY2RGB)[0], np.uint8)
    if pixels.shape[1] == 3:
        return pixels
    color, alpha = pixels[:, :3], pixels[:, 3:].astype(np.uint16)
    if alpha.min() == 255:
        return color
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


# When it was taken.

_EXIF, _TAKEN = 0x8769, 0x9003  # the block of the camera's own facts, and DateTimeOriginal in it
# In a JPEG the block stands in front of the pixels, after another of 64 KB at most.
_HEAD = 1 << 17
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # older programs keep the block in one of these, by this name:
_IN_TEXT = b"Raw profile type exif\0"


def taken_at(source: str | io.BytesIO) -> datetime | None:
    """When a picture was taken, by its EXIF DateTimeOriginal.

    Args:
        source: A path, or a file in memory, which is back at its start afterwards.

    Returns:
        The local time of the camera; None where there is none or it is no date.
    """
    with suppress(Exception):  # a damaged EXIF block is no reason to refuse the picture
        if isinstance(source, io.BytesIO):
            try:
                return _date(source)
            finally:
                source.seek(0)
        with open(source, "rb") as file:  # noqa: PTH123 - what is no path raises here, and read_image says why
            return _date(file)
    return None


def _date(file: IO[bytes]) -> datetime | None:
    head = file.read(_HEAD)
    # Most pictures of the web have no such block, and to look is faster than to ask Pillow.
    if head.startswith(b"\xff\xd8") and b"Exif\0\0" not in head:
        return None
    if head.startswith(_PNG) and not _may_have_exif(file):
        return None
    check_cost(file, "the picture")
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
