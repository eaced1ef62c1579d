"""Faces that do not stand upright: found in the picture turned by quarters, and told in the picture's own pixels."""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.results import Box, Face, shared_areas
from ferkit.sources import RgbImage

# upright: faces are searched in the picture as it is. any: also in the picture turned by 90, 180 and 270 degrees.
Orientation = Literal["upright", "any"]

# What turns a picture so that a face is upright that leans by so many quarters clockwise.
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
# Faces of two searches that share so much of the smaller box are one face.
_SAME = 0.5


def turned(image: RgbImage, quarters: int) -> RgbImage:
    """The picture in which a face is upright that leans by so many quarters clockwise."""
    return np.asarray(cv2.rotate(image, _TURNS[quarters]), np.uint8) if quarters else image


def turned_back(points: npt.NDArray[np.floating], quarters: int, width: int, height: int) -> npt.NDArray[np.floating]:
    """Points (..., x y) of the turned picture as points of the picture, of width x height pixels."""
    x, y = points[..., 0], points[..., 1]
    places = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
    return np.stack(places[quarters], axis=-1)


def find_in_any_orientation(detect: Callable[[RgbImage], list[Face]], image: RgbImage) -> list[Face]:
    """Faces that stand upright, on their head or on a side, each once, by what its best scored search says of it; best first.

    It takes four searches. A picture that is one face, cut before, is taken as it is.
    """
    height, width = image.shape[:2]
    upright = detect(image)
    if [face.box for face in upright] == [Box(0, 0, width, height)]:
        return upright
    found = [(face, 0) for face in upright]
    for quarters in _TURNS:
        found += [
            (face_turned_back(face, quarters, width, height), quarters) for face in detect(turned(image, quarters))
        ]
    found.sort(key=lambda one: -one[0].detection_score)
    boxes = np.array([face.box.to_list() for face, _ in found]).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    searches = np.array([quarters for _, quarters in found])
    free = np.ones(len(found), bool)
    for place in range(len(found)):
        if free[place]:
            shared = shared_areas(boxes[place : place + 1], boxes)[0] / np.minimum(areas[place], areas)
            free &= (shared <= _SAME) | (searches == searches[place])
    return [face for (face, _), kept in zip(found, free, strict=True) if kept]


def face_turned_back(face: Face, quarters: int, width: int, height: int) -> Face:
    """A face of the turned picture as one of the picture."""
    corners = turned_back(np.array(face.box.to_list(), np.float64).reshape(2, 2), quarters, width, height)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    landmarks = None
    if face.landmarks is not None:
        points = turned_back(np.array(face.landmarks, np.float64), quarters, width, height)
        landmarks = tuple((float(x), float(y)) for x, y in points)
    return Face(
        Box(int(x1), int(y1), int(x2), int(y2)), face.detection_score, landmarks, (face.roll or 0.0) + 90 * quarters
    )
