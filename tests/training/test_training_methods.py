"""Methods of training that compose: each learns, resumes to the bit where it has a state, and does what it says."""

from dataclasses import replace

import numpy as np
import pytest
from test_training import assert_same_state, train, variables

from faces import small_dataset
from ferkit.errors import DatasetError, ModelError, UsageError
from ferkit.models.classifier import EmotionClassifier
from ferkit.training import targets as teachers
from ferkit.training.config import TrainConfig
from ferkit.training.targets import training_targets

keras = pytest.importorskip("keras")
pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("tiny_network")]

QUICK = {"model": "tiny", "epochs": 3, "batch_size": 16, "learning_rate": 1e-3}


class InterruptionError(Exception):
    pass


def with_votes(data):
    def voted(faces):
        votes = (
            0.7 * np.eye(7, dtype=np.float32)[(faces.labels + 1) % 7] + 0.3 * np.eye(7, dtype=np.float32)[faces.labels]
        )
        return replace(faces, votes=votes.astype(np.float32))

    return replace(data, splits={name: voted(faces) for name, faces in data.splits.items()})


def epochs_of(data, folder, last: int, **options):
    """The rows of a run up to an epoch, at which it is cut off: no model is written, which takes most of a short run."""
    rows = []

    def cut(row):
        rows.append(row)
        if row["epoch"] == last:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(data, "tutorial", out=folder, on_epoch=cut, **options)
    return rows


def assert_resumes_to_the_bit(data, whole, parts, after: int, **options):
    """A run that is cut off after so many epochs and resumed ends where the whole one does."""
    last = options["epochs"]
    epochs_of(data, parts, after, **options)
    if after < last:
        epochs_of(data, parts, last, resume=True)
    assert_same_state(whole / "checkpoints" / "last.npz", parts / "checkpoints" / "last.npz")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"optimizer": "lion", "learning_rate": 1e-3, "weight_decay": 0.1}, id="lion", marks=pytest.mark.slow
        ),
        pytest.param({"schedule": "onecycle"}, id="onecycle", marks=pytest.mark.slow),
        pytest.param({"accumulate": 3, "average": 0.5}, id="accumulate"),
        pytest.param({"focal": 1.0, "class_weight": 0.5}, id="objective"),
        pytest.param({"votes_weight": 0.4}, id="two-heads"),
    ],
)
def test_a_method_learns_and_resumes_to_the_bit(options, tmp_path):
    data = with_votes(small_dataset(size=16))
    options = {**QUICK, "learning_rate": 1e-2, **options}
    rows = epochs_of(data, tmp_path / "whole", 3, **options)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert_resumes_to_the_bit(data, tmp_path / "whole", tmp_path / "parts", 2, **options)


@pytest.mark.parametrize("after", [pytest.param(1, id="head"), pytest.param(2, id="seam"), pytest.param(3, id="base")])
def test_two_phases_resume_to_the_bit(after, tmp_path, two_phases):
    whole, options = two_phases
    assert_resumes_to_the_bit(small_dataset(size=16), whole.folder, tmp_path / "parts", after, **options)


@pytest.fixture(scope="module")
def two_phases(tmp_path_factory, tiny_network):
    options = {**QUICK, "epochs": 4, "head_epochs": 2, "unfreeze_rate": 1e-4, "schedule": "cosine", "average": 0.5}
    return train(small_dataset(size=16), "tutorial", out=tmp_path_factory.mktemp("run") / "whole", **options), options


@pytest.mark.usefixtures("no_serving_copy")
def test_patience_does_not_end_the_run_before_the_base_has_learnt(tmp_path):
    """Nothing moves at such a rate, so every epoch is without gain."""
    options = {**QUICK, "epochs": 9, "head_epochs": 4, "patience": 2, "learning_rate": 1e-12}
    run = train(small_dataset(size=16), "tutorial", out=tmp_path / "run", **options)
    assert len(run.history) == 4 + 1 + 2


def test_the_head_learns_alone_first(tmp_path, two_phases):
    whole, options = two_phases
    epochs_of(small_dataset(size=16), tmp_path / "head", 2, **options)
    epochs_of(small_dataset(size=16), tmp_path / "none", 1, **{**QUICK, "learning_rate": 1e-12})
    head = variables(tmp_path / "head" / "checkpoints" / "last.npz")
    first = variables(tmp_path / "none" / "checkpoints" / "last.npz")
    kernels = [name for name, value in head.items() if name.startswith("model/") and value.ndim == 4]
    assert kernels
    for name in kernels:
        np.testing.assert_allclose(head[name], first[name], atol=1e-6, err_msg="the base learnt in the head's epochs")
    last = variables(whole.folder / "checkpoints" / "last.npz")
    assert any(np.abs(last[name] - first[name]).max() > 1e-4 for name in kernels), "the base never learnt"
    assert whole.history[0]["learning_rate"] == pytest.approx(1e-3)
    assert whole.history[2]["learning_rate"] == pytest.approx(1e-4)


