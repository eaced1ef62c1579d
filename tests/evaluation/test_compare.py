"""Two models on the same faces: the statistics of pairs against published figures, the comparison, the command."""

import json
import math

import numpy as np
import pytest

from ferkit.data.loading import load_dataset
from ferkit.data.records import FaceSet
from ferkit.errors import DatasetError, FerkitError, ModelError
from ferkit.evaluation.comparison import Comparison, compare, compare_on
from ferkit.evaluation.comparison_sections import write_comparison
from ferkit.evaluation.paired_statistics import cohen_kappa, holm, mcnemar_exact, mcnemar_midp, paired_interval
from ferkit.evaluation.report import measure
from ferkit.labels import EMOTIONS
from ferkit.render.formats import p_value
from ferkit.sources.images import FaceInput
from ferkit.training.run_folder import about

CLASSES = ("angry", "happy", "sad")


@pytest.mark.parametrize(
    ("only_a", "only_b", "n", "difference", "low", "high"),
    [
        # Fagerland, Lydersen and Laake 2014, table 3: airway hyper-responsiveness before and after transplantation.
        pytest.param(7, 1, 21, -0.286, -0.517, -0.026, id="published"),
        pytest.param(1, 7, 21, 0.286, 0.026, 0.517, id="other way round"),
        # Without a face that tells them apart it is that of Wilson for 0 of n.
        pytest.param(0, 0, 100, 0.0, -0.0370, 0.0370, id="never differ"),
        pytest.param(21, 0, 21, -1.0, -1.0, -0.6907, id="all"),
    ],
)
def test_paired_interval(only_a, only_b, n, difference, low, high):
    assert (only_b - only_a) / n == pytest.approx(difference, abs=1e-3)
    assert paired_interval(only_a, only_b, n) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize("counts", [pytest.param((5, 6, 10), id="too many"), pytest.param((0, 0, 0), id="none")])
def test_paired_interval_of_impossible_counts(counts):
    with pytest.raises(FerkitError, match="only_a"):
        paired_interval(*counts)


@pytest.mark.parametrize(
    ("only_a", "only_b", "exact", "midp"),
    [
        pytest.param(1, 7, 0.0703, 0.0391, id="published"),
        pytest.param(7, 1, 0.0703, 0.0391, id="symmetric"),
        pytest.param(0, 0, 1.0, 1.0, id="never differ"),
        pytest.param(2, 2, 1.0, 1 - 0.5 * 6 / 16, id="even"),
        pytest.param(0, 1, 1.0, 0.5, id="one face"),
    ],
)
def test_mcnemar(only_a, only_b, exact, midp):
    assert mcnemar_exact(only_a, only_b) == pytest.approx(exact, abs=1e-4)
    assert mcnemar_midp(only_a, only_b) == pytest.approx(midp, abs=1e-4)


def test_mcnemar_of_very_many_faces():
    """Near the normal approximation, and no overflow."""
    a, b = 50_000, 50_600
    z = (b - a) / math.sqrt(a + b)
    assert mcnemar_midp(a, b) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_the_interval_leaves_zero_out_where_the_test_says_so():
    """Tango's interval is that of McNemar's score test, which the mid-p is close to."""
    for only_b in range(20, 60, 3):
        low, _ = paired_interval(20, only_b, 500)
        score = (only_b - 20) / math.sqrt(only_b + 20)
        assert (low > 0) == (score > 1.96)


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        pytest.param([0.01, 0.04, 0.03], [0.03, 0.06, 0.06], id="never falls"),
        pytest.param([0.9, 0.5], [1.0, 1.0], id="at most one"),
        pytest.param([0.2], [0.2], id="one test"),
    ],
)
def test_holm(p, corrected):
    assert holm(p) == pytest.approx(corrected)


def test_kappa():
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.array([[9, 0], [0, 0]])) is None


def faces_of(labels, **options):
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return FaceSet(images, np.array(labels, np.int64), CLASSES, "PublicTest", **options)


def probabilities_of(answers, confidence=0.8):
    rows = np.full((len(answers), 3), (1 - confidence) / 2, np.float32)
    rows[np.arange(len(answers)), answers] = confidence
    return rows


