"""Single pictures as faces of one size: decoded and resized as they will be in use.

`ferkit.sources.images` and `ferkit.detection.crops` bring OpenCV and Pillow, so they are imported where a picture is
worked on: a CSV needs neither.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ferkit.data.records import Batch, Broken, Faces
from ferkit.errors import ImageError, count

if TYPE_CHECKING:
    from ferkit.detection import FaceDetector
    from ferkit.sources import FaceInput

DEFAULT_SIZE = 48
# A size that all pictures share is kept up to here; beyond, they are photographs rather than faces cut for training.
LARGEST_OWN_SIZE = 224
BATCH_FACES = 512


@dataclass
class Shaper:
    """Turns encoded pictures into uint8 (height, width, channels), and remembers what it changed for the notes.

    height, width: None until `settle`.
    cut: whether a picture shows more than a face, which is found and cut out as it will be in use.
    """

    height: int | None = None
    width: int | None = None
    channels: int = 1
    resized: int = 0
    coloured: int = 0
    cut: bool = False
    faceless: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, size: tuple[int, int] | None, channels: int | None) -> "Shaper":
        height, width = size or (None, None)
        return cls(height, width, channels or 1)

    def settle(self, samples: Iterable[bytes | str]) -> None:
        """Without a size asked for: the one that all samples share if it is no larger than 224, else 48x48."""
        if self.height is None and self.cut:
            self.height = self.width = DEFAULT_SIZE
        if self.height is not None:
            return
        from ferkit.sources import read_image

        sizes = set()
        for data in samples:
            try:
                if not isinstance(data, str):
                    sizes.add(read_image(data).shape[:2])
            except ImageError:
                continue  # reported when its turn comes
        shared = sizes.pop() if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE)
        self.height, self.width = shared if max(shared) <= LARGEST_OWN_SIZE else (DEFAULT_SIZE, DEFAULT_SIZE)

    @property
    def face_input(self) -> "FaceInput":
        from ferkit.sources import FaceInput

        return FaceInput(self.height or DEFAULT_SIZE, self.width or DEFAULT_SIZE, self.channels)

    def decode(self, data: bytes) -> Faces | None:
        """One picture, None where it is to be cut and shows no face; raises `ImageError`."""
        from ferkit.detection import cut_face, resize_face
        from ferkit.sources import read_image

        pixels = read_image(data)
        target = self.face_input
        self.resized += not self.cut and pixels.shape[:2] != (target.height, target.width)
        if target.channels == 1 and not self.coloured:
            gray = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2])
            self.coloured += not gray
        if self.cut:
            faces = self._detect(pixels)
            largest = max(faces, key=lambda face: face.box.width * face.box.height, default=None)
            return None if largest is None else cut_face(pixels, largest, target)
        return resize_face(pixels, target)

    @cached_property
    def _detect(self) -> "FaceDetector":
        from ferkit.detection import load_detector

        return load_detector("auto")

    def notes(self) -> Iterator[str]:
        target = self.face_input
        if self.resized:
            yield (
                f"{self.resized:,} pictures were resized to {target.width}x{target.height}; aspect is not kept "
                "(size= chooses another size)."
            )
        if self.cut:
            yield (
                f"Faces were found and cut out as in use, to {target.width}x{target.height} (size= chooses another size)."
            )
        if self.faceless:
            yield f"{count(len(self.faceless), 'picture')} without a face that is found left out, {self.faceless[0]} first."
        if self.coloured:
            yield "Colour pictures were turned gray (channels=3 keeps colours)."


@dataclass(frozen=True)
class Picture:
    """One encoded picture with what is known about it; `data` is the reason as `str` if it cannot be read."""

    where: str
    data: bytes | str
    label: int
    split: str
    row: int
    person: str = ""


def shaped(pictures: Iterable[Picture], shaper: Shaper, notes: list[str]) -> Iterator[Batch]:
    """Decode pictures in batches; those that are broken are reported. Adds the shaper's notes at the end."""
    target = shaper.face_input
    faces: list[Faces] = []
    kept: list[Picture] = []
    broken: list[Broken] = []
    done = 0

    def batch(done: int) -> Batch:
        images = np.array(faces, np.uint8).reshape(-1, target.height, target.width, target.channels)
        return Batch(
            images=images,
            labels=np.array([one.label for one in kept], np.int64),
            splits=[one.split for one in kept],
            rows=np.array([one.row for one in kept], np.int64),
            broken=list(broken),
            done=done,
            people=[one.person for one in kept],
        )

    for done, one in enumerate(pictures, 1):
        if isinstance(one.data, str):
            broken.append(Broken(one.where, one.data))
        else:
            try:
                if (face := shaper.decode(one.data)) is None:
                    shaper.faceless.append(one.where)
                    continue
                faces.append(face)
                kept.append(one)
            except ImageError as problem:
                broken.append(Broken(one.where, _reason(problem)))
        if len(faces) + len(broken) >= BATCH_FACES:
            yield batch(done)
            faces.clear()
            kept.clear()
            broken.clear()
    yield batch(done)
    notes.extend(shaper.notes())


def _reason(problem: ImageError) -> str:
    """What is wrong, without "Cannot read the bytes:" in front: the report names the picture itself."""
    text = str(problem)
    return text.partition(": ")[2].rstrip(".") if text.startswith("Cannot read") else text.rstrip(".")
