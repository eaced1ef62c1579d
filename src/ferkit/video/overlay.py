"""Frames with boxes, labels and bars drawn onto them such that nothing trembles or jumps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ferkit.render import Layout, annotate, blurred
from ferkit.results import Box, FaceEmotion
from ferkit.sources import RgbImage
from ferkit.video.follower import TrackedFace
from ferkit.video.timeline import FrameFaces

# Drawn boxes follow the found ones with this time constant, in seconds: just enough to take the trembling out.
_BOX_S = 0.06
# Who comes back after that long is drawn anew, and not from where they went.
_FORGET_S = 0.5


@dataclass
class _Drawn:
    """How a person was drawn last."""

    corners: npt.NDArray[np.float64]
    time_s: float
    layout: Layout = field(default_factory=Layout)


class Overlay:
    """Draws the faces of one video, frame after frame.

    classes: of the model, in the order of the bars. blur_faces: whether faces are made unrecognisable.
    """

    def __init__(self, classes: Sequence[str], *, blur_faces: bool = False) -> None:
        self.classes = tuple(classes)
        self.blur_faces = blur_faces
        self._drawn: dict[int, _Drawn] = {}

    def __call__(self, found: FrameFaces) -> RgbImage:
        """The annotated frame, RGB uint8; enlarged by a whole number where it is too small for letters."""
        pixels = found.frame.pixels
        if self.blur_faces:
            pixels = blurred(pixels, [*(face.face.box for face in found.faces), *found.hidden])
        self._drawn = {
            track: drawn for track, drawn in self._drawn.items() if abs(found.time_s - drawn.time_s) < _FORGET_S
        }
        height, width = pixels.shape[:2]
        shown = [self._steadied(face, found.time_s, width, height) for face in found.faces]
        return annotate(pixels, shown, layouts=[self._drawn[face.track].layout for face in found.faces])

    def _steadied(self, face: TrackedFace, time_s: float, width: int, height: int) -> FaceEmotion:
        corners = np.array(face.face.box.to_list(), np.float64)
        drawn = self._drawn.get(face.track)
        if drawn is None:
            drawn = _Drawn(corners, time_s, Layout(name=str(face.track), order=self.classes))
            self._drawn[face.track] = drawn
        weight = -math.expm1(-max(time_s - drawn.time_s, 0.0) / _BOX_S)
        # A box that lags behind a person who walks off would be worse than one that trembles.
        if weight > 0 and _far(corners, drawn.corners):
            weight = 1.0
        drawn.corners = drawn.corners + weight * (corners - drawn.corners)
        drawn.time_s = time_s
        box = Box.inside(drawn.corners.tolist(), width, height)
        return replace(face.face, face=replace(face.face.face, box=box or face.face.box, landmarks=None))


def _far(corners: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    side = float(corners[2:].sum() - corners[:2].sum()) / 2
    return bool(np.abs(corners - others).max() > 0.25 * side)
