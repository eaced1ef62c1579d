"""Labels that are likely wrong: confident learning on known cases, folds without leaks, the command."""

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from faces import face_set
from ferkit.data.loading import load_dataset, places
from ferkit.data.records import FaceSet, pixel_prints
from ferkit.data.splits import assign_folds, hold_out
from ferkit.errors import DatasetError, TrainingError
from ferkit.labels import EMOTIONS
from ferkit.training import experiments, folds
from ferkit.training.augmentation import Augmentation
from ferkit.training.folds import FoldPlan, out_of_fold
from ferkit.training.label_issues import (
    confident_classes,
    confident_learning,
    label_margins,
    write_table,
    wrong_share,
)
from ferkit.training.label_issues_page import write_page
from recognition import FirstPixelClassifier

CLASSES = ("angry", "happy", "sad")


@pytest.mark.parametrize(
    ("rows", "labels", "seems"),
    [
        pytest.param(
            [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.95, 0.05]], [0, 0, 1, 1], [0, -1, 1, 0], id="by threshold"
        ),
        # Class 1 is never given more than a half: 0.4 is much for it, as the most likely class would not show.
        pytest.param([[0.6, 0.4], [0.9, 0.1], [0.6, 0.4]], [1, 0, 0], [1, 0, 1], id="a class that is never sure"),
        pytest.param([[0.5, 0.5, 0.0]], [0], [0], id="no faces of the others"),
    ],
)
def test_classes_that_faces_seem_to_be(rows, labels, seems):
    assert confident_classes(np.array(rows, np.float32), np.array(labels)).tolist() == seems


def test_margins_and_share():
    assert label_margins(np.array([[0.75, 0.25, 0], [0.25, 0, 0.75]]), np.array([0, 0])).tolist() == [0.5, -0.5]
    assert wrong_share(np.array([[9, 1], [0, 0]]), np.array([20, 20])) == pytest.approx(0.05)


