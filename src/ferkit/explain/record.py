"""What explaining gives: a map of a face, and where it lies in the picture."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.images import RgbImage
from ferkit.results import Box, FaceEmotion

# Coverings that change the probability less than this are drawn fainter: what little there is, is noise.
_NOTABLE = 0.05


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which places of a face speak for a class, as one method sees it.

    face: the face and its emotion. label: the class that is explained, confidence: its probability.
    method: name of the method.
    heatmap: float32 (height, width) of the network's face, 0 to 1: the places that count most have 1, those that count
        nothing or speak against the class have 0. All 0 where nothing speaks for it.
    peak: how far covering the place with 1 lowers the probability, in probability; None for methods that cannot say.
    to_picture: float64 (2, 3), takes a point (x, y, 1) of the heatmap to the picture, both in pixels from the upper left
        corner.
    picture: RGB uint8 (H, W, 3).
    """

    face: FaceEmotion
    label: str
    confidence: float
    method: str
    heatmap: npt.NDArray[np.float32] = field(repr=False)
    peak: float | None
    to_picture: npt.NDArray[np.float64] = field(repr=False)
    picture: RgbImage = field(repr=False)

    @property
    def strength(self) -> float:
        """How strongly the heatmap is to be drawn, 0 to 1: less where covering hardly changes anything."""
        return 1.0 if self.peak is None else min(self.peak / _NOTABLE, 1.0)

    def on_picture(self) -> npt.NDArray[np.float32]:
        """The heatmap where the face is in the picture, float32 (H, W); 0 around it."""
        height, width = self.picture.shape[:2]
        return self.on_part(Box(0, 0, width, height))

    def on_part(self, part: Box) -> npt.NDArray[np.float32]:
        """The same on a part of the picture, float32 (part.height, part.width)."""
        matrix = self.to_picture.copy()
        # OpenCV counts from the middle of the first pixel, we from its corner.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5 - np.array([part.x1, part.y1])
        warped = cv2.warpAffine(self.heatmap, matrix, (part.width, part.height), flags=cv2.INTER_LINEAR)
        return np.asarray(warped, np.float32)

    def part(self) -> Box | None:
        """The smallest part of the picture that holds all of the heatmap; None where it lies outside."""
        high, wide = self.heatmap.shape
        corners = np.array([[0, 0, 1], [wide, 0, 1], [0, high, 1], [wide, high, 1]]) @ self.to_picture.T
        first, last = np.floor(corners.min(axis=0)) - 1, np.ceil(corners.max(axis=0)) + 1
        return Box.inside((*first, *last), width=self.picture.shape[1], height=self.picture.shape[0])

    def overlay(self) -> RgbImage:
        """The picture with the heatmap on it, the label, and a bar that says what its colours mean."""
        from ferkit.explain.overlay import overlay

        return overlay([self])

    def to_dict(self) -> dict[str, Any]:
        """The explanation as the JSON of `ferkit explain` has it: the face as `ferkit predict` has it, and what explains it."""
        return {
            **self.face.to_dict(),
            "explained": self.label,
            "explained_probability": round(self.confidence, 6),
            "method": self.method,
            "peak": None if self.peak is None else round(self.peak, 6),
            "strength": round(self.strength, 6),
            "to_picture": [[round(number, 6) for number in row] for row in self.to_picture.tolist()],
            "heatmap": [[round(value, 4) for value in row] for row in self.heatmap.tolist()],
        }
