"""Reports: the JSON contract, class order, duplicates, test-time augmentation."""

import json

import numpy as np
import pytest

import ferkit.models.classifier
from dataset_files import row, write_csv
from faces import face_set
from ferkit.data.records import FaceSet
from ferkit.errors import DatasetError, ModelError, UsageError
from ferkit.evaluation.report import evaluate, measure
from ferkit.labels import EMOTIONS
from ferkit.models.tta import TTA
from ferkit.render import to_text
from ferkit.sources.images import FaceInput
from recognition import FirstPixelClassifier


class Told:
    """Answers what the first pixel of a face says: class `value // 10` with confidence 0.8."""

    name = "told"

    def __init__(self, classes=("angry", "happy", "sad"), face_input=None):
        self.classes = classes
        self.face_input = face_input or FaceInput(4, 4, 1)
        self.seen = []

    def predict_proba(self, faces, /):
        self.seen.append(faces)
        rows = np.full((len(faces), len(self.classes)), 0.2 / (len(self.classes) - 1), np.float32)
        rows[np.arange(len(faces)), faces[:, 0, 0, 0] // 10] = 0.8
        return rows


def faces_that_say(answers, labels, classes=("angry", "happy", "sad"), **options):
    images = np.zeros((len(answers), 4, 4, 1), np.uint8)
    images[:] = np.reshape(answers, (-1, 1, 1, 1)) * 10
    return FaceSet(images, np.array(labels, np.int64), classes, "PublicTest", **options)


def test_json_keeps_the_contract():
    duplicate = np.array([True, False, False, False, False])
    document = evaluate(Told(), faces_that_say([0, 0, 1, 1, 0], [0, 0, 1, 0, 1], duplicate=duplicate)).to_dict()
    assert list(document) == [
        "model", "split", "n", "accuracy", "accuracy_ci95", "macro_f1", "balanced_accuracy", "nll", "ece",
        "per_class", "confusion", "without_duplicates", "faces_per_second", "coverage", "tta", "truth",
    ]  # fmt: skip
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["model"] == "told"
    assert (document["tta"], document["truth"]) == (None, "labels")
    assert document["split"] == "PublicTest"
    assert (document["n"], document["accuracy"]) == (5, 0.6)
    assert document["accuracy_ci95"] == pytest.approx([0.2307, 0.8824], abs=1e-4)
    assert document["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert list(document["per_class"]) == ["angry", "happy", "sad"]
    assert document["per_class"]["angry"] == {
        "precision": 2 / 3, "recall": 2 / 3, "f1": pytest.approx(2 / 3), "n": 3
    }  # fmt: skip
    assert document["per_class"]["sad"] == {"precision": None, "recall": None, "f1": None, "n": 0}
    assert document["macro_f1"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert document["balanced_accuracy"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert document["ece"] == pytest.approx(0.2, abs=1e-6)
    assert document["nll"] == pytest.approx(-(3 * np.log(0.8) + 2 * np.log(0.1)) / 5, abs=1e-6)
    assert document["without_duplicates"] == {"n": 4, "accuracy": 0.5, "macro_f1": 0.5}
    assert document["faces_per_second"] > 0
    # Told is always 80 % sure, and right on 3 of 5.
    assert document["coverage"][-2:] == [
        {"min_confidence": 0.8, "n": 5, "coverage": 1.0, "accuracy": 0.6, "accuracy_ci95": document["accuracy_ci95"],
         "balanced_coverage": 1.0, "balanced_accuracy": pytest.approx((2 / 3 + 0.5) / 2)},
        {"min_confidence": 0.9, "n": 0, "coverage": 0.0, "accuracy": None, "accuracy_ci95": None,
         "balanced_coverage": 0.0, "balanced_accuracy": None},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("duplicate", "expected"),
    [
        pytest.param(None, None, id="not looked for"),
        pytest.param([True, True], None, id="nothing left"),
        pytest.param([False, False], {"n": 2, "accuracy": 0.5, "macro_f1": 1 / 3}, id="none found: the same figures"),
        pytest.param([False, True], {"n": 1, "accuracy": 1.0, "macro_f1": 1.0}, id="the wrong one dropped"),
    ],
)
def test_without_duplicates(duplicate, expected):
    marks = None if duplicate is None else np.array(duplicate)
    document = evaluate(Told(), faces_that_say([0, 0], [0, 1], duplicate=marks)).to_dict()
    assert document["without_duplicates"] == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("sad", "happy", "angry"), id="another order"),
        pytest.param(("sadness", "Happy", "anger"), id="another order and other names for the same"),
    ],
)
def test_classes_in_another_order_are_mapped(names):
    # The model's output 0 is sad, which is class 2 of the data.
    report = evaluate(Told(names), faces_that_say([0, 1, 2], [2, 1, 0]))
    assert report.accuracy == 1.0
    assert report.classes == ("angry", "happy", "sad")
    assert report.probabilities.argmax(axis=1).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("angry", "happy"), id="one less"),
        pytest.param(("angry", "happy", "bored"), id="another"),
    ],
)
def test_other_classes_are_an_error_of_one_line(names):
    with pytest.raises(ModelError, match=r"told knows angry, happy.*the data has angry, happy, sad") as caught:
        evaluate(Told(names), faces_that_say([0], [0]))
    assert "\n" not in str(caught.value)


