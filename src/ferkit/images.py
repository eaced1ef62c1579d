"""Any picture decoded to RGB uint8, and what a network expects of a face."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from ferkit.errors import ImageError
from ferkit.sources import Source, name_of, open_source

RgbImage = npt.NDArray[np.uint8]

# Above this, Pillow itself refuses a picture. 108-megapixel photos pass; half a gigabyte of pixels is the most we hold.
MAX_PIXELS = 2 * 89_478_485

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", "PPM")
_EXPECTED = "a picture (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF)"


@dataclass(frozen=True)
class FaceInput:
    """What a network expects of a face; stored in `card.json`, so training and serving cannot disagree.

    height, width: pixels.
    channels: 1 gray, 3 RGB.
    margin: how much of the detected box's size is added around it, as a fraction (0.1 adds 10 % in all).
    align: whether the eyes are levelled by landmarks before cutting.
    """

    height: int = 48
    width: int = 48
    channels: int = 1
    margin: float = 0.0
    align: bool = False


def read_image(source: Source) -> RgbImage:
    """Decode any picture to RGB uint8 (height, width, 3), upright.

    source: path, `-` (standard input), bytes, binary file, PIL image, or array: uint8, or float in [0, 1], of shape
        (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.

    The first frame of an animation is taken, EXIF orientation applied, 16 bits scaled to 8, and what is transparent is
    white, as viewers show it. Raises `ImageError` for anything else, before its pixels take memory.
    """
    name = name_of(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    try:
        if isinstance(source, PIL.Image.Image):
            return _to_rgb(source, name)
        with open_source(source) as file, PIL.Image.open(file, formats=FORMATS) as image:
            return _to_rgb(image, name)
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError as problem:
        raise ImageError(
            f"Cannot read {name}: it claims more than {MAX_PIXELS:,} pixels. Shrink it first."
        ) from problem
    except PIL.UnidentifiedImageError as problem:
        raise ImageError(f"Cannot read {name}: not a picture that can be decoded. Expected {_EXPECTED}.") from problem
    except Exception as problem:  # decoders meet damaged data with nearly any exception
        raise ImageError(f"Cannot read {name}: cut off or damaged ({problem}). Expected {_EXPECTED}.") from problem


def _to_rgb(image: PIL.Image.Image, name: str) -> RgbImage:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name} has {image.width}x{image.height} pixels. Expected at most {MAX_PIXELS:,} in all.")
    if image.width * image.height == 0:
        raise ImageError(f"{name} has {image.width}x{image.height} pixels. Expected at least one.")
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(_deep_gray(np.asarray(image)), name)
    if image.has_transparency_data:
        return _from_array(np.asarray(image.convert("RGBA")), name)
    # asarray of a PIL image is read-only, and what is decoded may be written to by those who draw on it.
    return np.array(image.convert("RGB"))


def _deep_gray(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers of 16 bits as uint8; floats unchanged. Values beyond 16 bits are refused with the float check."""
    if pixels.dtype.kind == "f":
        return pixels
    if pixels.min() >= 0 and pixels.max() <= 65535:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def _from_array(array: npt.NDArray[Any], name: str) -> RgbImage:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4) or array.size == 0 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise ImageError(
            f"Expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float in [0, 1]. "
            f"Received: {name} of {array.dtype} {array.shape}."
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(
            f"{name} has {array.shape[1]}x{array.shape[0]} pixels. Expected at most {MAX_PIXELS:,} in all."
        )
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # false for NaN
            raise ImageError(f"Expected float pixels in [0, 1]. Received: {name} with {low:g} to {high:g}.")
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    if channels == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    elif channels == 4:
        array = _on_white(array)
    return np.ascontiguousarray(array)


def _on_white(rgba: npt.NDArray[np.uint8]) -> RgbImage:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    mixed = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((mixed + 127) // 255).astype(np.uint8)
