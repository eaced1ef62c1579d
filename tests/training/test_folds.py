"""The referee: recipes trained on the same folds and compared on all training faces."""

import json

import numpy as np
import pytest

from faces import small_dataset
from ferkit._support.files import cache_folder
from ferkit.data.loading import load_dataset
from ferkit.data.records import pixel_prints
from ferkit.errors import TrainingError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.out_of_fold import OutOfFold, write_answers
from ferkit.sources.images import FaceInput
from ferkit.training import targets
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import TrainConfig
from ferkit.training.folds import train_folds
from ferkit.training.step import batches_of

pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("no_serving_copy", "tiny_network")]
DATA = small_dataset(size=8)
QUICK = {"model": "tiny", "epochs": 1, "batch_size": 16}


@pytest.mark.slow
def test_folds_answer_out_of_fold_and_go_on(tmp_path):
    found = train_folds(DATA, "tutorial", 2, out=tmp_path / "f", **QUICK)
    model = OutOfFold.load(tmp_path / "f")
    fold_of, answers = model.fold_of(DATA.train.images), model.predict_proba(DATA.train.images)
    for fold in range(2):
        own = EmotionClassifier.load(tmp_path / "f" / f"fold-{fold + 1}").predict_proba(DATA.train.images)
        np.testing.assert_allclose(answers[fold_of == fold], own[fold_of == fold], atol=1e-6)
    assert (found.report.n, found.report.split) == (64, "Training")
    with pytest.raises(TrainingError, match=r"holds folds already\. Go on with --resume"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "f", **QUICK)
    with pytest.raises(TrainingError, match="begun with another recipe"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "f", resume=True, **{**QUICK, "epochs": 2})
    again = train_folds(DATA, "tutorial", 2, out=tmp_path / "f", resume=True, **QUICK)
    np.testing.assert_array_equal(again.report.probabilities, found.report.probabilities)
    with pytest.raises(TrainingError, match="nothing to resume"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "none", resume=True, **QUICK)


