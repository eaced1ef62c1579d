"""Several findings of one face become one; faces come in the order people name them in."""

from ferkit.results import Face


def drop_overlaps(faces: list[Face], limit: float = 0.3) -> list[Face]:
    """Of faces whose boxes overlap by more than `limit` (intersection over union), keep the best scored."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.detection_score):
        if all(face.box.overlap(other.box) <= limit for other in kept):
            kept.append(face)
    return kept


def left_to_right(faces: list[Face]) -> list[Face]:
    """Faces in the order people name them in."""
    return sorted(faces, key=lambda face: (face.box.x1, face.box.y1))