def test_gathered_gradients_are_those_of_a_large_batch(tmp_path):
    """Without chance, four batches of 16 and one of 64 take the same step."""
    data, plain = small_dataset(size=16), {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.1}
    config = TrainConfig(**plain)
    from ferkit.training.step import batches_of, compiled_model, untrained_network

    results = []
    for batch_size, accumulate in ((64, 1), (16, 4)):
        keras.utils.set_random_seed(1)
        network = untrained_network(data.train, config)
        for layer in network.layers:  # whose answers depend on the batch, or on chance
            if isinstance(layer, keras.layers.BatchNormalization | keras.layers.Dropout):
                layer.trainable = False
                if hasattr(layer, "rate"):
                    layer.rate = 0.0
        changed = config.changed(batch_size=batch_size, accumulate=accumulate)
        model = compiled_model(network, changed, 64 // batch_size, np.ones(7, int))
        targets = np.eye(7, dtype=np.float32)[data.train.labels]
        model.fit(batches_of([data.train.images], [targets], batch_size, changed), shuffle=False, verbose=0)
        results.append(network.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-6)


def test_two_heads_leave_two_models_each_measured_on_its_own(tmp_path):
    data = with_votes(small_dataset(train=140, size=16))
    run = train(
        data,
        "tutorial",
        out=tmp_path / "run",
        votes_weight=0.5,
        epochs=8,
        batch_size=20,
        learning_rate=3e-3,
        recalibrate=True,
    )
    faces = data.val
    labels, votes = EmotionClassifier.load(run.folder), EmotionClassifier.load(run.folder / "votes")
    assert (labels.card["metrics"]["truth"], votes.card["metrics"]["truth"]) == ("labels", "votes")
    said, voted = (one.predict_proba(faces.images).argmax(axis=1) for one in (labels, votes))
    # Here most voters say the next class, and each head has learnt its own; chance is right on a seventh.
    assert (said == faces.labels).mean() > 0.3
    assert (voted == (faces.labels + 1) % 7).mean() > 0.3
    assert votes.card["metrics"]["accuracy"] == pytest.approx((voted == (faces.labels + 1) % 7).mean())
    assert run.history[-1]["val_votes_accuracy"] > 0.3


@pytest.mark.usefixtures("no_serving_copy")
def test_held_out_faces_without_a_first_choice_cost_the_head_on_votes_alone(tmp_path, capsys):
    """All voters are torn between two classes, which is found only after the training."""
    data = with_votes(small_dataset(size=16))
    torn = np.tile(np.array([0.5, 0.5, 0, 0, 0, 0, 0], np.float32), (len(data.val), 1))
    data = replace(data, splits={**data.splits, "PublicTest": replace(data.val, votes=torn)})
    from ferkit.training.loop import train as aloud

    run = aloud(data, "tutorial", out=tmp_path / "run", votes_weight=0.5, **{**QUICK, "epochs": 1})
    assert run.classifier.card["metrics"]["truth"] == "labels"
    assert not (run.folder / "votes").exists()
    assert "No face of PublicTest has a FER+ majority label" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("no_serving_copy")
def test_a_teachers_answers_are_kept_with_the_run(tmp_path):
    data = small_dataset(size=16)
    teacher = train(data, "tutorial", out=tmp_path / "teacher", **QUICK)
    names = {"teachers": (str(teacher.folder), str(teacher.folder)), "teacher_share": 0.9}
    pupil = train(data, "tutorial", out=tmp_path / "pupil", **QUICK, **names)
    kept = np.load(pupil.folder / "checkpoints" / "teachers.npy")
    one, other = (
        teacher.classifier.predict_proba(v) for v in (data.train.images, data.train.images[:, :, ::-1].copy())
    )
    np.testing.assert_allclose(kept, (one + other) / 2, atol=1e-5)
    assert tuple(pupil.classifier.card["training"]["recipe"]["teachers"]) == names["teachers"]


def test_teachers_are_asked_once_for_all_runs(tmp_path, monkeypatch):
    """Ten views of all faces take minutes, and the seeds of a sweep and the trials of a search ask the same."""
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    faces = small_dataset(size=48).train
    asked = []
    augmented = teachers.augmented
    monkeypatch.setattr(teachers, "augmented", lambda *given: asked.append(given[1]) or augmented(*given))

    def answers(faces=faces, **changes):
        config = TrainConfig(**{"teachers": ("default",), "teacher_tta": "none", **changes})
        return teachers.teachers_answers(teachers.open_teachers(config, faces), config, faces)

    first = answers()
    np.testing.assert_array_equal(answers(seed=7, epochs=9), first)
    assert len(asked) == 1
    answers(teacher_tta="flip")
    answers(teachers=("default-int8",))
    brighter = replace(faces, images=faces.images // 2 + 128)
    assert not np.array_equal(answers(brighter), first)
    assert len(asked) == 4, "other views, other teachers, other faces"
    (tmp_path / "cache" / "teachers").rename(tmp_path / "moved")
    (tmp_path / "cache" / "teachers").write_text("in the way")
    np.testing.assert_array_equal(answers(), first, "a cache that cannot be used costs time alone")
    assert len(asked) == 5


def test_answers_in_the_cache_that_cannot_be_read_are_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path))
    faces = small_dataset(size=48).train
    config = TrainConfig(teachers=("default",))
    first = teachers.teachers_answers(teachers.open_teachers(config, faces), config, faces)
    (kept,) = (tmp_path / "teachers").iterdir()
    for damage in (b"", b"no array", kept.read_bytes()[:200]):
        kept.write_bytes(damage)
        again = teachers.teachers_answers(teachers.open_teachers(config, faces), config, faces)
        np.testing.assert_array_equal(again, first)


