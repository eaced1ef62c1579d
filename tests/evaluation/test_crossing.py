"""Models on data with other classes: label maps, what is left out, the choice restricted to shared classes."""

import json

import cv2
import numpy as np
import pytest

from ferkit.data.records import FaceSet
from ferkit.errors import DatasetError, FerkitError, ModelError, UsageError
from ferkit.evaluation.cross_dataset import cross_dataset_report, match_classes, read_label_map
from ferkit.evaluation.report import evaluate, measure
from ferkit.render import DataTable
from recognition import FirstPixelClassifier


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("anger=angry,contempt=", {"angry": "angry", "contempt": ""}, id="inline"),
        pytest.param(" Joy = Happiness , *=", {"happy": "happy", "*": ""}, id="aliases, spaces, all others"),
    ],
)
def test_label_map_inline(text, found):
    assert read_label_map(text) == found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"Boredom": "neutral", "contempt": null}', id="json"),
        pytest.param("# of ours\nboredom=neutral\n\ncontempt=  # nobody knows\n", id="lines"),
        pytest.param("\ufeffboredom=neutral\r\ncontempt=\r\n", id="as Windows writes it"),
    ],
)
def test_label_map_in_a_file(tmp_path, text):
    path = tmp_path / "map.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_label_map(str(path)) == {"boredom": "neutral", "contempt": ""}


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        pytest.param("contempt", UsageError, "Received: 'contempt'", id="no equals sign"),
        pytest.param("", UsageError, "Received: ''", id="nothing"),
        pytest.param("=angry", UsageError, "like anger=angry", id="no name"),
        pytest.param("a=sad,a=", UsageError, "sends a to 'sad' and to ''", id="two ways"),
        pytest.param("FILE", DatasetError, "is not a label map", id="not JSON"),
    ],
)
def test_label_maps_that_make_no_sense(tmp_path, text, error, said):
    (tmp_path / "map.json").write_text('{"a": 3}')
    with pytest.raises(error, match=said):
        read_label_map(str(tmp_path / "map.json") if text == "FILE" else text)


def faces_of(labels, classes, **options):
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    return FaceSet(images, np.array(labels, np.int64), tuple(classes), "val", rows=np.arange(len(labels)), **options)


def test_classes_match_by_name_alias_and_map():
    faces = faces_of([0, 1, 2, 3, 1, 0], ["anger", "boredom", "contempt", "Joy"])
    found, matched = match_classes(("sad", "angry", "happy"), faces, {"boredom": "sad", "contempt": ""})
    assert matched.mapped == {"angry": "angry", "boredom": "sad", "happy": "happy"}
    assert (matched.left_out, matched.absent, matched.same) == ({"contempt": 1}, (), False)
    assert matched.counts == {"angry": 2, "boredom": 2, "contempt": 1, "happy": 1}
    assert [found.classes[label] for label in found.labels] == ["angry", "sad", "happy", "sad", "angry"]
    assert found.rows.tolist() == [0, 1, 3, 4, 5]
    assert "boredom counts as sad, contempt (1 face) is left out" in matched.note


def test_two_names_of_one_class_count_together():
    faces = faces_of([0, 1, 2, 1], ["anger", "angry", "boredom"])
    found, matched = match_classes(("happy", "angry"), faces, {"boredom": "happy"})
    assert matched.counts == {"angry": 3, "boredom": 1}
    assert [found.classes[label] for label in found.labels] == ["angry", "angry", "happy", "angry"]


def test_the_same_classes_need_no_word():
    votes = np.eye(2, dtype=np.float32)[[0, 1]]
    faces = faces_of([0, 1], ["sad", "happy"], votes=votes)
    found, matched = match_classes(("happy", "sad"), faces)
    assert found is faces
    assert matched.same
    assert matched.note == ""


@pytest.mark.parametrize(
    ("label_map", "error", "said"),
    [
        pytest.param({}, ModelError, "--label-map contempt= leaves contempt out", id="not said"),
        pytest.param({"contmpt": ""}, DatasetError, "names 'contmpt', and the data has", id="misspelt"),
        pytest.param({"contempt": "sadd"}, UsageError, "names 'sadd'", id="not of the model"),
        pytest.param({"*": "", "sad": ""}, DatasetError, "no face of val is of one of these", id="nothing left"),
    ],
)
def test_what_is_asked_for(label_map, error, said):
    with pytest.raises(error, match=said) as raised:
        match_classes(("happy", "sad"), faces_of([0, 1], ["contempt", "sad"]), label_map)
    assert "\n" not in str(raised.value)


def test_the_choice_restricted_to_shared_classes():
    """The model calls one happy face neutral, which the data does not have; second best is right."""
    faces = faces_of([0, 0, 1], ["happy", "sad"])
    rows = np.array([[0.9, 0.05, 0.05], [0.3, 0.1, 0.6], [0.2, 0.7, 0.1]], np.float32)
    _, matched = match_classes(("happy", "sad", "neutral"), faces)
    whole = faces_of([0, 0, 1], ["happy", "sad", "neutral"])
    found = cross_dataset_report(measure(rows, whole, model="m", seconds=1.0), matched)
    assert matched.absent == ("neutral",)
    assert found.everything.accuracy == pytest.approx(2 / 3)
    assert found.common.accuracy == 1.0
    assert found.common.classes == ("happy", "sad")
    np.testing.assert_allclose(found.common.probabilities[1], [0.75, 0.25], atol=1e-6)
    document = found.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["all_classes"]["accuracy"], document["common_classes"]["accuracy"]) == (pytest.approx(2 / 3), 1)