def noisy(n=700, wrong=0.1, seed=0):
    """Probabilities of a good model, and labels of which a tenth was moved on by one class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, n)
    moved = rng.random(n) < wrong
    labels = np.where(moved, (true + 1) % 3, true)
    probabilities = rng.dirichlet(np.ones(3), n) * 0.4
    probabilities[np.arange(n), true] += 0.6
    images = np.zeros((n, 4, 4, 1), np.uint8)
    faces = FaceSet(images, labels, CLASSES, "PublicTest", rows=np.arange(n) + 5)
    return faces, probabilities.astype(np.float32), moved


def test_moved_labels_are_found():
    faces, probabilities, moved = noisy()
    found = confident_learning(faces, probabilities, [f"face {i}" for i in range(len(faces))], "a model")
    assert moved[found.indices].mean() > 0.95
    assert len(found) > 0.5 * moved.sum(), "the surest half of them: a threshold is a mean"
    assert np.all(np.diff(found.margins) >= 0)
    assert found.wrong_share == pytest.approx(moved.mean(), abs=0.02)
    assert found.joint.sum() - np.trace(found.joint) == len(found)
    assert found.accuracy == pytest.approx(1 - moved.mean())


def test_a_suspect_as_a_row(tmp_path):
    faces, probabilities, _ = noisy()
    found = confident_learning(faces, probabilities, [f"face {i}" for i in range(len(faces))], "a model")
    first = int(found.indices[0])
    row = found.row(0)
    assert (row["face"], row["row"]) == (f"face {first}", first + 5)
    assert row["label"] == CLASSES[faces.labels[first]] != row["suggested"]
    assert row["self_confidence"] == pytest.approx(probabilities[first, faces.labels[first]], abs=1e-6)
    write_table(found, tmp_path / "s.csv")
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert len(rows) == len(found)
    assert list(rows[0]) == ["face", "row", "label", "suggested", "margin", "self_confidence", *CLASSES]
    assert rows[0]["suggested"] == row["suggested"]
    assert len(found.to_dict(3)["faces"]) == 3


def test_cells_of_the_table_are_harmless_unless_raw(tmp_path):
    faces, probabilities, _ = noisy(60)
    found = confident_learning(faces, probabilities, ["=1.png"] * len(faces), "a model")
    for raw, name in ((False, "'=1.png"), (True, "=1.png")):
        write_table(found, tmp_path / "s.csv", raw=raw)
        assert {row["face"] for row in csv.DictReader((tmp_path / "s.csv").open())} == {name}


def test_page(tmp_path):
    faces, probabilities, _ = noisy(60)
    found = confident_learning(faces, probabilities, ["<b>.png"] * len(faces), "<i>")
    page = write_page(found, tmp_path).read_text()
    assert page.count("<li><figure>") == len(found)
    assert "A label issue is not always a label error" in page
    assert "<b>.png" not in page
    assert "<i>" not in page
    assert {one.name for one in tmp_path.iterdir()} == {"index.html", "suspects.csv", "suspects.json", "figures"}


def test_guesses_are_called_guesses():
    faces, probabilities, _ = noisy()
    good = confident_learning(faces, probabilities, [""] * len(faces), "a model")
    poor = confident_learning(faces, np.roll(probabilities, 1, axis=1), [""] * len(faces), "a model")
    assert good.warning == ""
    assert "no more than always predicting" in poor.warning


def test_no_faces():
    faces, probabilities, _ = noisy(5)
    none = np.array([], np.int64)
    with pytest.raises(DatasetError, match="contains no face"):
        confident_learning(faces.select(none), probabilities[none], [], "a model")


def test_folds_keep_copies_together_and_spread_classes():
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 60, 200).astype(np.uint64)
    labels = (prints % 4).astype(np.int64)
    fold_of = assign_folds(prints, labels, 3, seed=1)
    for one in np.unique(prints):
        assert len(set(fold_of[prints == one])) == 1
    for label in range(4):
        sizes = np.bincount([fold_of[prints == one][0] for one in np.unique(prints[labels == label])], minlength=3)
        assert sizes.max() - sizes.min() <= 1
    assert assign_folds(prints, labels, 3, seed=2).tolist() != fold_of.tolist()


class Trained:
    """Stands for training: notes what it was given, and answers the first class."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(experiments, "train", self)
        monkeypatch.setattr(experiments, "forget_networks", lambda: None)
        monkeypatch.setattr(experiments.Experiment, "classifier", property(self.answering))

    def __call__(self, dataset, recipe, *, out, resume, quiet, on_epoch):
        self.calls.append((dataset, recipe, out, resume))

    def answering(self, experiment):
        """The network of the run that ended last."""
        assert self.calls[-1][2] == experiment.folder

        def predict_proba(faces):
            rows = np.full((len(faces), len(experiment.dataset.classes)), 0.1, np.float32)
            rows[:, 0] = len(self.calls)
            return rows

        return SimpleNamespace(predict_proba=predict_proba)


def faces_with_copies(n=63, size=48):
    """Every class nine times or more, and the first faces once more, under another label, at the end."""
    faces = face_set(n, 1, "all", size=size)
    votes = np.eye(7, dtype=np.float32)[(faces.labels + 1) % 7]
    images = np.concatenate([faces.images, faces.images[:7]])
    labels = np.concatenate([faces.labels, (faces.labels[:7] + 1) % 7])
    return FaceSet(images, labels, EMOTIONS, "all", votes=np.concatenate([votes, votes[:7]]), rows=np.arange(n + 7))