def comparison(labels, a, b, **options) -> Comparison:
    faces = faces_of(labels, **options)
    reports = [
        measure(probabilities_of(answers), faces, model=name, seconds=1.0) for name, answers in (("a", a), ("b", b))
    ]
    return Comparison(*reports)


LABELS, A, B = [0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 0, 2, 1], [0, 1, 1, 1, 1, 1, 2, 0]


def test_who_got_which_face_right():
    found = comparison(LABELS, A, B)
    pair = found.overall
    assert (pair.n, pair.both, pair.only_a, pair.only_b, pair.neither) == (8, 4, 1, 1, 2)
    assert (pair.difference, pair.accuracies) == (0, (5 / 8, 5 / 8))
    assert {name: (one.n, one.only_a, one.only_b) for name, (one, _) in found.per_class.items()} == {
        "angry": (3, 1, 0),
        "happy": (3, 0, 1),
        "sad": (2, 0, 0),
    }
    assert found.counts.tolist() == [[1, 2, 0], [1, 3, 0], [0, 0, 1]]
    assert found.agreement == 5 / 8
    assert [(one.a, one.b, one.n, one.a_right, one.b_right) for one in found.disagreements] == [
        ("angry", "happy", 2, 1, 1),
        ("happy", "angry", 1, 0, 0),
    ]
    assert "No significant difference on 8 faces" in found.verdict


def test_the_better_one_is_named():
    labels = [0, 1] * 50
    better = comparison(labels, [0] * 100, labels)
    assert better.verdict.startswith("B is better than A")
    assert better.overall.difference == 0.5
    assert comparison(labels, labels, [0] * 100).verdict.startswith("A is better than B")


def deciding(only_a, only_b, n=1000, **options):
    """Faces of which A alone gets the first right, B alone the next, and both the others."""
    labels, none = np.arange(n) % 3, np.arange(n)
    wrong = (labels + 1) % 3
    a = np.where((none >= only_a) & (none < only_a + only_b), wrong, labels)
    return comparison(labels, a, np.where(none < only_a, wrong, labels), **options)


@pytest.mark.parametrize(
    ("only_a", "only_b", "said"),
    [
        pytest.param(0, 4, "Borderline", id="interval alone"),
        pytest.param(6, 15, "Borderline", id="just over 5 %"),
        pytest.param(8, 18, "Borderline", id="p of 0.05"),
        pytest.param(21, 10, "Borderline", id="for A"),
        pytest.param(5, 5, "No significant difference", id="even"),
        pytest.param(2, 14, "B is better", id="both"),
    ],
)
def test_verdict_and_figures_agree(only_a, only_b, said):
    """Mid-p and Tango's interval can disagree when few discordant pairs exist: then neither decides alone."""
    found = deciding(only_a, only_b)
    pair = found.overall
    low, high = pair.interval
    assert said in found.verdict
    assert ("Borderline" in found.verdict) == ((pair.p < 0.05) != (low > 0 or high < 0))
    assert pair.differs() == ("better" in found.verdict) == found.to_dict()["verdict"].startswith("B is")


def test_copies_decide_nothing():
    """A dozen copies of a face that only B gets right."""
    copies = np.isin(np.arange(1000), range(1, 13))
    found = deciding(0, 13, duplicate=copies)
    assert found.overall.differs()
    assert (found.judged.only_b, found.judged_name) == (1, "988 distinct faces")
    assert "No significant difference on 988 distinct faces" in found.verdict
    assert deciding(0, 13, duplicate=np.zeros(1000, bool)).judged_name == "1,000 faces"


def test_macro_f1_interval_wants_faces_that_decide(tmp_path):
    found = deciding(0, 9)
    assert found.macro_f1_interval is None
    assert found.to_dict()["macro_f1_difference_ci95"] is None
    assert "<td>+0.009</td><td>-</td>" in write_comparison(found, tmp_path).read_text()
    assert deciding(0, 10).macro_f1_interval is not None


