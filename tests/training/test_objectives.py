"""What training makes small, and what it asks for: against the formulas, written out in NumPy."""

from itertools import pairwise

import numpy as np
import pytest

from faces import face_set
from ferkit.errors import UsageError
from ferkit.training.config import RECIPES, TrainConfig, changes_of, to_args

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras

ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)
TARGETS = np.array([[1.0, 0.0, 0.0], [0.0, 0.8, 0.2]], np.float32)
COUNTS = np.array([60, 30, 10])


def loss(**changes) -> np.ndarray:
    from ferkit.training.step import objective

    return np.asarray(objective(TrainConfig(**changes), COUNTS)(TARGETS, ANSWERS))


def plain(targets: np.ndarray, answers: np.ndarray = ANSWERS) -> np.ndarray:
    return -(targets * np.log(answers)).sum(axis=1)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param({"focal": 2.0}, -(TARGETS * (1 - ANSWERS) ** 2 * np.log(ANSWERS)).sum(axis=1), id="focal"),
        # 1 / (0.6, 0.3, 0.1), divided by its mean over the faces, which is 3.
        pytest.param(
            {"class_weight": 1.0}, plain(TARGETS) * (TARGETS @ (1 / 3 / np.array([0.6, 0.3, 0.1]))), id="balanced"
        ),
    ],
)
def test_the_loss_is_the_papers(changes, wanted):
    np.testing.assert_allclose(loss(**changes), wanted, rtol=1e-5)


def test_two_heads_share_the_loss():
    from ferkit.training.step import objective, watched

    config = TrainConfig(votes_weight=0.25)
    votes = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], np.float32)
    heard = np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]], np.float32)
    both = np.concatenate([TARGETS, votes], axis=1), np.concatenate([ANSWERS, heard], axis=1)
    result = np.asarray(objective(config, COUNTS)(*both))
    np.testing.assert_allclose(result, 0.75 * plain(TARGETS) + 0.25 * plain(votes, heard), rtol=1e-5)
    scores = {}
    for metric in watched(config, 3):
        metric.update_state(*both)
        scores[metric.name] = float(metric.result())
    assert scores["accuracy"] == pytest.approx(0.5)
    assert scores["votes_accuracy"] == pytest.approx(0.5)
    assert scores["log_loss"] == pytest.approx(plain(TARGETS).mean(), rel=1e-5)


def test_answers_of_nought_cost_a_finite_sum():
    from ferkit.training.step import objective

    certain = np.array([[1.0, 0.0, 0.0]], np.float32), np.array([[0.0, 1.0, 0.0]], np.float32)
    assert np.isfinite(np.asarray(objective(TrainConfig(focal=0.5), COUNTS)(*certain))).all()


def test_class_weights_ask_no_face_for_another_class():
    """What makes the loss of a smoothed target smallest is the target, though a class is rare or has no face."""
    from ferkit.training.step import class_weights, objective

    counts = np.array([7000, 400, 0])
    assert class_weights(counts, 1.0)[2] == 0
    target = np.array([[0.9, 0.05, 0.05]], np.float32)
    weighted = objective(TrainConfig(class_weight=1.0), counts)
    least = float(np.asarray(weighted(target, target))[0])
    for answer in ([0.5, 0.45, 0.05], [0.5, 0.05, 0.45], [0.01, 0.5, 0.49], [0.98, 0.01, 0.01]):
        assert float(np.asarray(weighted(target, np.array([answer], np.float32)))[0]) > least


def test_a_certain_answer_has_a_finite_slope():
    tensorflow = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("slopes are taken with TensorFlow")
    from ferkit.training.step import objective

    logits = tensorflow.Variable([[40.0, 0.0, 0.0]])
    with tensorflow.GradientTape() as tape:
        result = objective(TrainConfig(focal=0.5), COUNTS)(TARGETS[:1], tensorflow.nn.softmax(logits))
    assert np.isfinite(tape.gradient(result, logits).numpy()).all()


def test_an_average_forgets_where_a_short_run_began():
    from ferkit.training.step import _decay

    config = TrainConfig(average=0.998, epochs=50)
    assert _decay(config, 224) == 0.998
    assert _decay(config, 4) == pytest.approx(0.95)
    assert _decay(config, 4) ** 200 < 1e-4, "the share of the first weights that is left"
    assert _decay(TrainConfig(average=0.998, epochs=2), 3) == 0
    gathered = TrainConfig(average=0.998, epochs=50, accumulate=4)
    assert _decay(gathered, 16) ** 4 == pytest.approx(0.95)