def test_data_may_lack_classes_of_the_model():
    """The model's fourth answer is wrong whatever the face, and keeps its probability."""
    votes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    model = Told(("fear", "sad", "anger", "happy"))
    report = evaluate(model, faces_that_say([2, 0, 1], [0, 1, 2], votes=votes))
    assert report.classes == ("angry", "happy", "sad", "fear")
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert report.probabilities.sum(axis=1) == pytest.approx(1)
    assert report.balanced_accuracy == pytest.approx(2 / 3), "fear has no face and counts in no mean"
    assert report.faces.votes.shape == (3, 4)
    assert "No face is labelled fear; such predictions count as wrong." in str(report)
    assert report.to_dict()["per_class"]["fear"]["n"] == 0


def test_without_absent_classes_there_is_no_note():
    assert evaluate(Told(), faces_that_say([0, 1, 2], [0, 1, 2])).note == ""


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        pytest.param(faces_that_say([], []), "PublicTest has no faces", id="no face"),
        pytest.param(
            FaceSet(np.zeros((1, 8, 4, 3), np.uint8), np.array([0]), ("angry", "happy", "sad"), "val"),
            "takes faces of 4x4x1; the data has 8x4x3",
            id="another size",
        ),
    ],
)
def test_faces_that_cannot_be_measured(faces, message):
    with pytest.raises(DatasetError, match=message):
        evaluate(Told(), faces)


def test_flip_is_the_mean_of_a_face_and_its_mirror_image():
    faces = faces_that_say([1], [1])
    faces.images[0, 0, -1, 0] = 20  # mirrored, it says sad
    model = Told()
    report = evaluate(model, faces, tta="flip")
    assert report.tta == "flip"
    assert report.probabilities[0] == pytest.approx([0.1, 0.45, 0.45])
    assert np.array_equal(model.seen[1], faces.images[:, :, ::-1])


def test_unknown_tta_names_the_choices():
    with pytest.raises(UsageError, match=f"Did you mean 'flip'.*{', '.join(TTA)}"):
        evaluate(Told(), faces_that_say([0], [0]), tta="flop")


VOTES = np.array([[0.5, 0.4, 0.1], [0, 0.5, 0.5], [0, 1, 0], [0.2, 0.2, 0.6], [0, 1, 0]], np.float32)


@pytest.mark.parametrize(
    ("voted", "answers", "labels", "said"),
    [
        pytest.param(None, [0, 1, 2, 0], [0, 1, 2, 1], "0 without a vote for any class, 1 with a tie", id="tie"),
        pytest.param(
            [True, True, False, True, True],
            [0, 2, 0],
            [0, 2, 1],
            "1 without a vote for any class, 1 with a tie",
            id="nobody voted",
        ),
        pytest.param(
            [True, False, True, True, True], [0, 1, 2, 0], [0, 1, 2, 1], "1 without a vote for any class, 0 with a tie",
            id="nobody voted on what would be a tie",
        ),
    ],
)  # fmt: skip
def test_the_truth_may_be_what_voters_saw(voted, answers, labels, said):
    """The labels are all angry, the answers are the first pixel."""
    duplicate = np.array([True, False, False, False, False])
    marks = None if voted is None else np.array(voted)
    faces = faces_that_say([0, 1, 1, 2, 0], [0] * 5, votes=VOTES, duplicate=duplicate, voted=marks)
    kept, note = faces.by_votes()
    assert said in note
    assert kept.labels.tolist() == labels
    report = evaluate(Told(), faces, truth="votes")
    assert (report.split, report.truth, report.n) == ("PublicTest", "votes", len(labels))
    assert report.accuracy == np.mean(np.equal(answers, labels))
    assert report.without_duplicates.n == len(labels) - 1
    assert report.to_dict()["truth"] == "votes"
    assert "FER+ majority labels" in str(report)
    assert evaluate(Told(), faces).truth == "labels"