def test_no_network_is_trained_or_chosen_on_its_fold(tmp_path, monkeypatch):
    trained, faces = Trained(monkeypatch), faces_with_copies()
    probabilities = out_of_fold(faces, tmp_path / "folds", plan=FoldPlan(folds=3, epochs=2))
    assert len(trained.calls) == 3
    prints = pixel_prints(faces.images)
    answered = probabilities[:, 0]  # by which network
    for number, (dataset, recipe, _, resume) in enumerate(trained.calls, 1):
        assert (recipe.epochs, resume) == (2, False)
        own = prints[answered == number]
        train, val = (pixel_prints(dataset.splits[name].images) for name in ("train", "val"))
        assert not np.isin(own, np.concatenate([train, val])).any()
        assert not np.isin(val, train).any()
        assert len(own) + len(train) + len(val) == len(faces)
        assert dataset.train.votes is None, "the labels are in question"
    assert sorted(set(answered)) == [1, 2, 3]


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    faces = faces_with_copies()
    first = out_of_fold(faces, tmp_path, plan=FoldPlan(epochs=2)) if Trained(monkeypatch) else None
    again = Trained(monkeypatch)
    np.testing.assert_array_equal(out_of_fold(faces, tmp_path), first)
    assert again.calls == []
    # Killed in the second fold: its run has begun, its answers are cut off.
    (tmp_path / "fold-2.npy").write_bytes((tmp_path / "fold-2.npy").read_bytes()[:100])
    (tmp_path / "fold-2").mkdir()
    (tmp_path / "fold-2" / "config.json").write_text("{}")
    out_of_fold(faces, tmp_path)
    assert [(call[2].name, call[3]) for call in again.calls] == [("fold-2", True)]
    assert again.calls[0][1].epochs == 2, "as it was begun"


@pytest.mark.parametrize(
    ("faces", "plan", "said"),
    [
        pytest.param(faces_with_copies(70), None, "folds of other faces", id="other faces"),
        pytest.param(faces_with_copies(), FoldPlan(epochs=5), "--epochs 2", id="other epochs"),
        pytest.param(faces_with_copies(), FoldPlan(folds=4), "--folds 3", id="other folds"),
        pytest.param(
            faces_with_copies(),
            FoldPlan(recipe=folds.RECIPE.changed(model="tutorial", epochs=2)),
            "another recipe",
            id="recipe",
        ),
    ],
)
def test_folds_of_something_else_are_refused(tmp_path, monkeypatch, faces, plan, said):
    trained = Trained(monkeypatch)
    out_of_fold(faces_with_copies(), tmp_path, plan=FoldPlan(epochs=2))
    trained.calls.clear()
    with pytest.raises(TrainingError, match=said):
        out_of_fold(faces, tmp_path, plan=plan)
    assert trained.calls == []


def test_folds_of_an_unusual_recipe_go_on_with_it_and_say_so(tmp_path, monkeypatch):
    trained, said = Trained(monkeypatch), []
    quick = folds.RECIPE.changed(model="tutorial", epochs=2)
    for plan in (FoldPlan(recipe=quick), FoldPlan(recipe=quick), FoldPlan()):
        out_of_fold(faces_with_copies(), tmp_path, plan=plan, say=said.append)
    assert {call[1].model for call in trained.calls} == {"tutorial"}
    assert [line for line in said if "another recipe" in line] == said[3:]
    assert len(said) == 4


def test_a_rare_class_takes_no_faces_from_training(tmp_path, monkeypatch):
    """Three faces among 300: each fold chooses its epoch on a tenth, and at least one of them is trained on."""
    trained = Trained(monkeypatch)
    faces = face_set(300, 1, "all")
    labels = np.where(np.arange(300) < 3, 6, np.arange(300) % 2)
    faces = FaceSet(faces.images, labels, EMOTIONS, "all", rows=np.arange(300))
    out_of_fold(faces, tmp_path, plan=FoldPlan(folds=2, epochs=2))
    for dataset, *_ in trained.calls:
        assert len(dataset.val) == pytest.approx(len(dataset.train) / 9, abs=2)
        assert (dataset.train.labels == 6).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_one_face_is_trained_on(seed):
    labels = np.array([0] + 30 * [1] + 2 * [2])
    chosen = hold_out(np.arange(33).astype(np.uint64), labels, 0.1, seed)
    assert not chosen[0]
    assert 3 <= chosen.sum() <= 4
    assert set(labels[~chosen]) == {0, 1, 2}


