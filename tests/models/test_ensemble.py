"""Ensembles: the mean, classes in another order, faces of another size, and its temperature."""

import numpy as np
import pytest

import ferkit
from ferkit.data.records import FaceSet
from ferkit.errors import ModelError, UsageError
from ferkit.evaluation.report import evaluate
from ferkit.models import apply_temperature, model_folder
from ferkit.models.ensemble import Ensemble
from ferkit.recognizer import EmotionRecognizer
from ferkit.sources.images import FaceInput

CLASSES = ("angry", "happy", "sad")


class Says:
    """Always the same probabilities, by class name."""

    def __init__(self, name="says", face_input=None, **said):
        self.name, self.classes = name, tuple(said)
        self.face_input = face_input or FaceInput(4, 4, 1)
        self.row = np.array(list(said.values()), np.float32)
        self.seen = []

    def predict_proba(self, faces, /):
        takes = self.face_input
        assert faces.shape[1:] == (takes.height, takes.width, takes.channels)
        assert faces.dtype == np.uint8
        self.seen.append(faces)
        return np.tile(self.row, (len(faces), 1))


def zeros(n=1, shape=(4, 4, 1)):
    return np.zeros((n, *shape), np.uint8)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(Says(angry=0.1, happy=0.2, sad=0.7), [0.35, 0.25, 0.4], id="same-order"),
        pytest.param(Says(sad=0.7, angry=0.1, happy=0.2), [0.35, 0.25, 0.4], id="another-order"),
        pytest.param(Says(sadness=0.7, anger=0.1, Happy=0.2), [0.35, 0.25, 0.4], id="other-names"),
    ],
)
def test_the_answer_is_the_mean_by_class(second, expected):
    ensemble = Ensemble([Says(angry=0.6, happy=0.3, sad=0.1), second])
    assert ensemble.predict_proba(zeros(2)) == pytest.approx(np.array([expected] * 2))
    assert ensemble.classes == CLASSES
    assert ensemble.predict_proba(zeros(0)).shape == (0, 3)


def test_other_classes_are_refused_in_one_line():
    with pytest.raises(ModelError, match=r"first knows angry, happy, sad; second knows angry, happy, fear") as caught:
        Ensemble([Says("first", angry=1, happy=0, sad=0), Says("second", angry=1, happy=0, fear=0)])
    assert "\n" not in str(caught.value)


def test_no_member_is_refused():
    with pytest.raises(UsageError, match="at least one model"):
        Ensemble([])


@pytest.mark.parametrize(
    ("takes", "first"),
    [
        pytest.param(FaceInput(8, 8, 1), (4, 4, 1), id="larger"),
        pytest.param(FaceInput(2, 2, 1), (4, 4, 1), id="smaller"),
        pytest.param(FaceInput(4, 4, 3), (4, 4, 1), id="gray-to-colour"),
        pytest.param(FaceInput(6, 2, 1), (4, 4, 3), id="colour-to-gray"),
    ],
)
def test_members_get_faces_as_they_take_them(takes, first):
    said = {"angry": 0.5, "happy": 0.5}
    other = Says(face_input=takes, **said)
    ensemble = Ensemble([Says(face_input=FaceInput(*first), **said), other])
    faces = zeros(300, first)
    faces[:] = 77
    assert ensemble.predict_proba(faces).shape == (300, 2)
    assert sum(map(len, other.seen)) == 300
    assert all((seen == 77).all() for seen in other.seen)
    assert ensemble.face_input == FaceInput(*first)


class Reads:
    """Gives what stands in the face: a probability of "happy" of pixel / 255, raised or lowered."""

    classes, face_input = ("sad", "happy"), FaceInput(1, 1, 1)

    def __init__(self, name, shift):
        self.name, self.shift = name, shift

    def predict_proba(self, faces, /):
        happy = np.clip(faces[:, 0, 0, 0] / 255 + self.shift, 0.01, 0.99).astype(np.float32)
        return np.stack([1 - happy, happy], axis=1)


def test_a_temperature_of_its_own_is_fitted_and_applied(rng):
    """Faces are happy nearly always or nearly never: the members, and so their mean, are too modest."""
    pixels = rng.choice(np.array([90, 165], np.uint8), 2000)
    labels = ((pixels > 127) ^ (rng.random(2000) < 0.05)).astype(np.int64)
    faces = FaceSet(pixels.reshape(-1, 1, 1, 1), labels, ("happy", "sad"), "val")
    faces = FaceSet(faces.images, 1 - labels, ("happy", "sad"), "val")  # the data has another order of classes
    ensemble = Ensemble([Reads("a", 0.1), Reads("b", -0.1)])
    fitted = ensemble.calibrated(faces)
    assert ensemble.temperature == 1
    assert fitted.temperature < 0.5
    before, after = evaluate(ensemble, faces), evaluate(fitted, faces)
    assert after.accuracy == before.accuracy
    assert after.ece < 0.02 < 0.2 < before.ece
    np.testing.assert_allclose(
        fitted.predict_proba(faces.images),
        apply_temperature(ensemble.predict_proba(faces.images), fitted.temperature),
    )
    assert fitted.calibrated(faces).temperature == pytest.approx(fitted.temperature), "fitted to the plain mean"


def test_an_ensemble_of_folders_is_measured_and_recognises():
    """The same model twice answers as once does."""
    ensemble = ferkit.Ensemble(["default", model_folder.find("default")])
    alone = ferkit.EmotionClassifier.load("default")
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), dtype=np.uint8)
    np.testing.assert_allclose(ensemble.predict_proba(faces), alone.predict_proba(faces), atol=1e-6)
    assert ensemble.name.startswith("default + ")
    recognise = EmotionRecognizer(ensemble, "haar", tta="flip")
    (face,) = recognise(ferkit.sample_picture())
    (expected,) = EmotionRecognizer("default", "haar", tta="flip")(ferkit.sample_picture())
    assert face.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
