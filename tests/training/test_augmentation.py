"""Augmentation: the arithmetic against SciPy-free references, the layer against its promises."""

import cv2
import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.training.augmentation import (
    Augmentation,
    affine_transforms,
    augmenter,
    blurring,
    coarsening,
    patches,
    seen_through,
)

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


def one(rotation=0.0, shear=0.0, zoom=(1.0, 1.0), shift=(0.0, 0.0), flip=1.0, height=48, width=48):
    numbers = [np.array([value], np.float32) for value in (rotation, shear, zoom, shift, flip)]
    return np.asarray(affine_transforms(*numbers, height=height, width=width))[0]


def reference(rotation=0.0, shear=0.0, zoom=(1.0, 1.0), shift=(0.0, 0.0), flip=1.0, height=48, width=48):
    """The same as a product of textbook 3x3 matrices about the centre."""
    cos, sin = np.cos(rotation), np.sin(rotation)
    center = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    product = (
        center
        @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        @ np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
        @ np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
        @ np.diag([zoom[0] * flip, zoom[1], 1])
        @ np.linalg.inv(center)
    )
    return np.append(product[:2].ravel(), [0, 0])


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({}, id="identity"),
        pytest.param({"rotation": 0.5}, id="rotation"),
        pytest.param({"shear": 0.3}, id="shear"),
        pytest.param({"zoom": (0.8, 1.2)}, id="zoom"),
        pytest.param({"shift": (3.0, -5.0)}, id="shift"),
        pytest.param({"flip": -1.0}, id="flip"),
        pytest.param({"rotation": -0.4, "shear": 0.2, "zoom": (1.1, 0.9), "shift": (2.0, 1.0), "flip": -1.0}, id="all"),
        pytest.param({"rotation": 0.4, "flip": -1.0, "height": 20, "width": 31}, id="not-square"),
    ],
)
def test_matrix_is_the_product_of_its_parts(numbers):
    np.testing.assert_allclose(one(**numbers), reference(**numbers), atol=1e-4)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param({"flip": -1.0}, lambda face: face[:, ::-1], id="flip-mirrors"),
        pytest.param({"rotation": np.pi / 2}, lambda face: np.rot90(face), id="quarter-turn"),
        pytest.param(
            {"shift": (2.0, 0.0)}, lambda face: face[:, [2, 3, 4, 5, 6, 7, 7, 7]], id="shift-repeats-the-edge"
        ),
    ],
)
def test_transform_moves_pixels(rng, numbers, expected):
    face = rng.integers(0, 256, (8, 8, 1)).astype(np.float32)
    transform = one(**numbers, height=8, width=8)[None]
    moved = keras.ops.image.affine_transform(face[None], transform, interpolation="bilinear", fill_mode="nearest")
    np.testing.assert_allclose(np.asarray(moved)[0], expected(face), atol=1e-2)


def test_layer_varies_each_face_on_its_own_in_training_only(rng):
    face = rng.integers(0, 256, (12, 12, 1), dtype=np.uint8)
    faces = np.repeat(face[None], 6, axis=0)
    layer = augmenter(Augmentation(rotation=20, shift=0.1, contrast=0.3, brightness=0.1), seed=1)
    np.testing.assert_array_equal(np.asarray(layer(faces, training=False)), faces.astype(np.float32))
    varied = np.asarray(layer(faces, training=True))
    assert len(np.unique(varied.reshape(6, -1), axis=0)) == 6
    assert varied.min() >= 0
    assert varied.max() <= 255


