"""Logit adjustment: what it does to probabilities, to the packaged models, and which sensitivity a curve says is best."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from ferkit.data import FaceSet
from ferkit.errors import ModelError, UsageError
from ferkit.evaluation import evaluate, metrics, sensitivity, sensitivity_curve
from ferkit.models import (
    EmotionClassifier,
    Ensemble,
    adjust,
    apply_temperature,
    check_sensitivity,
    exporting,
    fit_temperature,
    model_folder,
)
from ferkit.models.export_formats import stored_faces
from ferkit.recognizer import EmotionRecognizer
from ferkit.sources import FaceInput

PRIOR = (0.8, 0.15, 0.05)


def answers_of_a_perfect_network(n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of three overlapping classes as common as PRIOR says, and the classes they were drawn from."""
    rng = np.random.default_rng(5)
    labels = rng.choice(3, n, p=PRIOR)
    seen = labels + rng.normal(0, 0.7, n)
    likelihood = np.exp(-((seen[:, None] - np.arange(3)) ** 2) / (2 * 0.7**2))
    posterior = likelihood * PRIOR
    return posterior / posterior.sum(axis=1, keepdims=True), labels


def test_nothing_changes_at_zero():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    assert adjust(probabilities, PRIOR, 0) == pytest.approx(probabilities, abs=1e-7)


def test_at_one_what_the_prior_alone_says_becomes_even():
    assert adjust(np.array([PRIOR]), PRIOR, 1) == pytest.approx(np.full((1, 3), 1 / 3))


def test_steps_add_up_and_the_scale_of_the_prior_does_not_matter():
    probabilities, _ = answers_of_a_perfect_network(50)
    once = adjust(probabilities, PRIOR, 0.7)
    twice = adjust(adjust(probabilities, PRIOR, 0.3), np.multiply(PRIOR, 100), 0.4)
    assert twice == pytest.approx(once, abs=1e-6)


def test_a_probability_of_zero_stays_a_number():
    adjusted = adjust(np.array([[1.0, 0.0, 0.0]], np.float32), (0.9999999, 1e-9, 1e-9), 1)
    assert np.isfinite(adjusted).all()
    assert adjusted.sum() == pytest.approx(1)


def test_more_sensitivity_trades_accuracy_for_macro_recall():
    points = sensitivity.curve(*answers_of_a_perfect_network(), PRIOR, (0, 0.5, 1))
    assert points[0].accuracy > points[1].accuracy > points[2].accuracy
    assert points[0].macro_recall < points[1].macro_recall < points[2].macro_recall


def test_each_point_is_calibrated_on_its_own():
    probabilities, labels = answers_of_a_perfect_network()
    point = sensitivity.curve(probabilities, labels, PRIOR, [0.6])[0]
    adjusted = adjust(probabilities, PRIOR, 0.6)
    calibrated = apply_temperature(adjusted, point.temperature)
    assert point.temperature == pytest.approx(fit_temperature(adjusted, labels))
    assert point.nll == pytest.approx(metrics.nll(calibrated, labels))
    assert point.ece == pytest.approx(metrics.ece(calibrated, labels))
    assert point.nll < metrics.nll(adjusted, labels)


def test_the_best_has_the_highest_mean_and_of_equal_ones_the_least_sensitivity():
    def point(at: float, accuracy: float, recall: float) -> sensitivity.Point:
        return sensitivity.Point(at, accuracy, recall, ece=0.0, nll=0.0, temperature=1.0)

    points = [point(0.0, 0.9, 0.6), point(0.5, 0.85, 0.75), point(0.75, 0.8, 0.8), point(1.0, 0.7, 0.82)]
    assert sensitivity.best(points).sensitivity == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5"])