def test_too_few_faces_of_a_class(tmp_path, monkeypatch):
    trained = Trained(monkeypatch)
    faces = face_set(16, 1, "all")
    with pytest.raises(DatasetError, match="Too few have: fear, happy, sad, surprise, neutral"):
        out_of_fold(faces, tmp_path / "folds")
    assert trained.calls == []
    assert not (tmp_path / "folds").exists()


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.usefixtures("no_serving_copy")
def test_folds_for_real(tmp_path):
    """Bars whose place is the class: networks of a few epochs see which labels were moved."""
    faces = face_set(210, 3, "all", classes=CLASSES, size=24)
    labels = faces.labels.copy()
    labels[:12] = (labels[:12] + 1) % 3
    faces = FaceSet(faces.images, labels, faces.classes, "all", rows=np.arange(len(labels)))
    recipe = folds.RECIPE.changed(model="tutorial", epochs=10, batch_size=16, augmentation=Augmentation())
    probabilities = out_of_fold(faces, tmp_path, plan=FoldPlan(folds=2, recipe=recipe))
    found = confident_learning(faces, probabilities, [""] * len(faces), "folds")
    assert (found.indices[:10] < 12).mean() > 0.8


@pytest.fixture
def fer(tmp_path):
    """21 faces of each split; the first of PublicTest is labelled wrongly, its last is a copy of a Training face."""
    rows = ["emotion,pixels,Usage"]
    for usage, base in (("Training", 0), ("PublicTest", 100)):
        for index in range(21):
            copied = usage == "PublicTest" and index == 20
            pixels = [10 * (index % 7), index + (0 if copied else base), *[7] * 2302]
            label = 3 if usage == "PublicTest" and index == 0 else index % 7
            rows.append(f"{label},{' '.join(map(str, pixels))},{usage}")
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def command(run_ferkit, stub_model, monkeypatch, tmp_path):
    def call(*words, model=None):
        stub_model(model or FirstPixelClassifier())
        monkeypatch.chdir(tmp_path)
        return run_ferkit("data", *words)

    return call


def test_command_with_predictions(command, fer, tmp_path):
    code, out, err = command(fer, "--label-issues", "5", "--predictions", "m", "--report", "page", "--json")
    found = json.loads(out)["suspects"]
    assert (code, found["among"], found["n"], found["suspects"]) == (0, "PublicTest", 20, 1)
    assert (found["faces"][0]["face"], found["faces"][0]["row"]) == ("row 23", 21)
    assert (found["faces"][0]["label"], found["faces"][0]["suggested"]) == ("happy", "angry")
    assert "1 face left out, with pixels that are also in the training split" in err
    assert (tmp_path / "page" / "index.html").is_file()
    code, out, err = command(fer, "--suspects", "all.csv", "--predictions", "m", "--among", "all")
    assert (code, len((tmp_path / "all.csv").read_text().splitlines())) == (0, 2)
    assert re.search(r"Label issues +1  2\.4% of 42 faces", out)
    assert "row 23" in out


def page_of(tmp_path):
    return (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("among", "n", "said"),
    [
        pytest.param([], 20, "none has the pixels of a training face", id="not training"),
        pytest.param(["--among", "PublicTest"], 20, "none has the pixels of a training face", id="a split"),
        pytest.param(["--among", "val"], 20, "none has the pixels of a training face", id="by its other name"),
        pytest.param(["--among", "all"], 42, "were said not to have seen these faces", id="all"),
        pytest.param(["--among", "train"], 21, "were said not to have seen these faces", id="training"),
    ],
)
def test_copies_of_training_faces_are_left_out(command, fer, tmp_path, among, n, said):
    """And the page says how the answers came about."""
    code, out, err = command(fer, "--label-issues", "5", "--predictions", "m", *among, "--report", "page", "--json")
    assert (code, json.loads(out)["suspects"]["n"]) == (0, n)
    assert ("1 face left out" in err) == (n == 20)
    assert said in page_of(tmp_path)