def test_targets_are_labels_votes_and_teachers():
    from dataclasses import replace

    from ferkit.training.targets import training_targets, validation_targets

    faces = face_set(14, 1, "Training", size=8)
    label = np.eye(7, dtype=np.float32)[faces.labels]
    votes = np.roll(label, 1, axis=1) * 0.6 + label * 0.4
    taught = np.full((14, 7), 0.1, np.float32)
    taught[:, 0] = 0.4
    voted = replace(faces, votes=votes)
    np.testing.assert_allclose(training_targets(faces, TrainConfig()), label)
    np.testing.assert_allclose(training_targets(voted, TrainConfig()), votes)
    both = training_targets(voted, TrainConfig(votes_weight=0.5, label_smoothing=0.14))
    np.testing.assert_allclose(both, np.concatenate([label * 0.86 + 0.02, votes], axis=1), rtol=1e-6)
    np.testing.assert_allclose(validation_targets(voted, TrainConfig(votes_weight=0.5)), np.hstack([label, votes]))
    softer = np.sqrt(taught) / np.sqrt(taught).sum(axis=1, keepdims=True)
    mixture = training_targets(faces, TrainConfig(teacher_share=0.75, teacher_temperature=2.0), taught)
    np.testing.assert_allclose(mixture, 0.25 * label + 0.75 * softer, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        pytest.param(["mixup=0.2", "focal=2"], {"mixup": 0.2, "focal": 2.0}, id="numbers"),
        pytest.param(["recalibrate=true"], {"recalibrate": True}, id="switch"),
        pytest.param(["accumulate=4", "activation=gelu"], {"accumulate": 4, "activation": "gelu"}, id="whole-and-word"),
        pytest.param(["teachers=a,b"], {"teachers": ("a", "b")}, id="list"),
        pytest.param(["patience=none", "init=None"], {"patience": None, "init": None}, id="none"),
        pytest.param(["weights=none"], {"weights": "none"}, id="a word that is none"),
        pytest.param(["thaw=3"], {"unfreeze": 3}, id="former name"),
    ],
)
def test_settings_are_read(settings, changes):
    assert changes_of(settings) == changes


def test_settings_of_the_augmentation_leave_its_others():
    usual = RECIPES["strong"].config
    changed = usual.changed(**changes_of(["augmentation.erase=0.5", "augmentation.flip=false"])).augmentation
    assert (changed.erase, changed.flip, changed.rotation) == (0.5, False, usual.augmentation.rotation)


def test_none_can_be_set_where_it_is_a_value():
    config = TrainConfig(patience=3, head_epochs=1, unfreeze_rate=1e-4)
    changed = config.changed(**changes_of(["patience=none", "unfreeze_rate=none"]))
    assert (changed.patience, changed.unfreeze_rate) == (None, None)
    words = to_args(changed, config)
    assert words == ["--set", "patience=none", "--set", "unfreeze_rate=none"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param("mixup", "NAME=VALUE", id="no-value"),
        pytest.param("mixpu=1", "Unknown setting 'mixpu'", id="unknown"),
        pytest.param("augmentation.tilt=1", "augmentation.rotation", id="unknown-part"),
        pytest.param("mixup=lots", "mixup must be a number", id="no-number"),
        pytest.param("epochs=2.5", "epochs must be a whole number", id="no-whole-number"),
        pytest.param("recalibrate=perhaps", "true or false", id="no-switch"),
        pytest.param("epochs=none", "epochs must be a whole number", id="no-none"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(setting, said):
    with pytest.raises(UsageError) as caught:
        changes_of([setting])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_say_how_one_config_becomes_another():
    usual = RECIPES["strong"].config
    erased = changes_of(["augmentation.erase=0.5"])
    config = usual.changed(epochs=7, mixup=0.9, patience=3, teachers=("a", "b"), recalibrate=False, **erased)
    words = to_args(config, usual)
    assert words[:2] == ["--epochs", "7"]
    assert words[words.index("--teacher") :][:4] == ["--teacher", "a", "--teacher", "b"]
    settings = [word for before, word in pairwise(words) if before == "--set"]
    again = usual.changed(epochs=7, patience=3, teachers=("a", "b"), **changes_of(settings))
    assert again == config
