import tracemalloc

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferkit.detection.crops import cut_face, resize_face
from ferkit.detection.orientation import face_turned_back
from ferkit.results import Face
from ferkit.sources.images import FaceInput, read_image
from recognition import face_at


def picture(width=40, height=30) -> PIL.Image.Image:
    """Red rises to the right, green downwards: every turn and mirroring shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], axis=2)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


BEYOND = st.floats(-1e9, 1e9) | st.floats(-50, 250)
LANDMARKS = (
    st.none() | st.tuples(*[st.tuples(BEYOND, BEYOND)] * 5) | st.tuples(BEYOND, BEYOND).map(lambda one: (one,) * 5)
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_face_of_any_picture_is_cut(data):
    width, height = data.draw(st.sampled_from([(1, 1), (1, 10_000), (10_000, 1), (3, 200), (64, 48)]))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    face_input = FaceInput(
        height=data.draw(st.integers(1, 64)),
        width=data.draw(st.integers(1, 64)),
        channels=data.draw(st.sampled_from([1, 3])),
        margin=data.draw(st.floats(-0.9, 3)),
        align=data.draw(st.booleans()),
    )
    image = np.full((height, width, 3), 90, np.uint8)
    cut = cut_face(image, face_at(x1, y1, x2, y2, landmarks=data.draw(LANDMARKS)), face_input)
    assert (cut.dtype, cut.shape) == (np.uint8, (face_input.height, face_input.width, face_input.channels))
    assert (cut == 90).all()


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        pytest.param((20, 20, 30, 30), 0.0, (20, 30, 20, 30), id="square"),
        pytest.param((20, 20, 30, 30), 1.0, (15, 35, 15, 35), id="margin doubles the side"),
        pytest.param((20, 20, 30, 40), 0.0, (15, 35, 20, 40), id="grown to a square around its centre"),
    ],
)
def test_what_is_cut(box, margin, expected):
    image = np.asarray(picture(60, 60))
    side = expected[1] - expected[0]
    cut = cut_face(image, face_at(*box), FaceInput(side, side, 3, margin))
    x1, x2, y1, y2 = expected
    assert np.array_equal(cut, image[y1:y2, x1:x2])


def test_outside_the_picture_repeats_its_edge():
    image = np.asarray(picture(60, 60))
    cut = cut_face(image, face_at(0, 0, 20, 20), FaceInput(40, 40, 3, margin=1.0))
    assert np.array_equal(cut[10:, 10:], image[:30, :30])
    assert (cut[:10, 10:] == image[0, :30]).all()


def test_the_whole_picture_is_resized_as_it_is():
    image = np.asarray(picture(60, 30))
    for margin in (0.0, 0.5):
        face_input = FaceInput(48, 48, 3, margin)
        assert np.array_equal(cut_face(image, face_at(0, 0, 60, 30), face_input), resize_face(image, face_input))


def test_a_face_of_the_right_size_is_not_changed():
    gray = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    cut = cut_face(read_image(gray), face_at(0, 0, 48, 48), FaceInput())
    assert np.array_equal(cut[..., 0], gray)


def test_gray_is_the_luma_of_fer2013():
    image = np.asarray(picture(48, 48))
    cut = resize_face(image, FaceInput())[..., 0].astype(int)
    assert np.abs(cut - np.asarray(PIL.Image.fromarray(image).convert("L"))).max() <= 1


def test_shrinking_averages():
    image = np.zeros((480, 480, 3), np.uint8)
    image[::2] = 200
    assert (resize_face(image, FaceInput()) == 100).all()
    # One axis shrinks while the other grows.
    assert (resize_face(image[:, :10], FaceInput()) == 100).all()


# A face as FER-2013 has it, 48x48: both eyes, nose, both corners of the mouth.
FRONTAL = np.array([[15.25, 18.5], [32.95, 18.5], [24.1, 29], [17, 36.8], [31.2, 36.8]])


def drawn_face(side: float, turn: float, middle=(300.0, 280.0)):
    """A picture of 600x600 with bright eyes and mouth on gray, and the face in it.

    side: of the cut that FER-2013 has of it. turn: degrees, clockwise.
    """
    angle = np.radians(turn)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (FRONTAL - 24) @ turned.T * side / 48 + middle
    y, x = np.mgrid[:600, :600] + 0.5
    # Blobs, so that their centres can be found again to a fraction of a pixel.
    image = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * (side / 40) ** 2)) for a, b in landmarks)
    image = np.repeat((40 + 200 * image.clip(0, 1))[..., None], 3, axis=2).astype(np.uint8)
    box = (np.array(middle) - side * np.array([0.4, 0.52]), np.array(middle) + side * np.array([0.4, 0.52]))
    return image, face_at(*np.concatenate(box).round().astype(int), landmarks=tuple(map(tuple, landmarks)))


def blobs(cut) -> np.ndarray:
    """Centres of the five bright spots of a cut, as `FRONTAL` orders them."""
    y, x = np.mgrid[: cut.shape[0], : cut.shape[1]] + 0.5
    light = np.maximum(cut[..., 0].astype(float) - 60, 0)
    centres = []
    for a, b in FRONTAL * cut.shape[0] / 48:
        near = light * (np.hypot(x - a, y - b) < 6 * cut.shape[0] / 48)
        assert near.sum() > 0
        centres.append(((near * x).sum() / near.sum(), (near * y).sum() / near.sum()))
    return np.array(centres)


@pytest.mark.parametrize("turn", [-40, -15, 0, 15, 90, 180])
@pytest.mark.parametrize("side", [30, 48, 100, 400])
def test_levelled_faces_lie_as_in_fer2013(side, turn):
    """Within a pixel, at any size and turn."""
    cut = cut_face(*drawn_face(side, turn), FaceInput())
    found = blobs(cut)
    assert np.abs(found - FRONTAL).max() < 0.7
    assert abs(found[0, 1] - found[1, 1]) < 0.35  # the eyes are level
    assert cut.shape == (48, 48, 1)


def test_without_levelling_a_turned_face_stays_turned():
    image, face = drawn_face(100, 15)
    y, x = np.mgrid[:48, :48]
    for face_input in (FaceInput(align=False), FaceInput()):
        upper = cut_face(image, face, face_input)[:26, :, 0].astype(float) ** 4
        left, right = upper * (x[:26] < 24), upper * (x[:26] >= 24)
        slope = (right * y[:26]).sum() / right.sum() - (left * y[:26]).sum() / left.sum()
        assert slope > 3 if not face_input.align else abs(slope) < 0.5


def test_the_margin_means_the_same_with_and_without_landmarks():
    """One number fits all detectors: an upright face is cut the same by its box as by its landmarks."""
    image, face = drawn_face(100, 0)
    for margin in (-0.2, 0.0, 0.5):
        level, box = (cut_face(image, face, FaceInput(margin=margin, align=align)) for align in (True, False))
        first, second = ((one.astype(float) - one.min()).sum(axis=2) for one in (level, box))
        sizes = [np.sqrt((one > one.max() / 2).sum()) for one in (first, second)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.15)


@pytest.mark.parametrize(
    "landmarks",
    [
        pytest.param(None, id="none"),
        pytest.param(((30.0, 30.0),) * 5, id="all in one place"),
        pytest.param(((-1e6, 0.0), (1e6, 0.0), (0.0, 0.0), (0.0, 1e6), (0.0, 1e6)), id="far larger than the box"),
        pytest.param(((400.0, 30.0), (412.0, 30.0), (406.0, 36.0), (400.0, 42.0), (412.0, 42.0)), id="elsewhere"),
    ],
)
def test_landmarks_that_contradict_the_box_are_not_believed(landmarks):
    image = np.asarray(picture(500, 60))
    face = face_at(15, 10, 45, 50, landmarks=landmarks)
    assert np.array_equal(cut_face(image, face, FaceInput()), cut_face(image, face, FaceInput(align=False)))


def test_a_huge_face_takes_little_memory():
    image = np.zeros((6000, 8000, 3), np.uint8)
    image[::2] = 200
    landmarks = tuple((2000 + 100 * x, 1000 + 90 * y) for x, y in FRONTAL.tolist())
    face = face_at(2000, 1000, 6800, 5900, landmarks=landmarks)
    tracemalloc.start()
    cut = cut_face(image, face, FaceInput())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert np.abs(cut.astype(int) - 100).max() <= 1  # areas are averaged, none is skipped


def test_the_networks_aspect_is_kept():
    """A face for a network that takes 64x32 is cut twice as high as wide, not squeezed."""
    image, face = drawn_face(100, 20)
    square = cut_face(image, face, FaceInput(64, 64, 3))
    narrow = cut_face(image, face, FaceInput(64, 50, 3))
    assert np.abs(square[:, 7:57].astype(int) - narrow).max() <= 2


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("align", [True, False])
def test_a_face_that_is_turned_is_cut_upright(quarters, align):
    image, face = drawn_face(60, 0)
    face = Face(face.box, 0.9, face.landmarks if align else None)
    expected = cut_face(image, face, FaceInput(margin=0, align=align))
    leaning = np.ascontiguousarray(np.rot90(image, -quarters))
    height, width = leaning.shape[:2]
    cut = cut_face(leaning, face_turned_back(face, quarters, width, height), FaceInput(margin=0, align=align))
    assert np.abs(cut.astype(int) - expected).max() <= 3


def test_landmarks_that_begin_with_the_left_eye_turn_nobody_over():
    _, face = drawn_face(60, 10)
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    face = Face(face.box, 0.9, (left_eye, right_eye, nose, left_mouth, right_mouth))
    assert face.roll == pytest.approx(10)
