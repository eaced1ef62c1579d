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
from ferkit.errors import ImageError, UsageError, lacks_memory
from ferkit.sources.cost import check_cost
from ferkit.sources.names import printable_name
from ferkit.sources.pictures import Source, as_array, open_source
from ferkit.sources.pixels import MAX_PIXELS, STRIP, RgbImage, check_size, from_array, from_file, rgb_of
from ferkit.sources.stores import refuse_pipe

# Of the channels of an array.
Order = Literal["rgb", "bgr"]

# In this order: Pillow knows the first five from the start, and looks for plug-ins (0.2 s) when it meets another.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
_EXPECTED = "a picture (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF)"
# What people take for such a picture, by the bytes at a place.
_HEIC = "a HEIC photo; install ferkit[heic], or convert it to JPEG"
_OTHERS = (
    *((4, b"ftyp" + brand, _HEIC) for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftypavi", "a damaged or too large AVIF picture"),
    (4, b"ftypcrx", "a raw photo; convert it to JPEG"),
    (4, b"ftypqt", "a video; use: ferkit video"),
    (4, b"ftypjxl", "a JPEG XL picture; convert it to PNG"),
    (4, b"ftyp", "a video; use: ferkit video"),
    (0, b"\x1aE\xdf\xa3", "a video; use: ferkit video"),
    (0, b"\xff\x0a", "a JPEG XL picture; convert it to PNG"),
    (4, b"JXL ", "a JPEG XL picture; convert it to PNG"),
    (4, b"jP  ", "a JPEG 2000 picture; convert it to PNG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture; convert it to PNG"),
    (0, b"II*\0", "a TIFF that is cut off, damaged or of a rare kind; save it again"),
    (0, b"MM\0*", "a TIFF that is cut off, damaged or of a rare kind; save it again"),
    (0, b"version https://git-lfs", "a pointer of Git LFS to the picture; fetch it with: git lfs pull"),
    (0, b"<", "a web page or a drawing in XML"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "an archive or a document; unpack it"),
    (0, b"\x1f\x8b", "a compressed file; unpack it"),
    (0, b"8BPS", "a Photoshop file; export it as PNG"),
    (0, b"\x93NUMPY", "an array of NumPy; give numpy.load(...) of it in Python, or save it as PNG"),
    (0, b"\0\0\1\0", "an icon; convert it to PNG"),
)
_TABLES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz")

# The marks at the end of a JPEG and before each of its scans.
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_ENOUGH_SCANS = {"RGB": 9, "L": 5}
# A picture that lacks more of its rows is refused.
_MOST_MISSING = 0.1
_LACKS_END = "the file lacks its end, so rows at its edge may be of one colour, or details missing"
_SEVERAL = "it has several pages or frames, of which the first was taken"

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
    14 bits in 16 by what they hold), transparent pixels become white, and a file that lacks its end is read, as viewers do.

    Args:
        source: A path, an address (https, http or an object store such as `s3://`), a data URI, `-` (standard input),
            bytes, a binary file, a `Picture`, a PIL image, or an array or tensor: uint8, uint16 or float in [0, 1], of
            shape (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.
        notes: Where what was assumed about the picture is added, in a line each.
        order: Channels of an array: "rgb", or "bgr" as OpenCV has them. All else knows its own.

    Returns:
        The pixels. An array that is RGB uint8 already is returned as it is, not as a copy.

    Raises:
        ImageError: It is not one picture, or it is too large; nothing is decoded then.
    """
    if order not in get_args(Order):
        raise UsageError(f"order must be one of {', '.join(get_args(Order))}. Received: {order}.")
    source = as_array(source)
    name, notes = printable_name(source), [] if notes is None else notes
    try:
        if isinstance(source, np.ndarray):
            pixels = from_array(np.asarray(source), name, notes)  # a matrix or a masked array would go its own ways
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
    except Exception as problem:  # decoders meet damaged data with nearly any exception
        if lacks_memory(problem):
            raise ImageError(f"Cannot read {name}: its pixels do not fit into memory. Shrink it first.") from problem
        why = " ".join(str(problem).split()) or type(problem).__name__
        raise ImageError(
            f"Cannot read {name}: cut off, damaged or of a rare kind ({why}). Expected {_EXPECTED}."
        ) from problem


def _decode(file: IO[bytes], name: str, notes: list[str]) -> RgbImage:
    check_cost(file, name)
    try:
        image = PIL.Image.open(file, formats=FORMATS)  # reads the header only
    except PIL.UnidentifiedImageError as problem:
        if (pixels := _of_rare_kind(file, name, notes)) is not None:
            return pixels
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
        check_size(image.width, image.height, name)
        pixels = _jpeg_pixels(image, file, notes)
        if pixels is None:
            pixels = _deep_color(image, file, name, notes)
        pixels = _from_pil(image, name, notes) if pixels is None else _upright(pixels, image)
        # Pillow would have to look for the second frame of a GIF; others know it from their header.
        moves = image.info.get("duration") or "loop" in image.info
        if moves if image.format == "GIF" else image.format != "MPO" and getattr(image, "is_animated", False):
            notes.append(_SEVERAL)
        return pixels


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
        if _lacks_much(pixels):
            return None
        notes.append(_LACKS_END)
    return pixels


def _lacks_much(pixels: RgbImage) -> bool:
    """Whether more than the last rows are missing, which are of one colour then."""
    known = np.flatnonzero((pixels != pixels[-1, -1]).any(axis=(1, 2)))
    return len(known) == 0 or bool(known[-1] + 1 < (1 - _MOST_MISSING) * len(pixels))


def _decoded_jpeg(data: bytes, width: int, height: int) -> RgbImage | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None or pixels.shape != (height, width, 3) else np.asarray(pixels, np.uint8)


def _from_pil(image: PIL.Image.Image, name: str, notes: list[str]) -> RgbImage:
    check_size(image.width, image.height, name)
    with alone_with(image):  # Pillow decodes when pixels are first needed, and not in two threads at once
        cut = _load(image)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = from_file(np.asarray(image), name, notes)
    else:
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(1, STRIP // image.width)
        for top in range(0, image.height, rows):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            mode = "RGBA" if part.has_transparency_data else "L" if part.mode == "L" else "RGB"
            part = part if part.mode == mode else part.convert(mode)
            strip = rgb_of(np.asarray(part).reshape(-1, len(mode)))
            pixels[top : top + rows] = strip.reshape(part.height, part.width, 3)
    if cut is not None:
        # A BMP begins with its lowest row.
        if _lacks_much(pixels[::-1] if image.format == "BMP" else pixels):
            raise cut
        notes.append(_LACKS_END)
    return _upright(pixels, image)


def _load(image: PIL.Image.Image) -> OSError | None:
    """Decode a picture; the problem of one that lacks its end, whose other pixels are there then."""
    try:
        image.load()
    except OSError as problem:
        tiles = getattr(image, "tile", ())
        # Interlaced, all of its rows lack something.
        interlaced = image.info.get("interlace") or any(tile[0] == "gif" and tile[3][1] for tile in tiles)
        if "truncated" not in str(problem) or interlaced or getattr(image, "_im", None) is None:
            raise
        image.tile = []  # type: ignore[attr-defined] # there is no more to come
        image.load()
        # Before room is made for all the pixels that a file of a few bytes may claim.
        _, first, _, end = image.getbbox(alpha_only=False) or (0, image.height, 0, 0)
        if (image.height - first if image.format == "BMP" else end) < (1 - _MOST_MISSING) * image.height:
            raise
        return problem
    return None


def _deep_color(image: PIL.Image.Image, file: IO[bytes], name: str, notes: list[str]) -> RgbImage | None:
    """Pixels of a colour PNG or TIFF of 16 bits a channel, of which Pillow keeps the upper eight; None for all else."""
    deep = image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    if not deep or image.mode not in ("RGB", "RGBA"):
        return None
    pixels = _opencvs(file)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != (image.height, image.width):
        return None
    return from_file(pixels, name, notes) if pixels.ndim == 3 else None


def _opencvs(file: IO[bytes]) -> npt.NDArray[Any] | None:
    """Pixels as OpenCV decodes them, (H, W) or (H, W, channels) RGB, unchanged; None for what it refuses."""
    file.seek(0)
    try:
        pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return pixels if pixels is None or pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _of_rare_kind(file: IO[bytes], name: str, notes: list[str]) -> RgbImage | None:
    """Pixels of what Pillow alone cannot read: HEIC with its plug-in, and TIFFs of floats in colour; None for all else."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:11] != b"avi":
        try:
            from pillow_heif import is_supported, open_heif
        except ImportError:
            return None
        file.seek(0)
        if not is_supported(file):
            return None
        photo = open_heif(file)  # reads the header only
        check_size(photo.size[0], photo.size[1], name)
        if len(photo) > 1:
            notes.append(_SEVERAL)
        return _from_pil(photo.to_pillow(), name, notes)
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return None
    tags = PIL.TiffImagePlugin.ImageFileDirectory_v2(head[:8])
    file.seek(tags.next)
    tags.load(file)
    if not (tags.get(256) and tags.get(257)):
        return None
    check_size(tags[256], tags[257], name)
    pixels = _opencvs(file)
    return None if pixels is None or pixels.dtype.kind != "f" else from_file(pixels, name, notes)


def _upright(pixels: RgbImage, image: PIL.Image.Image) -> RgbImage:
    """Turn what was stored as the camera was held."""
    orientation = None
    with suppress(Exception):  # a damaged EXIF block is no reason to refuse the picture
        if len(image.info.get("exif", b"")) <= _LARGEST_EXIF:
            orientation = image.getexif().get(_ORIENTATION)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else np.asarray(turn(pixels), np.uint8)


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
        refuse_pipe(source)
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
