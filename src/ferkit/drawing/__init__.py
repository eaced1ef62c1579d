"""Results drawn into pictures: boxes, labels and bars that stay in place; faces blurred beyond recognition."""

from ferkit.drawing.pictures import annotate

__all__ = ["annotate"]