def test_cold_teachers_leave_numbers():
    """(1 / 7) ** 100 is nothing in 32 bits, and nothing by nothing is no number."""
    faces = small_dataset(size=8).train
    config = TrainConfig(teachers=("a",), teacher_share=1.0, teacher_temperature=0.01)
    even = np.full((len(faces), 7), 1 / 7, np.float32)
    np.testing.assert_allclose(training_targets(faces, config, even), even, rtol=1e-5)


@pytest.mark.parametrize("there", [False, True])
def test_teachers_are_asked_where_the_run_computes(there, monkeypatch):
    monkeypatch.setattr("ferkit.training.targets.has_accelerator", lambda: there)
    asked = []
    open_ = teachers.open_classifier
    monkeypatch.setattr(teachers, "open_classifier", lambda model, **how: asked.append(how) or open_(model))
    teachers.open_teachers(TrainConfig(teachers=("default",)), small_dataset(size=48).train)
    assert asked == [{"engine": "keras" if there else "auto"}]


@pytest.mark.slow
def test_faces_that_a_teacher_or_the_first_weights_may_know_are_warned_of(tmp_path, capsys):
    """One split at random, the other as published: most of what the second holds out was learnt by the first."""
    from ferkit.training.loop import train as aloud

    published = small_dataset(size=16)
    names = {"Training": "train", "PublicTest": "val"}
    parts = {new: replace(published.splits[old], name=new) for old, new in names.items()}
    at_random = replace(published, splits={"train": parts["val"], "val": parts["train"]}, fingerprint="drawn")
    quick = {**QUICK, "epochs": 1}
    first = train(at_random, "tutorial", out=tmp_path / "first", **quick)
    aloud(published, "tutorial", out=tmp_path / "again", init=str(first.folder), **quick)
    assert "may be training faces, and" in " ".join(capsys.readouterr().err.split())
    same = aloud(at_random, "tutorial", out=tmp_path / "same", teachers=(str(first.folder),), **quick)
    assert "training faces, and" not in capsys.readouterr().err
    said = first.classifier.card["training"]
    assert "learnt_from" not in said
    assert same.classifier.card["training"]["learnt_from"] == [said["data"]]


def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path):
    data = small_dataset(size=16)
    two_classes = small_dataset(size=16, classes=("sad", "happy"))
    teacher = train(two_classes, "tutorial", out=tmp_path / "teacher", **{**QUICK, "epochs": 1})
    for options, error, said in (
        ({"votes_weight": 0.5}, DatasetError, "--votes"),
        ({"teachers": (str(teacher.folder),)}, ModelError, "classes of the data"),
        ({"teachers": (str(tmp_path / "nothing"),)}, ModelError, "nothing"),
        (
            {"head_epochs": 3, "epochs": 3},
            UsageError,
            "head_epochs \\(3\\) must be smaller than epochs \\(3\\)\\. Use --epochs 4 or --head-epochs 0",
        ),
        ({"focal": -1.0}, UsageError, "focal"),
    ):
        with pytest.raises(error, match=said):
            train(data, "tutorial", out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
