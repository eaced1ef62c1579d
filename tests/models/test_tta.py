"""Test-time augmentation: the views, their mean, and memory."""

import tracemalloc

import numpy as np
import pytest

from ferkit.data.records import FaceSet
from ferkit.errors import UsageError
from ferkit.evaluation.report import evaluate
from ferkit.labels import EMOTIONS
from ferkit.models import apply_temperature, tta
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.tta import TTA, Augmented, augmented
from ferkit.recognizer import EmotionRecognizer

VIEWS = {"flip": 2, "ten-crop": 10, "shift": 10}


def lit(faces):
    """A network: seven probabilities by the brightness of seven strips, so that every view answers otherwise."""
    strips = faces.astype(np.float64).mean(axis=(1, 3))[:, : 7 * (faces.shape[2] // 7)].reshape(len(faces), 7, -1)
    odds = np.exp(strips.mean(axis=2) / 40)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def classifier():
    return EmotionClassifier(lit, name="lit", temperature=0.5)


@pytest.fixture
def faces(rng):
    return rng.integers(0, 256, (9, 48, 48, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", list(TTA))
@pytest.mark.parametrize("shape", [(6, 6, 3), (48, 48, 1), (1, 1, 1), (48, 40, 3)], ids=str)
def test_views_keep_shape_type_and_order(name, shape, rng):
    marked = rng.integers(0, 256, (5, *shape), dtype=np.uint8)
    marked[..., 0] = np.arange(5)[:, None, None]
    views = list(TTA[name](marked))
    assert len(views) == VIEWS[name]
    for view in views:
        assert (view.shape, view.dtype) == (marked.shape, np.uint8)
        assert (view[..., 0] == np.arange(5)[:, None, None]).all()


def test_ten_crops_are_the_corners_and_the_centre_of_44_pixels_and_their_mirror_images():
    """Each corner pixel of a face is seen by the crop of that corner alone, twice as each crop is mirrored."""
    corners = {(0, 0): 40, (0, -1): 80, (-1, 0): 120, (-1, -1): 160}
    face = np.zeros((1, 48, 48, 1), np.uint8)
    for place, value in corners.items():
        face[0, place[0], place[1], 0] = value
    views = list(TTA["ten-crop"](face))
    for (place, value), view, mirrored in zip(corners.items(), views[::2], views[1::2], strict=False):
        assert view[0, place[0], place[1], 0] == value
        assert np.count_nonzero(view.max(axis=(1, 2, 3)) == view.max()) == 1
        assert np.array_equal(mirrored, view[:, :, ::-1])
        assert sum(int((other == value).any()) for other in views) == 2
    assert views[8].max() == 0, "the centre sees no corner"


def test_a_crop_is_scaled_back_without_a_shift():
    ramp = np.broadcast_to(np.linspace(20, 220, 48)[:, None], (48, 48)).astype(np.uint8)[None, ..., None]
    views = list(TTA["ten-crop"](ramp))
    top, centre, bottom = (views[index][0, :, 5, 0].astype(float) for index in (0, 8, 4))
    assert centre.mean() == pytest.approx(120, abs=0.6)
    # Four pixels apart, of 200 / 47 grey levels each.
    assert (bottom - top).mean() == pytest.approx(4 * 200 / 47, abs=0.6)
    assert np.ptp(centre) == pytest.approx(200 * 43 / 47, abs=2)


@pytest.mark.parametrize(("size", "by"), [pytest.param(48, 1, id="48"), pytest.param(96, 2, id="96"), (20, 1)])
def test_shifts_go_to_each_corner_and_repeat_the_edge(size, by, rng):
    face = rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    views = list(TTA["shift"](face))
    assert np.array_equal(views[0], face)
    assert np.array_equal(views[1], face[:, :, ::-1])
    moves = [(by, by), (by, -by), (-by, by), (-by, -by)]
    inner = face[:, by:-by, by:-by]
    for (down, right), view, mirrored in zip(moves, views[2::2], views[3::2], strict=True):
        assert np.array_equal(np.roll(view, (-down, -right), (1, 2))[:, by:-by, by:-by], inner)
        first, last = view[:, 0 if down > 0 else -1], face[:, 0 if down > 0 else -1]
        assert np.array_equal(np.roll(first, -right, 1)[:, by:-by], last[:, by:-by]), "the edge is repeated"
        assert np.array_equal(mirrored, view[:, :, ::-1])


@pytest.mark.parametrize("name", list(TTA))
def test_the_mean_is_of_calibrated_probabilities(name, classifier, faces):
    expected = np.mean([apply_temperature(lit(view), 0.5) for view in TTA[name](faces)], axis=0)
    got = augmented(classifier, name).predict_proba(faces)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    assert np.abs(got - classifier.predict_proba(faces)).max() > 0.01, "the views say nothing new"


@pytest.mark.parametrize("name", [None, *TTA])
def test_evaluate_and_predict_agree(name, classifier, faces):
    measured = evaluate(classifier, FaceSet(faces, np.arange(9) % 7, EMOTIONS, "val"), tta=name)
    recognizer = EmotionRecognizer(classifier, "none", tta=name)
    results = recognizer([np.repeat(face, 3, axis=2) for face in faces])
    served = np.array([list(result[0].probabilities.values()) for result in results])
    np.testing.assert_allclose(served, measured.probabilities, atol=1e-6)


@pytest.mark.parametrize("name", [None, *TTA])
def test_many_faces_are_cut_into_parts_and_none_give_none(name, classifier, rng, monkeypatch):
    monkeypatch.setattr(tta, "_FACES", 4)
    faces = rng.integers(0, 256, (9, 48, 48, 1), dtype=np.uint8)
    together = augmented(classifier, name).predict_proba(faces)
    one_by_one = [augmented(classifier, name).predict_proba(face[None])[0] for face in faces]
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    assert augmented(classifier, name).predict_proba(faces[:0]).shape == (0, 7)


def test_views_of_a_large_set_are_not_held_together(faces):
    """Ten copies of these 60 MB would be 600 MB."""

    class Constant:
        def predict_proba(self, faces, /):
            return np.full((len(faces), 7), 1 / 7, np.float32)

    many = np.broadcast_to(faces[:1], (26_000, 48, 48, 1))
    tracemalloc.start()
    try:
        Augmented(Constant(), "ten-crop").predict_proba(many[:3000])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6


def test_unknown_names_are_refused_before_any_work():
    with pytest.raises(UsageError, match="Did you mean 'ten-crop'"):
        EmotionRecognizer("no/such/model", "none", tta="ten-corp")
