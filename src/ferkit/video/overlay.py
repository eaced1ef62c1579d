"""Draw boxes, labels and bars onto frames, without flicker."""

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

# Time constant of the smoothing of drawn boxes, in seconds: just enough to remove jitter.
_BOX_S = 0.06
# A person who returns after this time is drawn at the new position at once.
_MAX_GAP_S = 0.5


@dataclass
class _Drawn:
    """How a person was last drawn."""

    corners: npt.NDArray[np.float64]
    time_s: float
    layout: Layout = field(default_factory=Layout)


class Overlay:
    """Draws the faces of one video, frame after frame.

    Args:
        classes: Classes of the model, in the order of the bars.
        blur_faces: Blur faces.

    """

    def __init__(self, classes: Sequence[str], *, blur_faces: bool = False) -> None:
        self.classes = tuple(classes)
        self.blur_faces = blur_faces
        self._drawn: dict[int, _Drawn] = {}

    def __call__(self, found: FrameFaces) -> RgbImage:
        """The annotated frame, RGB uint8; enlarged by an integer factor if it is too small for text."""
        pixels = found.frame.pixels
        if self.blur_faces:
            pixels = blurred(pixels, [*(face.face.box for face in found.faces), *found.hidden])
        self._drawn = {
            track: drawn for track, drawn in self._drawn.items() if abs(found.time_s - drawn.time_s) < _MAX_GAP_S
        }
        height, width = pixels.shape[:2]
        shown = [self._smoothed(face, found.time_s, width, height) for face in found.faces]
        return annotate(pixels, shown, layouts=[self._drawn[face.track].layout for face in found.faces])

    def _smoothed(self, face: TrackedFace, time_s: float, width: int, height: int) -> FaceEmotion:
        corners = np.array(face.face.box.to_list(), np.float64)
        drawn = self._drawn.get(face.track)
        if drawn is None:
            drawn = _Drawn(corners, time_s, Layout(name=str(face.track), order=self.classes))
            self._drawn[face.track] = drawn
        weight = -math.expm1(-max(time_s - drawn.time_s, 0.0) / _BOX_S)
        # A box that lags behind a fast person is worse than jitter.
        if weight > 0 and _far(corners, drawn.corners):
            weight = 1.0
        drawn.corners = drawn.corners + weight * (corners - drawn.corners)
        drawn.time_s = time_s
        box = Box.inside(drawn.corners.tolist(), width, height)
        return replace(face.face, face=replace(face.face.face, box=box or face.face.box, landmarks=None))


def _far(corners: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    side = float(corners[2:].sum() - corners[:2].sum()) / 2
    return bool(np.abs(corners - others).max() > 0.25 * side)