@pytest.mark.slow
def test_one_command_compares_two_recipes(run_ferkit, table, tmp_path):
    words = ["tutorial model=tiny epochs=1 batch_size=8", "better model=tiny epochs=4 batch_size=8"]
    recipes = words
    words = ["compare", *recipes, table, "--folds", 2, "--out", tmp_path / "c", "--json"]
    code, printed, said = run_ferkit(*words)
    assert code == 0, said
    document = json.loads(printed)
    assert (document["split"], document["n"]) == ("Training", 35)
    assert [document[one]["model"] for one in "ab"] == recipes
    faces = load_dataset(table).train
    answers = [OutOfFold.load(tmp_path / "c" / name).predict_proba(faces.images).argmax(axis=1) for name in "ab"]
    right = [(one == faces.labels).mean() for one in answers]
    assert document["difference"] == pytest.approx(right[1] - right[0])
    assert (answers[0] != answers[1]).any()
    assert json.loads(run_ferkit(*words)[1])["answers"] == document["answers"], "from what is there"
    words = ["compare", tmp_path / "c" / "a", tmp_path / "c" / "b", table, "--split", "Training", "--json"]
    assert json.loads(run_ferkit(*words)[1])["answers"] == document["answers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["compare", "strong mixup", "strong", "--folds", "2"], "A setting is NAME=VALUE", id="setting"),
        pytest.param(["compare", "strnog", "strong", "--folds", "2"], "Did you mean 'strong'", id="recipe"),
        pytest.param(["compare", "strong", "better", "--folds", "1"], "folds must be at least 2", id="one fold"),
        pytest.param(["compare", "default", "fer2013", "--out", "x"], "--out is for the runs of --folds", id="models"),
        pytest.param(
            ["compare", "strong", "better", "--folds", "2", "--split", "val"], "Leave --split", id="another split"
        ),
        pytest.param(["train", "--folds", "2", "--seeds", "1,2"], "Use one of them", id="seeds"),
        pytest.param(["train", "--folds", "2", "--report"], "Leave them out, or --folds", id="report"),
    ],
)
def test_what_cannot_be_is_refused_at_once(run_ferkit, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = 3 if words[0] == "compare" else 1
    code, _, printed = run_ferkit(*words[:place], "none.csv", *words[place:])
    assert code == 2
    assert said in printed
    assert not list(tmp_path.iterdir())


def test_folds_are_checked_before_anything(tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        train_folds(DATA, "tutorial", 1, out=tmp_path / "f", **QUICK)
    assert not list(tmp_path.iterdir())


class _Member:
    """Stands for a network: answers one class, whatever it is shown."""

    classes, face_input = EMOTIONS, FaceInput(8, 8, 1)

    def __init__(self, label):
        self.name, self.label = f"says {label}", label

    def predict_proba(self, faces, /):
        return np.tile(np.eye(7, dtype=np.float32)[self.label], (len(faces), 1))


def test_the_bank_has_each_view_answered_by_who_did_not_see_the_face(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(targets, "_identity", lambda teacher: teacher)
    faces, fold_of = DATA.train, np.arange(64) % 2
    teacher = OutOfFold([_Member(0), _Member(1)], pixel_prints(faces.images), fold_of, "folds")
    config = TrainConfig(teachers=("folds",), teacher_views=3, augmentation=Augmentation(shift=0.3, flip=True))
    views, answers = targets.view_bank([teacher], config, faces, lambda text: None)
    assert [one.dtype for one in views] == 3 * [np.uint8]
    assert isinstance(views[0], np.memmap)
    assert len({one.tobytes() for one in [faces.images, *views]}) == 4, "four different views"
    for one in answers:
        assert one.argmax(axis=1).tolist() == fold_of.tolist()
    # What is there is taken; what is missing is made as it was.
    made = {path.name: path.read_bytes() for path in tmp_path.rglob("*.npy")}
    next(tmp_path.rglob("1.npy")).unlink()
    monkeypatch.setattr(OutOfFold, "answers", None)
    again, _ = targets.view_bank([], config.changed(teacher_views=2, seed=7), faces, lambda text: None)
    np.testing.assert_array_equal(again[1], views[1])
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.npy")} == made


def test_every_epoch_shows_each_face_in_another_view():
    """Pixels say which view and which face it is; so do the targets."""
    views = [
        np.full((6, 2, 2, 1), 10 * view, np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
        for view in range(3)
    ]
    wanted = [one[:, 0, 0].astype(np.float32) for one in views]
    batches = batches_of(views, wanted, 3, TrainConfig())
    seen = []
    for epoch in range(1, 4):
        batches.shuffle(epoch)
        for images, answers in (batches[0], batches[1]):
            np.testing.assert_array_equal(images[:, 0, 0], answers)
            seen += answers[:, 0].tolist()
        assert sorted(int(one) % 10 for one in seen[-6:]) == list(range(6))
    assert sorted(seen) == sorted(float(10 * view + face) for view in range(3) for face in range(6))


@pytest.mark.slow
def test_the_chain_from_folds_to_a_student(run_ferkit, table, tmp_path, monkeypatch):
    """Two kinds of teachers out of fold, a file of answers, a bank of views, one student; cut off and gone on with."""
    monkeypatch.chdir(tmp_path)
    quick = ["--model", "tiny", "--epochs", "2", "--batch-size", "8"]
    for recipe in ("tutorial", "better"):
        code, _, said = run_ferkit(
            "train", table, "--recipe", recipe, *quick, "--folds", "2", "--out", f"runs/{recipe}"
        )
        assert code == 0, said
    faces = load_dataset(table).train
    write_answers("answers.npz", faces, np.eye(7, dtype=np.float32)[faces.labels])
    teachers = [word for one in ("runs/tutorial", "runs/better", "answers.npz") for word in ("--teacher", one)]
    student = [*quick, *teachers, "--set", "teacher_views=2", "--set", "teacher_tta=none", "--set", "teacher_share=0.9"]
    student = ["train", table, "--recipe", "better", *student, "--out", "runs/student"]
    code, _, said = run_ferkit(*student)
    assert code == 0, said
    assert "View 2 of 2" in said
    ours = [OutOfFold.load(f"runs/{one}") for one in ("tutorial", "better")]
    view = np.load(next(cache_folder().rglob("views/*/0.npy")))
    expected = np.mean([*(one.answers(view, faces.images) for one in ours), np.eye(7)[faces.labels]], axis=0)
    stored = [np.load(path) for path in (cache_folder() / "teachers").glob("*.npy")]
    assert len(stored) == 2
    assert min(np.abs(one - expected).max() for one in stored) < 1e-5
    card = EmotionClassifier.load("runs/student").card["training"]
    assert len(card["learnt_from"]) == 2, "the folds without the first and without the second"
    assert run_ferkit(*student, "--resume")[0] == 0
