"""Faces to check an export on: they come with the package, and no private person is in them.

Most are drawn from the principal components of FER-2013 (docs/LOG.md says how): nobody's, blurred, and
varied in light, pose and expression. Some are cut from the packaged portrait, sharp as real faces are. A few are noise,
which reaches parts of the activations that faces leave alone.
"""

import functools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.images import FaceInput, read_image
from ferkit.samples import sample_picture

Faces = npt.NDArray[np.uint8]

EIGENFACES = Path(sample_picture()).with_name("eigenfaces.npz")

# Where the face is in the portrait: centre and side of a box as data sets cut it, in pixels.
_CENTRE, _SIDE = (225.0, 117.0), 120.0


def stored_faces(face_input: FaceInput, count: int = 1000) -> Faces:
    """The same faces every time, uint8 (count, height, width, channels): drawn ones, cuts of the portrait, and noise."""
    return np.concatenate([real_looking_faces(face_input, count - count // 16), _noise(face_input, count // 16)])


def real_looking_faces(face_input: FaceInput, count: int) -> Faces:
    """The stored faces without the noise, for what depends on how pixels of faces are distributed."""
    rng = np.random.default_rng(0)
    portraits = count // 5
    faces = [_drawn(rng) for _ in range(count - portraits)]
    shape = (face_input.width, face_input.height)
    drawn = np.stack([cv2.resize(face, shape, interpolation=cv2.INTER_LINEAR) for face in faces])
    cut = np.stack([_portrait(rng, face_input) for _ in range(max(portraits, 1))])
    if face_input.channels == 1:
        cut = cut @ np.array([0.299, 0.587, 0.114], np.float32)
        both = np.concatenate([drawn, cut[:portraits]])[..., None]
    else:
        tints = rng.uniform(0.8, 1.1, (len(drawn), 1, 1, 3)).astype(np.float32)
        both = np.concatenate([drawn[..., None] * tints, cut[:portraits]])
    return np.asarray(np.clip(np.rint(both), 0, 255), np.uint8)


@functools.cache
def _eigenfaces() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean (48, 48) and components (60, 48, 48), in gray levels."""
    with np.load(EIGENFACES, allow_pickle=False) as stored:
        components = stored["components"].astype(np.float32) * stored["scale"][:, None, None]
        return stored["mean"].astype(np.float32), components


def _drawn(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    mean, components = _eigenfaces()
    weights = rng.standard_normal(len(components)).astype(np.float32)
    face = mean + np.tensordot(weights, components, axes=1)
    # Few components make blurred faces; what they have of edges is doubled.
    return np.asarray(2 * face - cv2.GaussianBlur(face, (0, 0), 1.5), np.float32)


def _portrait(rng: np.random.Generator, face_input: FaceInput) -> npt.NDArray[np.float32]:
    """The face of the portrait, turned, moved, scaled, mirrored and lit by chance: float32 (height, width, 3)."""
    side = _SIDE * rng.uniform(0.75, 1.25)
    x, y = np.add(_CENTRE, rng.uniform(-0.1, 0.1, 2) * side)
    size = np.array([face_input.width, face_input.height])
    shrink = size.max() / side
    turn = cv2.getRotationMatrix2D((x, y), rng.uniform(-20, 20), shrink)
    turn[:, 2] += size / 2 - (x, y)
    picture = _read_portrait()
    if shrink < 1:
        # Or fine detail would turn into noise.
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 / shrink), np.float32)
    face = cv2.warpAffine(picture, turn, (int(size[0]), int(size[1])), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        face = face[:, ::-1]
    return np.asarray((face - 128) * rng.uniform(0.5, 1.3) + 128 + rng.uniform(-40, 40), np.float32)


@functools.cache
def _read_portrait() -> npt.NDArray[np.float32]:
    return read_image(sample_picture()).astype(np.float32)


def _noise(face_input: FaceInput, count: int) -> Faces:
    """Noise at three sizes of detail: fine, coarse and flat."""
    rng = np.random.default_rng(1)
    shape = (face_input.height, face_input.width, face_input.channels)
    fine = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    coarse = rng.integers(0, 256, (count, 6, 6, shape[2]), dtype=np.uint8)
    coarse = coarse.repeat(-(-shape[0] // 6), axis=1).repeat(-(-shape[1] // 6), axis=2)[:, : shape[0], : shape[1]]
    flat = np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 1), dtype=np.uint8), fine.shape)
    kind = np.arange(count) % 3
    return np.choose(kind[:, None, None, None], [fine, coarse, flat])
