"""What tests of video share: the sample portrait moved about in small frames, and a detector that finds it there."""

import cv2
import numpy as np

from ferkit.models import sample_picture
from ferkit.results import Box, Face
from ferkit.sources.images import read_image

SIDE = 72


def portrait() -> np.ndarray:
    """The face of the sample, RGB uint8 (72, 72, 3)."""
    return cv2.resize(read_image(sample_picture())[60:220, 150:310], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def scene(*places, width=320, height=180) -> np.ndarray:
    """A frame with the face at each place (x, y) of its first corner; what lies outside is cut off."""
    y, x = np.mgrid[:height, :width]
    ground = (60 + 30 * np.sin(x / 9) + 30 * np.cos(y / 7)).astype(np.uint8)
    frame = np.repeat(ground[..., None], 3, axis=2)
    for left, top in places:
        shift = np.array([[1, 0, left], [0, 1, top]], np.float32)
        cv2.warpAffine(portrait(), shift, (width, height), frame, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return frame


def box_at(left, top, width=320, height=180) -> Box:
    return Box.inside((left + 12, top + 4, left + SIDE - 12, top + SIDE - 2), width, height)


class Told:
    """Finds faces where the test says they are; counts how often it is asked."""

    def __init__(self, places=()) -> None:
        self.places, self.asked = list(places), 0

    def __call__(self, image):
        self.asked += 1
        height, width = image.shape[:2]
        return [Face(box_at(*place, width, height), 0.9) for place in self.places]
