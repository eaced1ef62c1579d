"""Mixing of faces and targets: known shares, then what holds for every draw."""

import numpy as np
import pytest

from ferkit.training.mixing import blend, mixed, paste


def batch(n=64, size=12, classes=7):
    """Faces of one grey each, a different one per face, and one-hot targets."""
    faces = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 1)).copy()
    return faces, np.eye(classes, dtype=np.float32)[np.arange(n) % classes]


def shares(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("share", "grey"),
    [
        pytest.param(1.0, 200, id="untouched"),
        pytest.param(0.75, 160, id="three-quarters"),
        pytest.param(0.51, 122, id="rounded-not-cut"),
    ],
)
def test_blend_is_the_weighted_mean(share, grey):
    face, other = np.full((1, 4, 4, 1), 200, np.uint8), np.full((1, 4, 4, 1), 40, np.uint8)
    result, kept = blend(face, other, shares(share), np.zeros((1, 2), np.float32))
    assert result.dtype == np.uint8
    assert (result == grey).all()
    assert kept == shares(share)


@pytest.mark.parametrize(
    ("share", "place", "rows", "columns"),
    [
        pytest.param(0.75, (0.0, 0.0), slice(0, 4), slice(0, 4), id="quarter-top-left"),
        pytest.param(0.75, (0.999, 0.999), slice(4, 8), slice(4, 8), id="quarter-bottom-right"),
        pytest.param(0.75, (0.0, 0.999), slice(0, 4), slice(4, 8), id="down-comes-first"),
        pytest.param(1.0, (0.5, 0.5), slice(0, 0), slice(0, 0), id="nothing"),
        pytest.param(0.6, (0.0, 0.0), slice(0, 5), slice(0, 5), id="whole-pixels"),
    ],
)
def test_paste_covers_a_rectangle(share, place, rows, columns):
    face, other = np.zeros((1, 8, 8, 3), np.uint8), np.ones((1, 8, 8, 3), np.uint8)
    expected = face.copy()
    expected[:, rows, columns] = 1
    result, kept = paste(face, other, shares(share), np.array([place], np.float32))
    np.testing.assert_array_equal(result, expected)
    assert kept == pytest.approx(1 - expected.mean()), "the share is that of the pixels"


@pytest.mark.parametrize(
    "alphas", [{"mixup": 0.4, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str
)
@pytest.mark.parametrize("seed", range(4))
def test_targets_say_what_the_picture_shows(alphas, seed):
    """Greys are numbered, so that the mean grey of a mixed face says which faces it was made of, and in which shares."""
    faces, _ = batch()
    numbers = np.eye(64, dtype=np.float32)  # a target of its own for every face
    before = faces.copy()
    result, wanted = mixed(faces, numbers, **alphas, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(faces, before, err_msg="the data set itself must stay as it is")
    np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-6)
    assert wanted.dtype == np.float32
    own = wanted[np.arange(64), np.arange(64)]
    if not alphas["cutmix"]:
        assert (own >= 0.5).all(), "a face stays mostly itself"
    elif not alphas["mixup"]:
        assert own.min() < 0.2 < 0.8 < own.max(), "a rectangle may cover nearly all, as in the paper"
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), wanted @ np.arange(64, dtype=np.float32), atol=0.51)
    assert (np.count_nonzero(wanted, axis=1) > 1).mean() > 0.5
    again, _ = mixed(faces, numbers, **alphas, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(again, result)


def test_nothing_to_mix():
    faces, targets = batch()
    result, wanted = mixed(faces, targets, mixup=0.0, cutmix=0.0, rng=np.random.default_rng(0))
    assert result is faces
    assert wanted is targets


def test_batches_of_a_run_are_mixed_in_their_share():
    pytest.importorskip("keras")
    from faces import face_set
    from ferkit.training.config import TrainConfig
    from ferkit.training.step import batches_of
    from ferkit.training.targets import training_targets

    faces = face_set(400, 1, "Training", size=8)
    config = TrainConfig(mixup=0.4, mix_share=0.3)
    batches = batches_of([faces.images], [training_targets(faces, config)], 4, config)
    batches.shuffle(1)
    touched = [bool((np.count_nonzero(batches[i][1], axis=1) > 1).any()) for i in range(100)]
    assert 15 < sum(touched) < 45
    first = batches[0][0].copy()
    for i in range(5):
        batches[i]
    np.testing.assert_array_equal(batches[0][0], first, err_msg="a batch does not depend on those before it")
    batches.shuffle(2)
    assert [bool((np.count_nonzero(batches[i][1], axis=1) > 1).any()) for i in range(100)] != touched
