"""Occlusion: what the model says when a part of the face is covered."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError
from ferkit.explain.methods import METHODS, Explains, Faces, Maps

# Of the shorter side of a face: 12 and 4 of 48 pixels. A patch as large as an eye or half a mouth; smaller ones point no
# better at what matters (docs/explain.md).
_PATCH, _STRIDE = 1 / 4, 1 / 12
# Faces that go through the network together: no more, so that live frames are not kept waiting.
_BATCH = 32


@METHODS.register("occlusion")
class Occlusion:
    """Covers one place after the other and sees how far the probability falls; needs nothing but the model's answers.

    Zeiler and Fergus 2014: a square slides over the face; the map has, at its middle, by how much the class became less
    probable. The square has the face's mean, which is less of an edge than black or grey.

    patch: side of the square, stride: how far it moves, both in pixels of the network's face; None: a quarter and a
        twelfth of its shorter side. So many answers are asked for as strides fit into the face: 144.

    Raises `UsageError` for a patch or a stride that makes no sense.
    """

    name = "occlusion"
    in_probability = True

    def __init__(self, classifier: Explains, /, *, patch: int | None = None, stride: int | None = None) -> None:
        face_input = classifier.face_input
        side = min(face_input.height, face_input.width)
        self.patch = max(1, round(side * _PATCH)) if patch is None else patch
        self.stride = max(1, round(side * _STRIDE)) if stride is None else stride
        for name, value in (("patch", self.patch), ("stride", self.stride)):
            if not 1 <= value <= side:
                raise UsageError(f"{name} must be 1 to {side} pixels, as the face has. Received: {value}.")
        self.classifier = classifier

    @staticmethod
    def problem(classifier: Explains, /) -> str | None:
        return None

    def __call__(self, faces: Faces, classes: npt.NDArray[np.integer[Any]], /) -> Maps:
        if not len(faces):
            return np.empty(faces.shape[:3], np.float32)
        whole = self.classifier.predict_proba(faces)[np.arange(len(faces)), classes]
        found = (self._map(face, int(one), p) for face, one, p in zip(faces, classes, whole, strict=True))
        return np.stack(list(found))

    def _map(self, face: Faces, one: int, probability: float) -> npt.NDArray[np.float32]:
        height, width = face.shape[:2]
        rows, columns = _parts(height, self.stride), _parts(width, self.stride)
        covered = self._covered(face, rows, columns)
        answers = [self.classifier.predict_proba(covered[i : i + _BATCH]) for i in range(0, len(covered), _BATCH)]
        falls = probability - np.concatenate(answers)[:, one].astype(np.float32).reshape(rows, columns)
        # The middles of the squares are those of the cells of a grid, which is what enlarging takes them for.
        return np.asarray(cv2.resize(falls, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _covered(self, face: Faces, rows: int, columns: int) -> Faces:
        """A copy of a face for each place of the square, row by row."""
        height, width = face.shape[:2]
        mean = np.rint(face.mean(axis=(0, 1))).astype(np.uint8)
        copies = np.repeat(face[None], rows * columns, axis=0)
        ups, lefts = (_starts(side, parts, self.patch) for side, parts in ((height, rows), (width, columns)))
        places = ((up, left) for up in ups for left in lefts)
        for copy, (up, left) in zip(copies, places, strict=True):
            copy[max(up, 0) : up + self.patch, max(left, 0) : left + self.patch] = mean
        return copies


def _parts(side: int, stride: int) -> int:
    return max(1, round(side / stride))


def _starts(side: int, parts: int, patch: int) -> list[int]:
    """Where the squares begin whose middles are those of so many equal parts; at the edge they reach outside."""
    return [round((part + 0.5) * side / parts - patch / 2) for part in range(parts)]