def test_votes_that_are_not_there_or_unknown_truths():
    with pytest.raises(DatasetError, match=r"has no FER\+ votes"):
        evaluate(Told(), faces_that_say([0], [0]), truth="votes")
    with pytest.raises(UsageError, match="Choices: labels, votes"):
        evaluate(Told(), faces_that_say([0], [0]), truth="vote")


def test_a_path_is_loaded(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(ferkit.models.classifier.EmotionClassifier, "load", lambda path: asked.append(path) or Told())
    assert evaluate(tmp_path, faces_that_say([0], [0])).model == "told"
    assert evaluate("default", faces_that_say([0], [0])).accuracy == 1.0
    assert asked == [tmp_path, "default"]


def test_people_get_the_same_figures_as_tables():
    duplicate = np.array([True, False, False, False, False])
    faces = faces_that_say([0, 0, 1, 1, 0], [0, 0, 1, 0, 1], duplicate=duplicate)
    text = str(evaluate(Told(), faces, tta="flip"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith("told on PublicTest: 5 faces, flip views")
    assert any(line.startswith("Accuracy 60.0% 95% interval: 23.1% to 88.2%.") for line in lines)
    assert "Without duplicates 4 50.0% 0.500" in lines
    assert "angry 3 0.667 0.667 0.667 happy (33%)" in lines
    assert "sad 0 - - - -" in lines
    assert "angry 2 1 0" in lines
    assert "0.8 100.0% 60.0% 23.1% to 88.2% 100.0% 58.3%" in lines
    assert "0.9 0.0% - - 0.0% -" in lines
    assert max(map(len, text.splitlines())) <= 100


def test_seven_classes_fit_an_old_terminal(rng):
    from ferkit.labels import EMOTIONS

    faces = FaceSet(np.zeros((700, 4, 4, 1), np.uint8), np.arange(700) % 7, EMOTIONS, "PrivateTest")
    report = measure(rng.dirichlet(np.ones(7), 700).astype(np.float32), faces, model="m", seconds=1.0)
    assert max(map(len, to_text(report.document(), 80).splitlines())) <= 80
    assert report.faces_per_second == 700


def test_names_with_brackets_are_no_markup():
    faces = faces_that_say([0], [0], classes=("[red]a", "b", "c"))
    assert "[red]a" in str(evaluate(Told(("[red]a", "b", "c")), faces))


def test_many_classes_leave_the_matrix_to_the_page():
    names = tuple(f"c{i:02}" for i in range(20))
    report = evaluate(Told(names), faces_that_say([0, 3], [0, 4], classes=names))
    assert "predicted" not in str(report)


def test_ferplus_is_evaluated_in_its_eight_classes(tmp_path):
    """The first pixel says the class: contempt of one face, happy of two others, and no majority of the last."""
    faces = np.zeros((4, 48, 48, 1), np.uint8)
    faces[:, 0, 0, 0] = [70, 30, 30, 0]
    data = write_csv(tmp_path / "f.csv", [row(face, 0, "PublicTest") for face in faces])
    votes = tmp_path / "votes.csv"
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = ["0,0,0,0,0,0,0,9,1,0", "0,9,0,0,0,0,0,0,0,0", "9,0,0,0,0,0,0,0,0,0", "5,5,0,0,0,0,0,0,0,0"]
    votes.write_text("\n".join([header, *(f"PublicTest,a,{one}" for one in rows)]) + "\n")
    options = {"split": "PublicTest", "votes": votes, "truth": "ferplus"}
    report = evaluate(FirstPixelClassifier((*EMOTIONS, "contempt")), data, **options)
    assert (report.n, report.accuracy, report.truth) == (3, pytest.approx(2 / 3), "ferplus")
    assert report.to_dict()["per_class"]["contempt"]["recall"] == 1
    with pytest.raises(ModelError, match="--label-map contempt= leaves contempt out"):
        evaluate(FirstPixelClassifier(), data, **options)
    seven = evaluate(FirstPixelClassifier(), data, **options, label_map={"contempt": ""})
    assert (seven.n, seven.accuracy) == (2, 0.5)
    with pytest.raises(UsageError, match="truth='ferplus'"):
        evaluate(FirstPixelClassifier(), face_set(7, 1, "val"), truth="ferplus")
    with pytest.raises(UsageError, match="--truth ferplus needs the votes"):
        evaluate(FirstPixelClassifier(), data, truth="ferplus")
