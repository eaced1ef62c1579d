"""Cutting faces out of pictures as a network takes them."""

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import ModelError
from ferkit.images import FaceInput, RgbImage
from ferkit.results import Face


def cut_face(image: RgbImage, face: Face, face_input: FaceInput) -> npt.NDArray[np.uint8]:
    """Cut a face out as a network takes it: uint8 (face_input.height, face_input.width, face_input.channels).

    image: RGB uint8 (H, W, 3) that `face.box` refers to.

    The box grows around its centre by the margin and to the network's aspect; what then lies outside the picture
    repeats the picture's edge. A box that is the whole picture is a face that was cut before: it is resized as it is.
    """
    if face_input.align:
        raise ModelError("The model wants faces with levelled eyes (align), which this version of ferkit cannot cut.")
    height, width = image.shape[:2]
    box = face.box
    if (box.width, box.height) == (width, height):
        return resize_face(image, face_input)
    grow = 1 + face_input.margin
    # Pixels of the picture per pixel of the network's face; the longer side decides, so nothing is squeezed.
    scale = max(box.width * grow / face_input.width, box.height * grow / face_input.height)
    across, down = scale * face_input.width, scale * face_input.height
    left, top = (box.x1 + box.x2 - across) / 2, (box.y1 + box.y2 - down) / 2
    x1, x2, before_x, after_x = _clip(left, across, width, face_input.width)
    y1, y2, before_y, after_y = _clip(top, down, height, face_input.height)
    # The inner part is resized first and padded then: padding first would take memory without bound for long boxes.
    inner = FaceInput(
        face_input.height - before_y - after_y, face_input.width - before_x - after_x, face_input.channels
    )
    cut = resize_face(image[y1:y2, x1:x2], inner)
    return np.pad(cut, ((before_y, after_y), (before_x, after_x), (0, 0)), mode="edge")


def _clip(start: float, length: float, limit: int, target: int) -> tuple[int, int, int, int]:
    """One axis of a cut: first and last pixel in the picture, and the pixels of the target left empty at both ends."""
    first, last = max(round(start), 0), min(round(start + length), limit)
    last = max(last, first + 1)
    before = round(target * max(0.0, -start) / length)
    after = round(target * max(0.0, start + length - limit) / length)
    before = min(before, target - 1)
    return first, last, before, min(after, target - 1 - before)


def resize_face(pixels: npt.NDArray[np.uint8], face_input: FaceInput) -> npt.NDArray[np.uint8]:
    """Resize a whole RGB picture (H, W, 3) to uint8 (height, width, channels); aspect is not kept.

    Shrinking averages areas, enlarging is bilinear. Gray is ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B, as Pillow's
    mode "L" and the makers of FER-2013 have it.
    """
    if face_input.channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    height, width = pixels.shape[:2]
    # Where one axis shrinks and the other grows, OpenCV's area mode would skip pixels: the shrinking goes first.
    small = min(width, face_input.width), min(height, face_input.height)
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(shrunk, (face_input.width, face_input.height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(face_input.height, face_input.width, face_input.channels).astype(np.uint8, copy=False)