def test_same_seed_same_faces(rng):
    faces = rng.integers(0, 256, (4, 12, 12, 1), dtype=np.uint8)
    first, second = (np.asarray(augmenter(Augmentation(rotation=20), seed=3)(faces, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = np.asarray(augmenter(Augmentation(rotation=20), seed=4)(faces, training=True))
    assert (other != first).any()


def test_flip_mirrors_about_half(rng):
    faces = np.repeat(rng.integers(0, 256, (1, 8, 8, 1), dtype=np.uint8), 400, axis=0)
    varied = np.asarray(augmenter(Augmentation(flip=True), seed=0)(faces, training=True))
    mirrored = np.isclose(varied, faces[:, :, ::-1], atol=1e-2).all(axis=(1, 2, 3))
    untouched = np.isclose(varied, faces, atol=1e-2).all(axis=(1, 2, 3))
    assert (mirrored | untouched).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(
    ("area", "aspect", "center", "rows", "columns"),
    [
        pytest.param(0.25, 1.0, (0.5, 0.5), slice(2, 6), slice(4, 12), id="square-share-of-each-side"),
        pytest.param(0.25, 4.0, (0.5, 0.5), slice(0, 8), slice(6, 10), id="standing"),
        pytest.param(0.25, 0.25, (0.5, 0.5), slice(3, 5), slice(0, 16), id="lying"),
        pytest.param(0.25, 1.0, (0.0, 1.0), slice(0, 2), slice(12, 16), id="cut-off-at-the-edge"),
    ],
)
def test_patches_are_rectangles(area, aspect, center, rows, columns):
    numbers = [np.array(value, np.float32)[None] for value in (area, aspect, center)]
    mask = np.asarray(patches(*numbers, height=8, width=16))
    expected = np.zeros((1, 8, 16, 1), bool)
    expected[:, rows, columns] = True
    np.testing.assert_array_equal(mask, expected)


def test_erasing_paints_one_grey_over_its_share_of_faces(rng):
    faces = rng.integers(1, 255, (600, 24, 24, 1), dtype=np.uint8)
    varied = np.asarray(augmenter(Augmentation(erase=0.25), seed=0)(faces, training=True))
    changed = (varied != faces)[..., 0]
    touched = changed.any(axis=(1, 2))
    assert 100 < touched.sum() < 200
    for face, mask in zip(varied[touched], changed[touched], strict=True):
        assert len(np.unique(face[..., 0][mask])) == 1
    assert 0.005 < changed[touched].mean() < 0.2
    assert len(np.unique(varied[touched][changed[touched]])) > 50, "a grey of its own for every face"


def through(matrices, face, strength):
    """A face (height, width) through the matrices of one strength."""
    down, across = (matrices(np.array([strength], np.float32), length) for length in face.shape)
    return np.asarray(seen_through(face[None, ..., None].astype(np.float32), down, across))[0, ..., 0]


@pytest.mark.parametrize(
    ("matrices", "strength", "expected"),
    [
        pytest.param(blurring, 0.0, lambda face: face, id="no blur"),
        pytest.param(blurring, 1.5, lambda face: cv2.GaussianBlur(face, (13, 13), 1.5), id="blur"),
        pytest.param(coarsening, 1.0, lambda face: face, id="all pixels"),
        pytest.param(
            coarsening,
            4.0,
            lambda face: cv2.resize(cv2.resize(face, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA),
                                    face.shape[::-1], interpolation=cv2.INTER_LINEAR),
            id="a quarter",
        ),
    ],
)  # fmt: skip
def test_poor_pictures_are_those_of_opencv(rng, matrices, strength, expected):
    face = rng.integers(0, 256, (24, 32)).astype(np.float32)
    inside = (slice(6, -6), slice(6, -6)) if matrices is blurring else ...  # at the edge OpenCV mirrors
    np.testing.assert_allclose(through(matrices, face, strength)[inside], expected(face)[inside], atol=0.6)


@pytest.mark.parametrize("step", [1.0, 1.3, 2.5, 3.7, 4.0])
def test_fewer_pixels_leave_plain_faces_and_ramps_alone(step):
    weights = np.asarray(coarsening(np.array([step], np.float32), 48))[0]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    ramp = weights @ np.arange(48)
    np.testing.assert_allclose(ramp[5:40], np.arange(48)[5:40], atol=0.51)


@pytest.mark.parametrize("name", ["blur", "noise", "coarse"])
def test_poor_pictures_are_their_share_of_faces(rng, name):
    faces = rng.integers(60, 200, (400, 24, 24, 1), dtype=np.uint8)
    varied = np.asarray(augmenter(Augmentation(**{name: 0.25}), seed=0)(faces, training=True))
    change = np.abs(varied - faces).mean(axis=(1, 2, 3))
    assert 60 < (change > 1e-3).sum() < 130, "the mildest blur changes nothing"
    assert len(np.unique(change.round(2))) > 50, "a strength of its own for every face"
    assert varied.min() >= 0
    assert varied.max() <= 255


@pytest.mark.parametrize("values", [{"rotation": -1}, {"zoom": 1.0}, {"erase": 1.5}, {"blur": 2}])
def test_senseless_ranges_are_refused(values):
    with pytest.raises(UsageError, match="Received"):
        Augmentation(**values)


@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")
@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({"theta": 25.0}, id="rotation"),
        pytest.param({"shear": 15.0}, id="shear"),
        pytest.param({"zx": 0.85, "zy": 1.15}, id="zoom"),
        pytest.param({"tx": 4.0, "ty": -2.5}, id="shift"),
        pytest.param({"theta": -30.0, "shear": 0.2, "zx": 1.2, "zy": 0.8, "tx": 3.0, "ty": 1.0}, id="all"),
    ],
)
def test_pixels_are_those_of_image_data_generator(numbers):
    """The tutorial's own code, on a square face (on others it mixes up the axes of the centre)."""
    pytest.importorskip("scipy")
    legacy = pytest.importorskip("keras.src.legacy.preprocessing.image")
    values = {"theta": 0.0, "shear": 0.0, "zx": 1.0, "zy": 1.0, "tx": 0.0, "ty": 0.0, **numbers}
    across, down = np.meshgrid(np.linspace(0, 6, 48), np.linspace(0, 4, 48))
    face = (127.5 + 127.5 * np.sin(across) * np.cos(down + across / 3)).astype(np.float32)[..., None]
    theirs = legacy.apply_affine_transform(
        face, **values, row_axis=0, col_axis=1, channel_axis=2, fill_mode="nearest", order=1
    )
    transform = one(
        rotation=np.radians(values["theta"]),
        shear=np.radians(values["shear"]),
        zoom=(values["zx"], values["zy"]),
        shift=(values["tx"], values["ty"]),
    )
    ours = keras.ops.image.affine_transform(face[None], transform[None], interpolation="bilinear", fill_mode="nearest")
    np.testing.assert_allclose(np.asarray(ours)[0], theirs, atol=0.1)