def test_duplicates_count_once():
    repeated = np.array([False] * 7 + [True])
    found = comparison(LABELS, A, B, duplicate=repeated)
    assert found.without_duplicates.n == 7
    assert 7 not in found.confident_disagreements
    assert comparison(LABELS, A, B).without_duplicates is None


def test_macro_f1_interval_holds_the_difference():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 600)
    a = np.where(rng.random(600) < 0.6, labels, rng.integers(0, 3, 600))
    b = np.where(rng.random(600) < 0.8, labels, rng.integers(0, 3, 600))
    found = comparison(labels, a, b)
    low, high = found.macro_f1_interval
    assert 0 < low < found.b.macro_f1 - found.a.macro_f1 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.024, rel=0.25)  # what as many samples let expect
    assert found.macro_f1_interval == comparison(labels, a, b).macro_f1_interval


def test_surest_disagreements_come_first():
    faces = faces_of([0, 0, 0])
    a = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.9, 0.1, 0.0]], np.float32)
    b = np.array([[0.1, 0.9, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    reports = (measure(one, faces, model="m", seconds=1.0) for one in (a, b))
    assert Comparison(*reports).confident_disagreements.tolist() == [0, 1]


class Says:
    """Answers its first class for faces whose first pixel is even, its second for others."""

    def __init__(self, name, classes=CLASSES, size=4):
        self.name, self.classes, self.face_input, self.card = name, classes, FaceInput(size, size, 1), {}

    def predict_proba(self, faces, /):
        rows = np.full((len(faces), len(self.classes)), 0.1, np.float32)
        rows[np.arange(len(faces)), faces[:, 0, 0, 0] % 2] = 1.1 - 0.1 * len(self.classes)
        return rows


def test_models_may_order_their_classes_differently():
    """The data lacks sad and contempt, which each model has in a place of its own."""
    faces = FaceSet(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1]), ("angry", "happy"), "val")
    a = Says("a", ("angry", "happy", "sad", "contempt"))
    b = Says("b", ("contempt", "happiness", "Sad", "anger"))
    found = compare(a, b, faces)
    assert found.a.classes == found.b.classes == ("angry", "happy", "sad", "contempt")
    assert found.answers[0].tolist() == [0, 0]
    assert found.answers[1].tolist() == [3, 3]
    assert (found.overall.only_a, found.overall.only_b) == (1, 0)


@pytest.mark.parametrize(
    ("b", "other", "error", "said"),
    [
        pytest.param(
            Says("b", ("yes", "no", "sad")), [0, 1], ModelError, "needs models of the same classes", id="classes"
        ),
        pytest.param(Says("b"), [1, 1], DatasetError, "not the same faces", id="faces"),
    ],
)
def test_what_cannot_be_compared(b, other, error, said):
    with pytest.raises(error, match=said):
        compare_on(Says("a"), b, faces_of([0, 1]), faces_of(other))


def test_data_with_other_classes():
    faces = FaceSet(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1]), ("angry", "bored"), "val")
    with pytest.raises(ModelError, match=r"the data also has bored.*--label-map: bored= drops bored"):
        compare(Says("a"), Says("b"), faces)


