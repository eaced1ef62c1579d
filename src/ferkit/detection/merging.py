"""Several findings of one face become one; faces come in the order people name them in."""

import numpy as np

from ferkit.results import Face


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored."""
    ranked = sorted(faces, key=lambda face: -face.detection_score)
    x1, y1, x2, y2 = np.array([face.box.to_list() for face in ranked], np.float64).reshape(-1, 4).T
    areas = (x2 - x1) * (y2 - y1)
    free = np.ones(len(ranked), bool)
    kept = []
    # All boxes at once: in a crowd of a thousand, one by one would take seconds.
    for i, face in enumerate(ranked):
        if free[i]:
            kept.append(face)
            wide = np.minimum(x2, x2[i]) - np.maximum(x1, x1[i])
            high = np.minimum(y2, y2[i]) - np.maximum(y1, y1[i])
            shared = np.maximum(wide, 0) * np.maximum(high, 0)
            free &= shared <= limit * (areas + areas[i] - shared)
    return kept


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces in the order people name them in."""
    return sorted(faces, key=lambda face: (face.box.x1, face.box.y1))
