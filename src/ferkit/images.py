"""Pictures in, faces out: decoding to RGB uint8, and cutting faces to what a network takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FaceInput:
    """What a network expects of a face; stored in `card.json`, so training and serving cannot disagree.

    height, width: pixels.
    channels: 1 gray, 3 RGB.
    margin: how much of the detected box's size is added around it, as a fraction (0.1 adds 10 % in all).
    align: whether the eyes are levelled by landmarks before cutting.
    """

    height: int = 48
    width: int = 48
    channels: int = 1
    margin: float = 0.0
    align: bool = False