@pytest.mark.parametrize(
    ("labels", "restricted"),
    [
        pytest.param([0, 1, 2], False, id="all shared"),
        pytest.param([0, 1, 1], True, id="some"),
        pytest.param([1, 1, 1], False, id="one"),
    ],
)
def test_where_there_is_nothing_to_restrict(labels, restricted):
    faces = faces_of(labels, ["happy", "sad", "neutral"])
    _, matched = match_classes(faces.classes, faces)
    rows = np.full((3, 3), 1 / 3, np.float32)
    found = cross_dataset_report(measure(rows, faces, model="m", seconds=1.0), matched)
    assert (found.restricted is not None) == restricted
    assert (found.to_dict()["common_classes"] is None) == (len(set(labels)) == 1)
    assert [block.folded for block in found.section().blocks if isinstance(block, DataTable)][-1] == "Class mapping"


def test_probabilities_that_are_all_elsewhere():
    faces = faces_of([0, 1], ["happy", "sad", "neutral"])
    _, matched = match_classes(faces.classes, faces)
    report = measure(np.array([[0, 0, 1], [0, 1, 0]], np.float32), faces, model="m", seconds=1.0)
    assert cross_dataset_report(report, matched).common.probabilities.tolist() == [[0.5, 0.5], [0, 1]]


@pytest.fixture
def folder(tmp_path):
    """Four faces each, in the names of another set: three are right, and the last is called neutral."""
    for name, number in (("happiness", 3), ("sadness", 4), ("boredom", 6)):
        place = tmp_path / "data" / "test" / name
        place.mkdir(parents=True)
        for index in range(4):
            pixels = np.full((48, 48), 10 * (6 if index == 3 else number) + index, np.uint8)
            cv2.imwrite(str(place / f"{index}.png"), pixels)
    return tmp_path / "data"


@pytest.fixture
def command(run_ferkit, stub_model):
    stub_model(FirstPixelClassifier())
    return lambda *words: run_ferkit("evaluate", "m", *words)


def test_command(command, folder, monkeypatch):
    asked = []
    monkeypatch.setattr("ferkit.evaluation.write_report", lambda *said, **more: asked.append(said[0].parts) or "page")
    code, out, err = command(folder, "--label-map", "boredom=", "--json", "--report", "page")
    document = json.loads(out)
    assert (code, document["n"], document["accuracy"]) == (0, 8, 0.75)
    assert document["crossing"]["left_out"] == {"boredom": 4}
    assert document["crossing"]["absent"] == ["angry", "disgust", "fear", "surprise", "neutral"]
    assert document["crossing"]["common_classes"]["n"] == 8
    assert [one.key for one in asked[0]] == ["crossing"]
    assert "boredom (4 faces) is left out" in err
    code, out, _ = command(folder, "--label-map", "boredom=neutral")
    assert code == 0
    assert "boredom counts as neutral" in " ".join(out.split())
    assert "the 3 shared" in out


def test_a_table_of_groups_names_the_classes_of_the_data(command, folder, tmp_path):
    """Where boredom is left out, its rows are of faces that are there all the same, and not measured."""
    table = tmp_path / "people.csv"
    names = ("happiness", "sadness", "boredom")
    rows = [f"test/{name}/{index}.png,{name},{index % 2}" for name in names for index in range(4)]
    table.write_text("\n".join(["file,label,side", *rows]))
    code, out, err = command(folder, "--label-map", "boredom=", "--groups", table, "--json")
    assert code == 0, err
    found = json.loads(out)["groups"]
    assert found["note"].startswith("people.csv names 12 of the 12 faces of test; 4 file names of several")
    side = found["columns"]["side"]
    assert {name: one["n"] for name, one in side["groups"].items()} == {"0": 4, "1": 4}
    assert side["groups"]["1"]["accuracy"] == 0.5, "every fourth face is read wrongly"
    code, out, err = command(folder, "--label-map", "boredom=neutral", "--groups", table, "--json")
    assert code == 0, err
    assert json.loads(out)["groups"]["columns"]["side"]["groups"]["0"]["n"] == 6


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param([], 1, "--label-map boredom= leaves boredom out", id="not said"),
        pytest.param(["--label-map", "boredom=tired"], 2, "names 'tired'", id="class"),
        pytest.param(["--label-map", "bored="], 1, "names 'bored', and the data has", id="misspelt"),
        pytest.param(["--label-map", "boredom"], 2, "A label map is a file", id="no map"),
    ],
)
def test_what_the_command_refuses(command, folder, words, code, said):
    left, out, err = command(folder, *words)
    assert (left, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("ferkit:")]
    assert said in line


def test_as_evaluate_reports_it():
    """`evaluate` itself still refuses what it does not know."""
    with pytest.raises(FerkitError, match="must know every class"):
        evaluate(FirstPixelClassifier(), faces_of([0], ["boredom"]))
