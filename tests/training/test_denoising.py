"""Labels foretold from votes."""

import numpy as np
import pytest

from ferkit.data.records import FaceSet
from ferkit.errors import DatasetError
from ferkit.training.config import TrainConfig
from ferkit.training.targets import labels_by_votes, training_targets


def test_faces_with_the_same_votes_get_the_shares_of_their_labels():
    votes = np.repeat(np.array([[1, 0, 0], [0, 0.5, 0.5]], np.float32), 100, axis=0)
    labels = np.array([0] * 90 + [1] * 10 + [2] * 75 + [1] * 25)
    found = labels_by_votes(votes, labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [0.9, 0.1, 0], atol=0.005)
    np.testing.assert_allclose(found[-1], [0, 0.25, 0.75], atol=0.005)
    assert (found[:100] == found[0]).all()


def test_nearer_to_the_truth_than_the_labels_themselves(rng):
    """Voters and labels are drawn from the same opinions: what the votes foretell is closer to these than a label is."""
    opinions = rng.dirichlet(np.full(4, 0.5), 4000)
    labels = np.array([rng.choice(4, p=one) for one in opinions])
    votes = np.stack([rng.multinomial(10, one) for one in opinions]).astype(np.float32) / 10
    found = labels_by_votes(votes, labels)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    distance = np.abs(found - opinions).sum(axis=1).mean()
    assert distance < 0.5 * np.abs(np.eye(4)[labels] - opinions).sum(axis=1).mean()
    assert (found.argmax(axis=1) == labels).mean() > 0.55


def test_they_are_a_part_of_the_target(rng):
    votes = np.eye(3, dtype=np.float32)[[0, 1, 2] * 10]
    labels = np.array([0, 1, 1] * 10)
    faces = FaceSet(
        name="Training", images=np.zeros((30, 8, 8, 1), np.uint8), labels=labels, classes=("a", "b", "c"), votes=votes
    )
    target = training_targets(faces, TrainConfig(denoise=0.5))
    expected = 0.5 * np.eye(3)[labels] + 0.5 * labels_by_votes(votes, labels)
    np.testing.assert_allclose(target, expected, rtol=1e-5)
    with pytest.raises(DatasetError, match="denoise asks for FER"):
        training_targets(
            FaceSet(name="Training", images=faces.images, labels=labels, classes=faces.classes),
            TrainConfig(denoise=0.5),
        )
