"""Pixels of any depth and number of channels, in arrays and in files, as RGB uint8."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import ImageError

RgbImage = npt.NDArray[np.uint8]

# Above this, Pillow itself refuses a picture. 108-megapixel photos pass; half a gigabyte of pixels is the most we hold.
MAX_PIXELS = 2 * 89_478_485
# Pixels that are converted at a time: what a conversion needs in between stays small, and in the processor's cache.
STRIP = 1 << 18

# What cameras and scanners store in 16 bits, and programs in floats, without using them all.
_SENSOR_BITS = (8, 10, 12, 14)
# Floats up to here may be light beyond white, as HDR has it; above it they are pixels that were never divided.
_LIGHT = 16.0
# What resizing leaves outside of 0..1 still rounds to 0..255.
_HAIR = 0.49 / 255


def check_size(width: int, height: int, name: str) -> None:
    """Raise `ImageError` where a picture has no pixels, or too many."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width}x{height} pixels. Expected at most {MAX_PIXELS:,} in all. Shrink it first."
        )
    if width * height == 0:
        raise ImageError(f"{name} has {width}x{height} pixels. Expected at least one.")


def from_array(array: npt.NDArray[Any], name: str, notes: list[str]) -> RgbImage:
    """An array of a caller: uint8, uint16 or float in [0, 1], with 1, 3 or 4 channels, or none."""
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    known = array.dtype in (np.uint8, np.uint16) or array.dtype.kind == "f"
    if channels not in (1, 3, 4) or array.size == 0 or not known:
        raise ImageError(
            f"Expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or float in [0, 1]. "
            f"Received: {name} of {array.dtype} {array.shape}.{_advice(array)}"
        )
    check_size(array.shape[1], array.shape[0], name)
    pixels = array.reshape(*array.shape[:2], channels)
    if array.dtype == np.uint16:
        pixels = eight_bits(pixels, notes)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low > -_HAIR and high < 1 + _HAIR):  # True for NaN
            raise ImageError(
                f"Expected float pixels in [0, 1]. Received: {name} with {low:g} to {high:g}. {_scaling(low, high)}"
            )
    return np.ascontiguousarray(pixels) if pixels.dtype == np.uint8 and channels == 3 else to_rgb(pixels)


def _advice(array: npt.NDArray[Any]) -> str:
    """What to do with an array of another shape or type."""
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return " Its channels come first: array.transpose(1, 2, 0)."
    if array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4):
        return " Many gray pictures (N, H, W): array[..., None]."
    if array.ndim in (2, 3) and array.size and array.dtype.kind in "iu" and 0 <= array.min() <= array.max() <= 255:
        return ' Its values fit: array.astype("uint8").'
    return ""


def _scaling(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "Replace NaN and infinity."
    if low >= 0 and high <= 65535:
        return f"Divide them by {255 if high <= 255 else 65535}."
    return "Add 1 and divide them by 2." if low >= -1 - _HAIR and high <= 1 + _HAIR else "Scale them to 0 to 1."


def from_file(pixels: npt.NDArray[Any], name: str, notes: list[str]) -> RgbImage:
    """What a file holds, (H, W) or (H, W, channels): integers of up to 16 bits, or floats in [0, 1] or in such integers'."""
    if pixels.dtype.kind == "f":
        high = float(pixels.max())
        if pixels.min() >= 0 and _LIGHT < high <= 65535:
            most = (1 << _bits(int(high))) - 1
            notes.append(f"its float pixels reach {high:,g}, so they were taken for 0 to {most:,}")
            pixels = np.minimum(pixels.astype(np.float32) / np.float32(most), 1)
        return from_array(pixels, name, notes)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"Expected pixels of at most 16 bits, 0 to 65535. Received: {name} with {low} to {high}. "
            "Save it with 8 or 16 bits."
        )
    return to_rgb(eight_bits(pixels.reshape(*pixels.shape[:2], -1), notes))


def _bits(high: int) -> int:
    return next(bits for bits in (*_SENSOR_BITS, 16) if high < 1 << bits)


def eight_bits(pixels: npt.NDArray[Any], notes: list[str]) -> npt.NDArray[np.uint8]:
    """Integers (H, W, channels) of up to 16 bits as uint8; a fourth channel is opacity, of as many bits or of all."""
    high = int(pixels[..., :3].max())
    bits = _bits(high)
    if bits < 16 and high > 0:
        notes.append(f"its 16 bits hold {bits} (at most {high:,}), so it was brightened to the range of {bits} bits")
    most = (1 << bits) - 1

    def scaled(part: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        return np.minimum((part.astype(np.uint32) * 255 + most // 2) // most, 255).astype(np.uint8)

    return _in_strips(pixels, scaled, channels=pixels.shape[2])


def to_rgb(pixels: npt.NDArray[Any]) -> RgbImage:
    """Pixels (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float in [0, 1], as RGB on white."""
    return _in_strips(pixels, rgb_of, channels=3)


def _in_strips(array: npt.NDArray[Any], convert: Callable[[Any], Any], channels: int) -> npt.NDArray[np.uint8]:
    """Convert pixels (H, W, C) to uint8 (H, W, channels) a few at a time: what is needed in between stays small."""
    height, width = array.shape[:2]
    pixels = array.reshape(height * width, -1)
    converted = np.empty((len(pixels), channels), np.uint8)
    for start in range(0, len(pixels), STRIP):
        converted[start : start + STRIP] = convert(pixels[start : start + STRIP])
    return converted.reshape(height, width, channels)


def rgb_of(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
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
