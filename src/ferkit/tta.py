"""Test-time augmentation: look at a face in several ways and take the mean of the answers.

Apart from `evaluation`, so that the command line can list the choices without loading numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ferkit.registry import Registry

if TYPE_CHECKING:
    from ferkit.datasets.records import Faces

# uint8 (N, height, width, channels) -> views of the same shape, in the same order of faces.
TTA: Registry[Callable[[Faces], Sequence[Faces]]] = Registry("test-time augmentation")


@TTA.register("flip")
def flip(faces: Faces) -> Sequence[Faces]:
    """Mean of each face and its mirror image; takes twice the time."""
    return faces, faces[:, :, ::-1]
