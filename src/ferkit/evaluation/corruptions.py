"""Image corruptions: blur, noise, compression, low resolution, lighting, rotation, occlusion.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations":
each in a few fixed strengths. A corruption is one decorated function; the report, the docs and the tests find it in
`CORRUPTIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ferkit._support.registry import Registry, describe
from ferkit.data import Faces

Face = npt.NDArray[np.uint8]

# Lengths are in pixels of a face of 48x48, FER-2013's, and scaled to other sizes.
_OF = 48
# Where eyes and mouth are in faces cut as FER-2013's, as a share of the height from the top.
_EYES, _MOUTH = 0.375, 0.77


class Corrupt(Protocol):
    def __call__(self, faces: Faces, strength: float, rng: np.random.Generator, /) -> Faces: ...


@dataclass(frozen=True)
class Corruption:
    """One way in which images get worse.

    apply: uint8 (N, height, width, channels), one of `strengths`, and a generator for what is random -> new faces of
        the same shape and type. unit: what strengths are. strengths: mildest first, but of those that go both ways.
    clean: the strength that leaves a face as it is.
    """

    apply: Corrupt
    unit: str
    strengths: tuple[float, ...]
    clean: float

    @property
    def text(self) -> str:
        """What it does, in a line."""
        return describe(self.apply)


CORRUPTIONS: Registry[Corruption] = Registry("corruption")


def corruption(
    name: str, *, unit: str, strengths: tuple[float, ...], clean: float = 0.0
) -> Callable[[Corrupt], Corrupt]:
    """Register a function as a `Corruption`."""

    def keep(apply: Corrupt) -> Corrupt:
        CORRUPTIONS.register(name)(Corruption(apply, unit, strengths, clean))
        return apply

    return keep


@corruption("blur", unit="sigma in pixels of 48", strengths=(0.5, 1, 1.5, 2, 3))
def blur(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Gaussian blur, as of a face out of focus"""
    sigma = strength * faces.shape[1] / _OF
    return _each(faces, lambda face: cv2.GaussianBlur(face, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


@corruption("noise", unit="standard deviation of 255", strengths=(5, 10, 20, 30, 40))
def noise(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """Gaussian noise on every pixel and channel, as of a dim room"""
    drawn = rng.standard_normal(faces.shape, np.float32)
    return _clipped(faces + strength * drawn)


@corruption("jpeg", unit="quality", strengths=(60, 40, 20, 10, 5), clean=100)
def jpeg(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """JPEG, of the face as it is cut out"""

    def packed(face: Face) -> Face:
        # OpenCV takes and gives BGR, and to swap twice changes nothing but which colour is packed worse.
        colour = face if face.shape[2] == 1 else face[:, :, ::-1]
        _, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
        unpacked = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8).reshape(face.shape)
        return unpacked if face.shape[2] == 1 else unpacked[:, :, ::-1]

    return _each(faces, packed)


@corruption("resolution", unit="pixels along each side", strengths=(36, 24, 18, 15, 12), clean=_OF)
def resolution(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Faces of so few pixels, enlarged again, as of people far away"""
    height, width = faces.shape[1:3]
    small = (min(width, round(strength)), min(height, round(strength)))

    def enlarged(face: Face) -> Face:
        few = cv2.resize(face, small, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    return _each(faces, enlarged)


@corruption("brightness", unit="added, of 255", strengths=(-120, -60, 60, 120))
def brightness(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """The same added to every pixel, cut off at black and white"""
    return _clipped(faces + np.float32(strength))


@corruption("contrast", unit="share that is left", strengths=(0.7, 0.5, 0.3, 0.2, 0.1), clean=1)
def contrast(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Less contrast about the face's mean, as in fog"""
    mean = faces.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return _clipped(mean + strength * (faces - mean))


@corruption("rotation", unit="degrees", strengths=(10, 20, 30, 45, 60))
def rotation(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """Tilted heads, half of them to either side"""
    height, width = faces.shape[1:3]
    middle = ((width - 1) / 2, (height - 1) / 2)
    signs = iter(rng.choice((-1, 1), len(faces)))

    def tilted(face: Face) -> Face:
        matrix = cv2.getRotationMatrix2D(middle, strength * int(next(signs)), 1.0)
        return np.asarray(cv2.warpAffine(face, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return _each(faces, tilted)


@corruption("eyes", unit="height of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def eyes(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """A black bar over the eyes, as of dark glasses"""
    return _barred(faces, _EYES, strength)


@corruption("mouth", unit="height of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def mouth(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """A black bar over the mouth, as of a mask or a hand"""
    return _barred(faces, _MOUTH, strength)


@corruption("bar", unit="width of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def bar(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """A black bar anywhere, half of them lying, half standing"""
    lying, places = rng.random(len(faces)) < 0.5, rng.random(len(faces))
    barred = faces.copy()
    for face, lies, place in zip(barred, lying, places, strict=True):
        side = face.shape[0 if lies else 1]
        thick = max(1, round(strength * side / _OF))
        start = round(place * (side - thick))
        face[(slice(start, start + thick), slice(None))[:: 1 if lies else -1]] = 0
    return barred


def _barred(faces: Faces, centre: float, strength: float) -> Faces:
    height = faces.shape[1]
    start = round(height * (centre - strength / (2 * _OF)))
    barred = faces.copy()
    barred[:, max(0, start) : start + max(1, round(strength * height / _OF))] = 0
    return barred


def _each(faces: Faces, change: Callable[[Face], npt.NDArray[np.generic]]) -> Faces:
    changed = np.empty_like(faces)
    for face, target in zip(faces, changed, strict=True):
        target[:] = change(face).reshape(target.shape)
    return changed


def _clipped(values: npt.NDArray[np.float32]) -> Faces:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
