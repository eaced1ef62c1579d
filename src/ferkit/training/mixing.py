"""Faces mixed by twos, with their targets mixed in the same shares: the network learns to be sure by halves.

Done on bytes while a batch is put together, before the geometry of `augmentation`, so that it is plain NumPy on every
backend. A draw depends on the generator alone, not on what was drawn for the batch before.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Faces = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.float32]


def mixed(
    faces: Faces, targets: Targets, *, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[Faces, Targets]:
    """A batch in which each face is mixed with another one of it.

    faces: (N, height, width, channels). targets: (N, classes), rows sum to 1.
    mixup: alpha of the Beta distribution that shares are drawn from, for each pair on its own; 0 leaves it out.
    cutmix: likewise; where both are there, one of them is chosen for the batch.
    """
    methods = [(method, alpha) for method, alpha in ((blend, mixup), (paste, cutmix)) if alpha > 0]
    if not methods:
        return faces, targets
    method, alpha = methods[rng.integers(len(methods))]
    partners = rng.permutation(len(faces))
    shares = rng.beta(alpha, alpha, len(faces)).astype(np.float32)
    if method is blend:
        # The larger share is the face's own: mixing it with its partner by 0.9 is mixing the partner by 0.1. A
        # rectangle is not the same as what it leaves free, so there any share is.
        shares = np.maximum(shares, 1 - shares)
    places = rng.random((len(faces), 2), dtype=np.float32)
    faces, shares = method(faces, faces[partners], shares, places)
    shares = shares[:, None]
    return faces, targets * shares + targets[partners] * (1 - shares)


def blend(faces: Faces, others: Faces, shares: Targets, places: Any) -> tuple[Faces, Targets]:
    """Mixup (Zhang et al. 2018): the weighted mean of two faces, rounded to bytes. `places` are not needed."""
    weights = shares[:, None, None, None]
    return np.rint(faces * weights + others * (1 - weights)).astype(np.uint8), shares


def paste(faces: Faces, others: Faces, shares: Targets, places: Targets) -> tuple[Faces, Targets]:
    """CutMix (Yun et al. 2019): a rectangle of the other face over the one.

    shares: (N,), what should remain of each face. places: (N, 2) from 0 to 1, where the rectangle is, down and across.
    The shares that come back are those of the whole pixels that remain.
    """
    height, width = faces.shape[1:3]
    side = np.sqrt(1 - shares)
    inside = []
    for length, place in ((height, places[:, 0]), (width, places[:, 1])):
        size = np.rint(side * length)[:, None]
        start = np.floor(place[:, None] * (length - size + 1))
        index = np.arange(length)
        inside.append((start <= index) & (index < start + size))
    mask = inside[0][:, :, None] & inside[1][:, None, :]
    remaining = 1 - mask.mean(axis=(1, 2), dtype=np.float32)
    return np.where(mask[..., None], others, faces), remaining
