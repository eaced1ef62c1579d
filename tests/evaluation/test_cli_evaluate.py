"""`ferkit evaluate`: what leaves on which stream, with which exit code."""

import json

import numpy as np
import pytest

from ferkit.data.loading import load_dataset
from ferkit.labels import EMOTIONS
from ferkit.sources.images import FaceInput
from ferkit.training.run_folder import about
from recognition import FirstPixelClassifier


@pytest.fixture
def csv(tmp_path):
    """Seven faces of each split; one face of PublicTest is labelled wrongly and one is a copy of a Training face."""
    rows = ["emotion,pixels,Usage"]
    for usage, base in (("Training", 0), ("PublicTest", 1)):
        for label in range(7):
            base_here = 0 if usage == "PublicTest" and label == 6 else base
            pixels = [10 * label, base_here, *[7] * 2302]
            said = 1 if usage == "PublicTest" and label == 0 else label
            rows.append(f"{said},{' '.join(map(str, pixels))},{usage}")
    path = tmp_path / "fer.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def ferkit_(stub_model, run_ferkit):
    """Run the command line: (exit code, standard output, standard error)."""

    def call(*arguments, model=None, models=None):
        stub_model(models or model or FirstPixelClassifier())
        return run_ferkit(*arguments)

    return call


def test_json_is_one_document_and_notes_go_elsewhere(ferkit_, csv):
    code, out, err = ferkit_("evaluate", "model", csv, "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["split"], document["n"], document["accuracy"]) == ("PublicTest", 7, 6 / 7)
    assert document["without_duplicates"]["n"] == 6
    assert document["per_class"]["angry"] == {"precision": None, "recall": None, "f1": None, "n": 0}
    assert "test means PublicTest" in err


@pytest.mark.parametrize(
    ("split", "name", "n"),
    [
        pytest.param("train", "Training", 7, id="alias"),
        pytest.param("Training", "Training", 7, id="published name"),
        pytest.param("val", "PublicTest", 7, id="validation"),
        pytest.param("all", "all", 14, id="all"),
    ],
)
def test_split(ferkit_, csv, split, name, n):
    code, out, _ = ferkit_("evaluate", "model", csv, "--split", split, "--json")
    assert (code, json.loads(out)["split"], json.loads(out)["n"]) == (0, name, n)


def test_people_get_tables(ferkit_, csv):
    code, out, _ = ferkit_("evaluate", "model", csv, "--tta", "flip")
    assert code == 0
    for said in ("reads on PublicTest: 7 faces", "95% interval", "Macro-F1", "Without duplicates", "At 80% coverage"):
        assert said in out


def test_report_is_written_with_the_curves_of_the_run(ferkit_, csv, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text(
        "epoch,loss,accuracy,learning_rate\n1,2.0,0.2,0.001\n2,1.5,0.4,0.001\n"
    )
    code, out, err = ferkit_("evaluate", tmp_path / "run", csv, "--report", tmp_path / "page", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "page" / "report.json").read_text())
    assert "<h2>Training</h2>" in (tmp_path / "page" / "index.html").read_text()
    assert str(tmp_path / "page" / "index.html") in err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "model", "code", "said"),
    [
        pytest.param(
            ["--split", "holiday"],
            None,
            2,
            "Unknown split 'holiday'. Choices: Training (or train), PublicTest (or val), PrivateTest (or test), all. ",
            id="split",
        ),
        pytest.param(["--tta", "flop"], None, 2, "Did you mean 'flip'?", id="tta"),
        pytest.param(
            [],
            FirstPixelClassifier(("yes", "no")),
            1,
            "The model reads knows yes, no; the data has angry",
            id="classes",
        ),
        pytest.param(["--votes", "missing.csv"], None, 1, "missing.csv", id="votes"),
        pytest.param(["--truth", "voters"], None, 2, "Choices: labels, votes", id="truth"),
        pytest.param(["--truth", "votes"], None, 2, "add --votes FILE", id="truth without votes"),
    ],
)
def test_what_cannot_be_done_is_one_line(ferkit_, csv, arguments, model, code, said):
    left, out, err = ferkit_("evaluate", "model", csv, *arguments, model=model)
    assert left == code
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("ferkit:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in err


def test_a_report_that_cannot_be_written_does_not_cost_the_figures(ferkit_, csv):
    code, out, err = ferkit_("evaluate", "model", csv, "--report", csv, "--json")
    assert (code, json.loads(out)["n"]) == (1, 7)
    assert "Cannot write" in err.splitlines()[-1]


def test_data_may_lack_classes_of_the_model(ferkit_, csv):
    code, out, err = ferkit_("evaluate", "model", csv, "--json", model=FirstPixelClassifier((*EMOTIONS, "contempt")))
    assert code == 0
    assert json.loads(out)["per_class"]["contempt"]["n"] == 0
    assert "Note: No face is labelled angry, contempt; such predictions count as wrong." in err


def test_broken_rows_are_skipped_on_request(ferkit_, csv):
    csv.write_text(csv.read_text() + "9,1 2 3,PublicTest\n")
    assert ferkit_("evaluate", "model", csv, "--json")[0] == 1
    code, out, _ = ferkit_("evaluate", "model", csv, "--json", "--skip-broken")
    assert (code, json.loads(out)["n"]) == (0, 7)


def test_faces_come_in_the_size_that_the_model_takes(ferkit_, csv):
    code, out, _ = ferkit_(
        "evaluate", "model", csv, "--json", model=FirstPixelClassifier(face_input=FaceInput(24, 32, 3))
    )
    assert (code, json.loads(out)["n"]) == (0, 7)


@pytest.mark.parametrize(
    ("options", "split", "said"),
    [
        pytest.param({}, "PublicTest", "", id="published"),
        pytest.param({"split": "random"}, "val", "Split at random", id="random"),
        pytest.param({"split": "random", "drop_duplicates": True}, "val", "Dropped", id="random-distinct"),
        pytest.param({"split": "random", "seed": 7}, "PublicTest", "may have seen the faces", id="another-seed"),
    ],
)
def test_a_model_is_measured_on_what_it_was_not_trained_on(ferkit_, csv, options, split, said):
    """After a random split most of the published test split was in training."""
    model = FirstPixelClassifier()
    csv.write_text(csv.read_text() + "".join(csv.read_text().splitlines(keepends=True)[1:]).replace(" 7", " 8"))
    model.card = {"training": {"data": about(load_dataset(csv, **options))}}
    code, out, err = ferkit_("evaluate", "model", csv, "--json", model=model)
    assert (code, json.loads(out)["split"]) == (0, split)
    assert said in err
    assert ("may have seen" in err) == ("may have seen" in said)


@pytest.mark.parametrize("options", [pytest.param((), id="test"), pytest.param(("--split", "val"), id="val")])
def test_a_split_without_faces_names_those_that_have_some(ferkit_, csv, options):
    csv.write_text("".join(line for line in csv.read_text().splitlines(keepends=True) if "PublicTest" not in line))
    # So few that holding out a share of each class leaves the validation split empty.
    code, out, err = ferkit_("evaluate", "model", csv, *options)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (f"ferkit: The split val of {csv} has no faces. Evaluate another: --split Training.")
    assert ferkit_("evaluate", "model", csv, "--split", "Training", "--json")[0] == 0


def test_published_splits_share_no_face_whichever_of_them_a_copy_has(ferkit_, csv):
    """The packaged model was made with a copy that has no PrivateTest."""
    model = FirstPixelClassifier()
    model.card = {"training": {"data": about(load_dataset(csv))}}
    rows = csv.read_text().splitlines()
    csv.write_text("\n".join([*rows, *(row.replace("PublicTest", "PrivateTest") for row in rows[1:])]) + "\n")
    code, out, err = ferkit_("evaluate", "model", csv, "--split", "PrivateTest", "--json", model=model)
    assert (code, json.loads(out)["split"]) == (0, "PrivateTest")
    assert "may have seen" not in err


def test_a_model_may_have_seen_faces_through_its_teachers(ferkit_, csv):
    model = FirstPixelClassifier()
    csv.write_text(csv.read_text() + "".join(csv.read_text().splitlines(keepends=True)[1:]).replace(" 7", " 8"))
    published, random = about(load_dataset(csv)), about(load_dataset(csv, split="random"))
    for taught_on, warned in ((published, False), (random, True)):
        model.card = {"training": {"data": published, "learnt_from": [taught_on]}}
        _, _, err = ferkit_("evaluate", "model", csv, "--json", model=model)
        assert ("may have seen" in err) == warned


@pytest.mark.parametrize(
    "training",
    [
        pytest.param({"data": ["fer.csv"], "learnt_from": {"a": 1}}, id="other kinds"),
        pytest.param({"data": {"source": "fer.csv"}, "learnt_from": [7, {"source": "fer.csv"}]}, id="half of it"),
        pytest.param({"data": {"source": "fer.csv", "faces": 3, "fingerprint": 4}}, id="other values"),
    ],
)
def test_what_a_strangers_card_says_of_its_data_ends_in_no_traceback(training, ferkit_, csv):
    model = FirstPixelClassifier()
    model.card = {"training": json.loads(json.dumps(training).replace("fer.csv", csv.name))}
    code, out, err = ferkit_("evaluate", "model", csv, "--json", model=model)
    assert (code, json.loads(out)["n"]) == (0, 7)
    assert "Traceback" not in err


class Sure(FirstPixelClassifier):
    """Answers with so much probability; wrong about every face if `lies`."""

    def __init__(self, name, confidence, *, lies=False, **options):
        super().__init__(confidence=confidence, **options)
        self.name, self.lies = name, lies

    def predict_proba(self, faces, /):
        return np.roll(super().predict_proba(faces), self.lies, axis=1)


def several(**options):
    return {"right": Sure("right", 0.9, **options), "wrong": Sure("wrong", 0.6, lies=True), "same": Sure("same", 0.5)}


def test_several_models_are_a_list_and_a_table(ferkit_, csv):
    code, out, _ = ferkit_("evaluate", "wrong", "right", csv, "--json", models=several())
    assert code == 0
    assert [(one["model"], one["accuracy"]) for one in json.loads(out)] == [("wrong", 1 / 7), ("right", 6 / 7)]
    code, out, _ = ferkit_("evaluate", "wrong", "right", csv, models=several())
    lines = [line.split() for line in out.splitlines() if line]
    assert "2 models on PublicTest: 7 faces" in out
    assert [line[0] for line in lines[-2:]] == ["right", "wrong"], "the best comes first"
    assert "85.7%" in lines[-2]


def test_an_ensemble_is_one_model(ferkit_, csv):
    """The sure one outvotes the other."""
    code, out, _ = ferkit_("evaluate", "wrong", "right", csv, "--ensemble", "--json", models=several())
    document = json.loads(out)
    assert code == 0
    assert (document["model"], document["accuracy"], document["n"]) == ("wrong + right", 6 / 7, 7)


def test_an_ensemble_has_a_page(ferkit_, csv, monkeypatch):
    """Of no single run, so without a card and without curves."""
    asked = []
    monkeypatch.setattr("ferkit.evaluation.write_report", lambda *said, **more: asked.append((said, more)) or "page")
    code, _, err = ferkit_("evaluate", "same", "right", csv, "--ensemble", "--report", "p", models=several())
    assert (code, asked[0][0][0].model) == (0, "same + right"), err
    assert asked[0][1] == {"run": None}
    assert (asked[0][0][0].card, asked[0][0][0].parts) == ({}, ())


@pytest.mark.parametrize(
    ("arguments", "models", "code", "said"),
    [
        pytest.param([], None, 2, "Missing argument", id="nothing"),
        pytest.param(["right"], None, 2, "Name at least one model, then the data", id="one word"),
        pytest.param(["right", "wrong", "CSV", "--report", "page"], None, 2, "use --ensemble", id="page of two"),
        pytest.param(
            ["right", "wrong", "CSV", "--ensemble"],
            {"right": Sure("right", 0.9), "wrong": Sure("wrong", 0.9, classes=("yes", "no"))},
            1,
            "needs models of the same classes: right knows angry",
            id="other classes",
        ),
    ],
)
def test_words_that_make_no_sense(ferkit_, csv, arguments, models, code, said):
    words = [str(csv) if one == "CSV" else one for one in arguments]
    left, out, err = ferkit_("evaluate", *words, models=models or several())
    assert (left, out) == (code, "")
    assert said in " ".join(err.split())


def test_each_model_gets_its_size_and_its_split(ferkit_, csv):
    csv.write_text(csv.read_text() + "".join(csv.read_text().splitlines(keepends=True)[1:]).replace(" 7", " 8"))
    random = {"training": {"data": about(load_dataset(csv, split="random"))}}
    models = {
        "small": Sure("small", 0.9, face_input=FaceInput(24, 24, 3)),
        "random": Sure("random", 0.9, card=random),
        "plain": Sure("plain", 0.9),
    }
    code, out, err = ferkit_("evaluate", "small", "random", "plain", csv, "--json", models=models)
    assert (code, [one["split"] for one in json.loads(out)]) == (0, ["PublicTest", "val", "PublicTest"])
    assert "evaluated on different faces" in err
    assert err.count("test means PublicTest") == 1, "each note is said once"
    code, out, err = ferkit_("evaluate", "plain", "random", csv, "--ensemble", "--json", models=models)
    assert (code, json.loads(out)["split"]) == (0, "val"), "the split that no member was trained on"
    assert "may have seen" not in err


def test_members_of_different_splits_are_warned_of(ferkit_, csv):
    csv.write_text(csv.read_text() + "".join(csv.read_text().splitlines(keepends=True)[1:]).replace(" 7", " 8"))
    official, random, again = (
        {"training": {"data": about(load_dataset(csv, **options))}}
        for options in ({}, {"split": "random"}, {"split": "random", "drop_duplicates": True})
    )
    for first, second, split in ((official, random, "PublicTest"), (random, again, "val")):
        models = {"a": Sure("a", 0.9, card=first), "b": Sure("b", 0.9, card=second)}
        code, out, err = ferkit_("evaluate", "a", "b", csv, "--ensemble", "--json", models=models)
        assert (code, json.loads(out)["split"]) == (0, split)
        assert "may have seen" in err


def test_data_without_splits_that_has_grown_since_is_warned_of(ferkit_, tmp_path):
    """The random split is another one then, and most held-out faces were trained on."""
    path = tmp_path / "mine.csv"
    rows = [f"{n % 7},{' '.join(map(str, [10 * (n % 7), n, *[7] * 2302]))}" for n in range(77)]
    path.write_text("\n".join(["emotion,pixels", *rows[7:]]) + "\n")
    models = {"mine": Sure("mine", 0.9, card={"training": {"data": about(load_dataset(path))}})}
    assert "may have seen" not in ferkit_("evaluate", "mine", path, "--split", "val", models=models)[2]
    path.write_text("\n".join(["emotion,pixels", *rows]) + "\n")
    assert "may have seen" in ferkit_("evaluate", "mine", path, "--split", "val", models=models)[2]


def test_against_what_voters_saw(ferkit_, csv, tmp_path):
    """Voters agree with the first pixel, of which the data's first label is not; two faces drop out."""
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"]
    names = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    rows = ["Usage,Image name," + ",".join(order) + ",contempt,unknown,NF"]
    for usage in ("Training", "PublicTest"):
        for label, name in enumerate(names):
            votes = {name: 9}
            if usage == "PublicTest" and label == 1:
                votes = {name: 5, "fear": 5}
            if usage == "PublicTest" and label == 2:
                votes = {}
            rows.append(f"{usage},a," + ",".join(str(votes.get(one, 0)) for one in order) + ",1,0,0")
    file = tmp_path / "votes.csv"
    file.write_text("\n".join(rows) + "\n")
    code, out, err = ferkit_("evaluate", "m", csv, "--votes", file, "--truth", "votes", "--json")
    document = json.loads(out)
    assert (code, document["split"], document["truth"]) == (0, "PublicTest", "votes")
    assert (document["n"], document["accuracy"]) == (5, 1.0)
    assert "1 without a vote for any class, 1 with a tie" in err
    assert json.loads(ferkit_("evaluate", "m", csv, "--votes", file, "--json")[1])["accuracy"] == 6 / 7


def test_help_lists_every_tta_with_its_cost(ferkit_):
    code, out, _ = ferkit_("evaluate", "--help")
    words = " ".join(out.split())
    assert code == 0
    assert "flip: Mean of each face and its mirror image; takes twice the time." in words
    assert "takes ten times the time" in words
    assert "Example: ferkit evaluate" in words


@pytest.mark.shared
def test_real_faces(ferkit_, shared):
    code, out, _ = ferkit_("evaluate", "model", shared / "data" / "fer2013.csv.gz", "--json", "--split", "PublicTest")
    document = json.loads(out)
    assert code == 0
    assert document["n"] == 3589
    assert [one["n"] for one in document["per_class"].values()] == [467, 56, 496, 895, 653, 415, 607]
    assert document["without_duplicates"]["n"] == 3293


def test_groups_and_degraded_faces_are_measured_on_request(ferkit_, csv, tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("row,age,tone\n" + "\n".join(f"{row},{row % 2},x" for row in range(7, 15)))
    asked = ("--groups", table, "--group-column", "age", "--robustness", "--limit", 5, "--json")
    code, out, _ = ferkit_("evaluate", "model", csv, *asked)
    document = json.loads(out)
    assert code == 0
    assert list(document)[-2:] == ["groups", "robustness"]
    assert document["groups"]["note"].startswith("people.csv names 7 of the 7 faces of PublicTest; 1 row of no face")
    assert {name: one["n"] for name, one in document["groups"]["columns"]["age"]["groups"].items()} == {"0": 3, "1": 4}
    assert list(document["groups"]["columns"]) == ["age"]
    assert document["robustness"]["n"] == 5
    assert document["groups"]["columns"]["age"]["groups"]["0"]["people"] is None
    code, out, _ = ferkit_("evaluate", "model", csv, "--groups", table, "--person-column", "tone", "--json")
    columns = json.loads(out)["groups"]["columns"]
    assert {name: one["people"] for name, one in columns["age"]["groups"].items()} == {"0": 1, "1": 1}
    assert list(columns) == ["age"]
    code, out, _ = ferkit_("evaluate", "model", csv, *asked[:-1])
    assert "By age" in out
    assert "The same 5 faces, corrupted" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["--group-column", "age"], 2, "add --groups FILE", id="column without table"),
        pytest.param(["--person-column", "who"], 2, "add --groups FILE", id="person without table"),
        pytest.param(["--limit", 5], 2, "add --robustness", id="limit alone"),
        pytest.param(["--robustness", "--limit", 0], 2, "at least 1 face. Received: 0", id="limit of nothing"),
        pytest.param(["--groups", "people.csv"], 1, "There is no people.csv", id="no table"),
    ],
)
def test_what_cannot_be_measured_besides_is_one_line_before_anything_is_loaded(ferkit_, csv, arguments, code, said):
    left, out, err = ferkit_("evaluate", "model", csv, *arguments, models={"other": None})
    assert (left, out) == (code, "")
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