@pytest.mark.parametrize(
    ("label_map", "labels", "only_a"),
    [
        pytest.param({"bored": ""}, [0, 1], 1, id="left out"),
        pytest.param({"*": ""}, [0, 1], 1, id="all others left out"),
        pytest.param({"bored": "happy"}, [0, 1, 1, 1], 3, id="counted as another"),
    ],
)
def test_a_label_map_says_what_becomes_of_other_classes(caplog, label_map, labels, only_a):
    """Even first pixels are the first class of each model, whose orders differ."""
    pixels = np.array([0, 2, 1, 3], np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    faces = FaceSet(pixels, np.array([0, 2, 1, 1]), ("angry", "bored", "happy"), "val")
    with caplog.at_level("INFO"):
        found = compare(Says("a", ("angry", "happy")), Says("b", ("Happiness", "anger")), faces, label_map=label_map)
    assert found.a.faces.labels.tolist() == labels
    assert (found.overall.only_a, found.overall.only_b) == (only_a, 1)
    assert "bored" in caplog.text


def test_page(tmp_path):
    found = comparison(LABELS, A, B)
    page = write_comparison(found, tmp_path / "page").read_text()
    assert json.loads((tmp_path / "page" / "comparison.json").read_text()) == found.to_dict()
    assert page.count("<li><figure>") == 3
    for said in ("No significant difference", "A: angry 80%", "McNemar", "<!DOCTYPE html>"):
        assert said in page
    assert "http" not in page.replace("http-equiv", "")
    assert {one.name for one in (tmp_path / "page" / "figures").iterdir()} == {
        "classes.png", "classes-dark.png", "clashes.png", "clashes-dark.png",
    }  # fmt: skip


@pytest.fixture
def csv(tmp_path):
    rows = ["emotion,pixels,Usage"]
    for index in range(12):
        rows.append(f"{index % 7},{' '.join(map(str, [index, *[9] * 2303]))},PublicTest")
    path = tmp_path / "fer.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def models():
    return {
        "small": Says("small", EMOTIONS, size=48),
        "large": Says("large", EMOTIONS[::-1], size=64),
        "other": Says("other", ("yes", "no")),
    }


@pytest.fixture
def ferkit_(stub_model, run_ferkit, models):
    stub_model(models)
    return run_ferkit


@pytest.mark.parametrize(("p", "said"), [(0.046, "0.046"), (0.0041, "0.0041"), (0.1234, "0.12"), (1e-9, "< 0.0001")])
def test_a_p_is_never_rounded_to_the_line(p, said):
    assert p_value(p) == said


def test_command(ferkit_, csv, tmp_path):
    code, out, err = ferkit_("compare", "small", "large", csv, "--json", "--report", tmp_path / "page")
    document = json.loads(out)
    assert (code, document["n"], document["a"]["model"], document["b"]["model"]) == (0, 12, "small", "large")
    assert document["both_right"] + document["only_a_right"] + document["only_b_right"] + document["none_right"] == 12
    assert document == json.loads((tmp_path / "page" / "comparison.json").read_text())
    assert "Report:" in err


def test_models_of_other_sizes_are_compared_on_faces_that_neither_has_seen(ferkit_, csv, models):
    published = csv.read_text()
    csv.write_text(published + published.split("\n", 1)[1].replace(" 9", " 8").replace("PublicTest", "Training"))
    at_random = load_dataset(csv, split="random", size=(64, 64))
    models["large"].card = {"training": {"data": about(at_random)}}
    for pair in (("small", "large"), ("large", "small")):
        code, out, err = ferkit_("compare", *pair, csv, "--json")
        assert (code, json.loads(out)["split"], json.loads(out)["n"]) == (0, "val", len(at_random.val))
        assert "may have seen" not in err


def test_command_prints_tables(ferkit_, csv):
    code, out, _ = ferkit_("compare", "small", "large", csv)
    assert code == 0
    for said in ("A is small", "B is large", "on PublicTest", "12 faces", "95% interval", "A right", "Holm", "kappa"):
        assert said in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["small", "other", "CSV"], 1, "same classes: small knows angry", id="classes"),
        pytest.param(["small", "large", "CSV", "--tta", "flop"], 2, "Did you mean 'flip'?", id="tta"),
        pytest.param(["small", "large", "CSV", "--truth", "votes"], 2, "add --votes FILE", id="votes"),
        pytest.param(["small", "large", "CSV", "--split", "holiday"], 2, "Unknown split 'holiday'", id="split"),
        pytest.param(["small", "large"], 2, "Missing argument", id="one word too few"),
        pytest.param(["small", "large", "missing.csv"], 1, "missing.csv", id="data"),
    ],
)
def test_what_the_command_refuses(ferkit_, csv, arguments, code, said):
    left, out, err = ferkit_("compare", *[str(csv) if word == "CSV" else word for word in arguments])
    assert (left, out) == (code, "")
    lines = [line for line in err.splitlines() if line.startswith("ferkit:")]
    assert len(lines) == 1
    assert said in lines[0]
