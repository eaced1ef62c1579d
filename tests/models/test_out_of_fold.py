"""Answers by who did not see the face: which network is asked, what a file of answers refuses, what is no comparison."""

import numpy as np
import pytest

from faces import face_set
from ferkit.data.records import pixel_prints
from ferkit.errors import DatasetError, ModelError
from ferkit.evaluation.comparison import compare_on
from ferkit.labels import EMOTIONS
from ferkit.models.ensemble import Ensemble
from ferkit.models.out_of_fold import OutOfFold, StoredAnswers, write_answers
from ferkit.models.tta import augmented
from ferkit.sources.images import FaceInput

FACES = face_set(21, 1, "Training", size=8)
OTHERS = face_set(7, 2, "PublicTest", size=8)
FOLD_OF = np.arange(21) % 2


class Says:
    """Answers one class for all faces."""

    name, classes, face_input = "says", EMOTIONS, FaceInput(8, 8, 1)

    def __init__(self, label):
        self.label = label

    def predict_proba(self, faces, /):
        return np.tile(np.eye(7, dtype=np.float32)[self.label], (len(faces), 1))


@pytest.fixture
def folded():
    return OutOfFold([Says(0), Says(1)], pixel_prints(FACES.images), FOLD_OF, "folds")


@pytest.mark.parametrize("tta", [None, "flip"])
def test_each_face_is_answered_by_who_did_not_see_it(folded, tta):
    answers = augmented(folded, tta).predict_proba(FACES.images)
    assert answers.argmax(axis=1).tolist() == FOLD_OF.tolist()
    np.testing.assert_allclose(augmented(folded, tta).predict_proba(OTHERS.images)[:, :2], 0.5)


def test_views_are_answered_by_who_did_not_see_the_face(folded):
    views = np.ascontiguousarray(FACES.images[:, ::-1, ::-1])
    assert folded.answers(views, FACES.images).argmax(axis=1).tolist() == FOLD_OF.tolist()
    assert (folded.fold_of(views) == -1).all(), "by itself a view is another face"


def test_stored_answers_come_back_in_any_order(tmp_path, rng):
    answers = rng.dirichlet(np.ones(7), 21).astype(np.float32)
    write_answers(tmp_path / "a.npz", FACES, answers)
    stored = StoredAnswers(tmp_path / "a.npz")
    np.testing.assert_array_equal(stored.predict_proba(FACES.images), answers)
    np.testing.assert_array_equal(augmented(stored, "flip").predict_proba(FACES.images[[5, 2]]), answers[[5, 2]])
    with pytest.raises(ModelError, match="no answer to 7 of 7 faces"):
        stored.predict_proba(OTHERS.images)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        pytest.param(np.full((20, 7), 1 / 7), r"shape \(21, 7\). Received: \(20, 7\)", id="rows"),
        pytest.param(np.full((21, 8), 1 / 8), r"Received: \(21, 8\)", id="classes"),
        pytest.param(np.full((21, 7), 1 / 6), "sum of 1", id="sums"),
        pytest.param(np.full((21, 7), np.nan), "sum of 1", id="no numbers"),
    ],
)
def test_what_are_no_answers(tmp_path, answers, said):
    with pytest.raises(ModelError, match=said):
        write_answers(tmp_path / "a.npz", FACES, answers)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"cannot be read .* Expected an .npz with prints"):
        StoredAnswers(tmp_path / "a.npz")


def test_folds_and_a_network_that_may_have_seen_the_faces_are_no_pair(folded):
    network = Ensemble([Says(2)])
    with pytest.raises(DatasetError, match="answers Training out of fold, and says may have learnt it"):
        compare_on(folded, network, FACES, FACES)
    assert compare_on(folded, folded, FACES, FACES).overall.difference == 0
    assert compare_on(folded, network, OTHERS, OTHERS).overall.n == 7
