"""All faces of a source as one table, before they are split: what readers produce and the cache keeps."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import Broken, Faces, Labels

# What is being done, how much of it is done, and how much there is in all (bytes or pictures).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Batch:
    """Some faces in source order.

    images: uint8 (N, height, width, channels); the same height, width and channels in all batches of a reading.
    labels: int64 (N,), index into the reading's classes.
    splits: N names of splits as published; "" where the source has none.
    rows: int64 (N,), position in the source counting broken ones too, from 0: what votes are joined by.
    done: how far the source is read, in the unit of `Reading.total`.
    """

    images: Faces
    labels: Labels
    splits: Sequence[str]
    rows: npt.NDArray[np.int64]
    broken: Sequence[Broken] = ()
    done: int = 0


@dataclass(frozen=True)
class Reading:
    """A source being read: its form (a name of `READERS`), its classes, and its faces as they come.

    `notes` may grow while the batches are drawn.
    """

    form: str
    classes: tuple[str, ...]
    batches: Iterable[Batch]
    total: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FaceTable:
    """Every usable face of a source.

    images: uint8 (N, height, width, channels), perhaps memory-mapped.
    labels: int64 (N,), index into `classes`.
    splits: int64 (N,), index into `split_names` ("" is a source without splits).
    rows: int64 (N,), position in the source, broken ones counted.
    prints: uint64 (N,), `pixel_prints` of the images.
    form: name of the reader, e.g. "csv".
    """

    images: Faces
    labels: Labels
    splits: npt.NDArray[np.int64]
    split_names: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    prints: npt.NDArray[np.uint64]
    classes: tuple[str, ...]
    form: str
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()


def pixel_prints(images: Faces) -> npt.NDArray[np.uint64]:
    """The first 64 bits of SHA-256 of each image's pixels, uint64 (N,): equal prints, equal pixels.

    Among ten million different faces the chance of one false match is 3 in a million.
    """
    # Processors have instructions for SHA-256, which makes it several times as fast here as BLAKE2.
    joined = b"".join(_sha256(memoryview(image).cast("B")) for image in np.ascontiguousarray(images))
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def _sha256(pixels: memoryview) -> bytes:
    # Of up to 2,047 bytes hashlib keeps the interpreter's lock; to hand it over for each face, and wait to have it
    # back, takes far longer than to hash a face.
    digest = hashlib.sha256(pixels[:2047])
    digest.update(pixels[2047:])
    return digest.digest()[:8]
