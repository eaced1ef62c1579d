import numpy as np
import pytest

from ferkit.models import sample_picture
from ferkit.render.drawing import blurred
from ferkit.results import Box
from ferkit.sources.images import read_image

FACE = Box(178, 75, 270, 196)


def test_nobody_is_found_in_a_blurred_face():
    from ferkit.detection.yunet import YunetDetector

    detect, picture = YunetDetector(), read_image(sample_picture())
    (face,) = detect(picture)
    assert detect(blurred(picture, [face.box])) == []


def test_only_a_few_numbers_are_left_of_a_face(rng):
    noise = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
    box = Box(100, 100, 200, 200)
    hidden = blurred(noise, [box])[100:200, 100:200].astype(float)
    # What noise had of change from pixel to pixel is gone.
    assert np.abs(np.diff(hidden, axis=1)).max() < 6
    assert np.abs(np.diff(noise[100:200, 100:200].astype(float), axis=1)).mean() > 60


def test_the_rest_stays_and_so_does_the_original():
    picture = read_image(sample_picture())
    before = picture.copy()
    hidden = blurred(picture, [FACE])
    assert (picture == before).all()
    assert (hidden[300:] == before[300:]).all()
    assert (hidden[:, 350:] == before[:, 350:]).all()
    assert np.abs(hidden[75:196, 178:270].astype(int) - before[75:196, 178:270]).mean() > 10


@pytest.mark.parametrize(
    "box", [Box(0, 0, 1, 1), Box(0, 0, 20, 30), Box(10, 5, 20, 30), Box(0, 0, 500, 500), Box(300, 300, 310, 320)]
)
def test_boxes_at_the_edge(box, rng):
    picture = rng.integers(0, 255, (30, 20, 3), dtype=np.uint8)
    assert blurred(picture, [box]).shape == picture.shape
    assert (blurred(picture, []) == picture).all()
