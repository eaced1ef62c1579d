import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferkit.cropping import cut_face, resize_face
from ferkit.errors import ModelError
from ferkit.images import FaceInput, read_image
from recognition import face_at


def picture(width=40, height=30) -> PIL.Image.Image:
    """Red rises to the right, green downwards: every turn and mirroring shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], axis=2)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_box_of_any_picture_is_cut(data):
    width, height = data.draw(st.sampled_from([(1, 1), (1, 10_000), (10_000, 1), (3, 200), (64, 48)]))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    face_input = FaceInput(
        height=data.draw(st.integers(1, 64)),
        width=data.draw(st.integers(1, 64)),
        channels=data.draw(st.sampled_from([1, 3])),
        margin=data.draw(st.floats(-0.9, 3)),
    )
    image = np.full((height, width, 3), 90, np.uint8)
    cut = cut_face(image, face_at(x1, y1, x2, y2), face_input)
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


def test_alignment_is_refused_until_it_exists():
    with pytest.raises(ModelError, match="align"):
        cut_face(np.zeros((9, 9, 3), np.uint8), face_at(0, 0, 5, 5), FaceInput(align=True))