@pytest.mark.slow
def test_command_with_folds(command, fer, tmp_path, monkeypatch):
    trained = Trained(monkeypatch)
    for _ in range(2):
        code, out, err = command(fer, "--label-issues", "3", "--epochs", "2", "--json")
        assert (code, json.loads(out)["suspects"]["n"]) == (0, 42), err
    command(fer, "--label-issues", "3", "--report", "page")
    assert "trained on it, nor on a copy with the same pixels" in page_of(tmp_path)
    assert len(trained.calls) == 3
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("label-issues-fer2013-")


def card_of(dataset, **changes):
    data = {"source": "fer2013.csv.gz", "fingerprint": dataset.fingerprint, "faces": dict.fromkeys(dataset.splits, 1)}
    return {"training": {"data": data | changes}}


@pytest.mark.parametrize(
    ("words", "changes", "code", "said"),
    [
        pytest.param(["--among", "all"], {}, 1, "was trained on the training faces of fer2013.csv", id="all"),
        pytest.param(["--among", "train"], {"fingerprint": "x"}, 1, "repeat the labels", id="another copy"),
        pytest.param([], {"fingerprint": "x", "faces": {"train": 1, "val": 1}}, 1, "other splits", id="random split"),
        pytest.param([], {"fingerprint": "x"}, 0, "", id="published split"),
        pytest.param(["--among", "all"], {"fingerprint": "x", "source": "mine"}, 0, "", id="other data"),
    ],
)
def test_models_that_have_seen_the_faces(command, fer, words, changes, code, said):
    model = FirstPixelClassifier(card=card_of(load_dataset(fer), **changes))
    left, _, err = command(fer, "--label-issues", "5", "--predictions", "m", *words, model=model)
    assert left == code
    assert said in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["--label-issues", "0"], 2, "at least 1", id="none"),
        pytest.param(["--label-issues", "out.txt"], 2, "a file .csv", id="not a csv"),
        pytest.param(["--label-issues", "\N{SUPERSCRIPT TWO}"], 2, "a file .csv", id="superscript"),
        pytest.param(["--label-issues", "+-5"], 2, "a file .csv", id="two signs"),
        pytest.param(["--label-issues", "5" * 5000], 2, "a file .csv", id="no number of faces"),
        pytest.param(["--report", "page"], 2, "--report is for label issues", id="page of nothing"),
        pytest.param(["--label-issues", "5", "--predictions", "m", "--folds", "3"], 2, "nothing is trained", id="both"),
        pytest.param(["--label-issues", "5", "--folds", "1"], 2, "folds must be at least 2", id="one fold"),
        pytest.param(["--label-issues", "5", "--epochs", "0"], 2, "epochs must be at least 1", id="no epoch"),
        pytest.param(["--label-issues", "5", "--predictions", "m", "--among", "x"], 2, "Unknown split 'x'", id="split"),
    ],
)
def test_words_that_make_no_sense(command, fer, words, code, said):
    left, _, err = command(fer, *words)
    assert left == code
    lines = [line for line in err.splitlines() if line.startswith("ferkit:")]
    assert len(lines) == 1
    assert said in lines[0]


def test_places_lead_to_the_face(tmp_path, fer):
    faces = load_dataset(fer).val
    assert places(fer, faces.rows)[:2] == ["row 23", "row 24"]
    lines = fer.read_text().splitlines()
    assert lines[int(places(fer, faces.rows)[4].split()[1]) - 1].endswith("PublicTest")

    import cv2

    for split in ("train", "test"):
        for number, name in enumerate(("happy", "sad")):
            folder = tmp_path / "folder" / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                pixels = np.full((8, 8), 100 * number + 10 * index + 50 * (split == "test"), np.uint8)
                cv2.imwrite(str(folder / f"{index}.png"), pixels)
    faces = load_dataset(tmp_path / "folder").test
    for face, where in zip(faces.images, places(tmp_path / "folder", faces.rows), strict=True):
        assert where.startswith("test/")
        assert cv2.imread(str(tmp_path / "folder" / where), 0)[0, 0] == face[0, 0, 0]