def test_a_sensitivity_outside_its_range_is_refused(value):
    with pytest.raises(UsageError, match=r"from 0 to 1\. Received"):
        check_sensitivity(value)


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param((0.5, 0.5), id="another number of classes"),
        pytest.param((0.5, 0.5, 0.0), id="zero"),
        pytest.param((0.5, 0.5, float("nan")), id="no number"),
        pytest.param(("a", "b", "c"), id="words"),
        pytest.param(None, id="nothing"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(prior):
    with pytest.raises(UsageError, match="3 shares above 0"):
        adjust(np.array([[0.5, 0.3, 0.2]]), prior, 0.5)


@pytest.fixture(scope="module")
def faces():
    return stored_faces(FaceInput(), 64)


@pytest.mark.parametrize("name", ["default", "default-int8"])
def test_the_packaged_models_name_rare_classes_more_with_more_sensitivity(name, faces):
    model = EmotionClassifier.load(name)
    rare = [model.classes.index(one) for one in ("disgust", "fear")]
    shares = [model.with_sensitivity(at).predict_proba(faces)[:, rare].sum() for at in (0, 0.5, 1)]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.slow
def test_an_export_holds_the_sensitivity_and_can_be_changed_all_the_same(tmp_path, faces):
    pytest.importorskip("tensorflow")
    exporting.export("default", tmp_path / "model.onnx", "onnx")
    exported, original = (
        EmotionClassifier.load(tmp_path / "model.onnx"),
        EmotionClassifier.load("default", engine="keras"),
    )
    assert exported.card["sensitivity"] == exported.card["sensitivity_inside"] == original.sensitivity
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.run(None, {"faces": faces})[0] == pytest.approx(original.predict_proba(faces), abs=1e-4)
    for at in (0, 0.3, 1):
        answers = exported.with_sensitivity(at).predict_proba(faces)
        assert answers == pytest.approx(original.with_sensitivity(at).predict_proba(faces), abs=1e-4)


def test_a_folder_without_a_serving_copy_answers_in_eight_bits(tmp_path, faces):
    folder = shutil.copytree(model_folder.find("default"), tmp_path / "model")
    eight_bits = EmotionClassifier.load(folder / "model.int8.onnx")
    for engine in ("auto", "onnx"):
        model = EmotionClassifier.load(folder, engine=engine, sensitivity=0.2)
        assert model.card["sha256"].keys() == {"model.keras", "model.int8.onnx"}
        answers = eight_bits.with_sensitivity(0.2).predict_proba(faces)
        np.testing.assert_array_equal(model.predict_proba(faces), answers)
    (folder / "model.int8.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="SHA-256"):
        EmotionClassifier.load(folder)


def test_the_copy_in_eight_bits_agrees_with_the_network_it_was_made_from(faces):
    pytest.importorskip("keras")
    answers = [EmotionClassifier.load("default", engine=engine).predict_proba(faces) for engine in ("onnx", "keras")]
    assert np.mean(answers[0].argmax(axis=1) == answers[1].argmax(axis=1)) > 0.9
    assert np.abs(answers[0] - answers[1]).mean() < 0.03


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"prior": [0.5, 0.5]}, "7 shares above 0", id="prior of two classes"),
        pytest.param({"sensitivity": 2}, "from 0 to 1", id="sensitivity"),
        pytest.param({"temperature_inside": 0}, "temperature_inside", id="temperature inside"),
    ],
)
def test_a_card_that_makes_no_sense_is_one_line(wrong, said, tmp_path):
    folder = shutil.copytree(model_folder.find("default"), tmp_path / "model")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **wrong}))
    with pytest.raises(ModelError, match=said):
        EmotionClassifier.load(folder)


def test_a_model_without_a_prior_has_no_sensitivity():
    assert EmotionClassifier.load("fer2013").sensitivity is None
    with pytest.raises(UsageError, match="fer2013 has no sensitivity"):
        EmotionClassifier.load("fer2013", sensitivity=0.5)
    ensemble = Ensemble(["default", "fer2013"])
    with pytest.raises(UsageError, match="Ensemble has no sensitivity"):
        EmotionRecognizer(ensemble, "haar", sensitivity=0.5)


def test_a_recognizer_takes_it_for_names_and_classifiers():
    for model in ("default", EmotionClassifier.load("default")):
        recognizer = EmotionRecognizer(model, "haar", sensitivity=0.25)
        assert recognizer.classifier.sensitivity == 0.25
    assert EmotionRecognizer("default", "haar").classifier.sensitivity == EmotionClassifier.load().card["sensitivity"]


def test_the_curve_is_that_of_the_network_whatever_the_model_answered_with():
    """From what was answered at one sensitivity the answers at all others follow."""
    rng = np.random.default_rng(3)
    classes, n = EmotionClassifier.load("default").classes, 300
    votes = rng.dirichlet(np.full(len(classes), 0.3), n).astype(np.float32)
    pictures = stored_faces(FaceInput(), n + 20)
    # Where two classes are alike, rounding to 32 bits decides.
    likely = np.sort(EmotionClassifier.load("default", sensitivity=0.0).predict_proba(pictures), axis=1)
    pictures = pictures[likely[:, -1] - likely[:, -2] > 1e-5][:n]
    faces = FaceSet(pictures, rng.integers(0, len(classes), n), classes, "val", votes=votes)
    curves = []
    for at in (0.0, 0.6, 1.0):
        model = EmotionClassifier.load("default", sensitivity=at)
        found = sensitivity_curve(model, evaluate(model, faces))
        assert (found.n, found.used) == (n, at)
        curves.append([(one.accuracy, one.macro_recall, round(one.nll, 3)) for one in found.points])
    assert curves[0] == curves[1] == curves[2]
    plain = EmotionClassifier.load("fer2013")
    assert sensitivity_curve(plain, evaluate(plain, faces)) is None, "no prior"
    unvoted = replace(faces, votes=None)
    assert sensitivity_curve(model, evaluate(model, unvoted)) is None, "no votes"
