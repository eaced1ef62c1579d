"""The page: whole, self-contained, escaped, readable without its pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferkit.data.records import FaceSet
from ferkit.errors import FerkitError
from ferkit.evaluation import figures as plots
from ferkit.evaluation.report import Report, measure, read_history
from ferkit.evaluation.report_sections import write_report
from ferkit.labels import EMOTIONS
from ferkit.models.model_folder import INTENDED_USE
from pages import Page

PLOTS = ("confusion", "reliability", "coverage", "curves", "speed")
HISTORY = [
    {"epoch": i, "loss": 2 / i, "accuracy": 0.3, "val_loss": 2 / i, "val_accuracy": 0.3 + i / 10}
    | {"learning_rate": 1e-3, "seconds": 50.0, "faces_per_second": 100.0 * i}
    for i in (1, 2, 3)
]
SITTING = {"backend": "jax", "cpu_count": 16, "versions": {"keras": "3.15"}}


def report(
    classes=EMOTIONS, *, model="tutorial", split="PublicTest", n=60, duplicate=True, certain=False, card=None
) -> Report:
    rng = np.random.default_rng(0)
    k = len(classes)
    labels = np.arange(n) % k
    probabilities = np.eye(k)[labels] if certain else rng.dirichlet(np.full(k, 0.5), n)
    marks = None if duplicate is None else duplicate & (np.arange(n) % 5 == 0)
    images = rng.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8)
    faces = FaceSet(images, labels, tuple(classes), split, duplicate=marks)
    return replace(measure(probabilities.astype(np.float32), faces, model=model, seconds=0.1), card=card or {})


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def no_plots(monkeypatch):
    """Plots are tested on their own; where only words matter, they would take most of the time."""

    def blank(*arguments, **options):
        path = next(one for one in arguments if isinstance(one, Path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"png")

    for name in ("confusion_matrix", "reliability_diagram", "coverage_curve", "training_curves", "training_speed"):
        monkeypatch.setattr(plots, name, blank)
    monkeypatch.setattr("ferkit.render.style.draw_gallery", blank)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    card = {"temperature": 1.5, "training": {"recipe": {"name": "tutorial"}, "sittings": [SITTING, SITTING]}}
    return write_report(report(card=card), tmp_path_factory.mktemp("report") / "new", HISTORY)


def test_the_page_says_what_a_threshold_leaves(written):
    first = report().coverage[0]
    cells = "".join(f"<td>{text}</td>" for text in ("100.0%", f"{first.accuracy:.1%}"))
    assert f'<th scope="row">0.0</th>{cells}' in written.read_text()


def test_the_page_says_what_the_report_says(written):
    result, text = report(), read(written).text
    low, high = result.accuracy_ci95
    for said in (
        "tutorial on PublicTest",
        f"{result.accuracy:.1%}",
        f"95% interval: {low:.1%} to {high:.1%}",
        f"{result.macro_f1:.3f}",
        f"{result.balanced_accuracy:.1%}",
        f"{result.ece:.1%}",
        f"{result.nll:.3f} nats",
        f"accuracy is {result.accuracy_at_coverage(0.8):.1%} instead of",
        "Without duplicates",
        f"{result.without_duplicates.accuracy:.1%}",
        "65 ± 5%",
        "Training",
        "3, best: 3",
        "2 min 30 s of training steps",
        "200 faces/s (median), 100 to 300",
        "2, on jax with 16 cores",
        "Least confident predictions",
        "training: recipe: name",
        "training: sittings 2: versions: keras",
        INTENDED_USE,
    ):
        assert said in text
    assert json.loads((written.parent / "report.json").read_text()) == result.to_dict()


def test_the_page_holds_everything_and_asks_nobody(written):
    page = read(written)
    page.check_harmless()
    words = re.sub(r"base64,[\w+/=]+", "", written.read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//|@import|url\(", words)
    sources = [one["src"] for one in page.all("img")] + [one["srcset"] for one in page.all("source")]
    assert len(sources) == 2 * 5 + 24 + 24  # five plots in two themes, the galleries
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    drawn = {path.name for path in (written.parent / "figures").iterdir()}
    assert drawn == {f"{name}{theme}.png" for name in PLOTS for theme in ("", "-dark")} | {
        "mistakes.png",
        "doubtful.png",
    }


def test_the_page_serves_those_who_do_not_see_it(written):
    page = read(written)
    assert page.all("html")[0]["lang"] == "en"
    assert all(one["alt"].strip() for one in page.all("img"))
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert any(one.get("name") == "viewport" for one in page.all("meta"))
    assert "Face labelled" in page.all("img")[-1]["alt"]


def test_the_confusion_table_has_counts_and_rates(written):
    result = report()
    count = int(result.confusion[0, 0])
    share = f"{count / result.per_class['angry'].n:.1%}"
    assert f'<th scope="row">angry</th><td><strong>{count}</strong><small>{share}</small></td>' in written.read_text()


def test_doubtful_faces_are_said_with_both_answers(tmp_path, no_plots):
    """Two faces between a and b, the first of them labelled b; one that is certain."""
    faces = FaceSet(np.zeros((3, 6, 6, 1), np.uint8), np.array([1, 0, 2]), ("a", "b", "c"), "mine", duplicate=None)
    probabilities = np.array([[0.46, 0.44, 0.1], [0.405, 0.395, 0.2], [0, 0, 1]], np.float32)
    page = read(write_report(measure(probabilities, faces, model="m", seconds=1), tmp_path))
    assert "Of all 3 faces, 2 have a margin below 10 percentage points" in page.text
    assert "of these the first class is right for 50%, the second for 50%" in page.text
    assert [one["alt"] for one in page.all("img")][-3:] == [
        "Face labelled a, predicted a or b with 41% and 40%",
        "Face labelled b, predicted a or b with 46% and 44%",
        "Face labelled c, predicted c or a with 100% and 0%",
    ]


@pytest.mark.parametrize(
    ("sittings", "said"),
    [
        pytest.param([SITTING], "1, on jax with 16 cores", id="one"),
        pytest.param(
            [SITTING, SITTING, {"backend": "tensorflow", "cpu_count": 2}],
            "3, 2 on jax with 16 cores; 1 on tensorflow with 2 cores",
            id="moved",
        ),
        pytest.param([{}], "1, on an unknown backend", id="nothing known"),
    ],
)
def test_sittings_are_counted_by_place(sittings, said, tmp_path, no_plots):
    card = {"training": {"sittings": sittings}}
    assert said in read(write_report(report(card=card), tmp_path, HISTORY)).text


@pytest.mark.parametrize("training", [None, [], "three", {"sittings": "two"}, {"sittings": ["a"]}])
def test_a_card_that_makes_no_sense_costs_no_page(training, tmp_path, no_plots):
    old = [
        {name: value for name, value in row.items() if name not in ("seconds", "faces_per_second")} for row in HISTORY
    ]
    page = read(write_report(report(card={"training": training}), tmp_path, old))
    assert "Training" in page.text
    assert not (tmp_path / "figures" / "speed.png").exists()


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        pytest.param({"duplicate": False}, "No duplicates.", "Without duplicates", id="no duplicate"),
        pytest.param({"duplicate": None}, "Duplicates were not searched for.", "distinct", id="duplicates unknown"),
        pytest.param({"certain": True}, "None.", "overconfident", id="no mistakes"),
        pytest.param({"classes": ("a", "b")}, "Always predicting a would score 50.0%", "FER-2013", id="own classes"),
        pytest.param({"split": "mine"}, "on mine", "FER-2013", id="own split"),
        pytest.param({"n": 3}, "3 faces", "Training", id="three faces, four classes without one, no history"),
    ],
)
def test_pages_of_other_data(options, said, unsaid, tmp_path, no_plots):
    text = read(write_report(report(**options), tmp_path)).text
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize(
    ("split", "warned"), [pytest.param("PublicTest", True, id="same"), pytest.param("PrivateTest", False, id="another")]
)
def test_a_split_that_the_model_was_chosen_on_is_said(split, warned, tmp_path, no_plots):
    card = {"metrics": {"split": "PublicTest"}}
    text = read(write_report(report(split=split, card=card), tmp_path)).text
    assert ("was chosen on this split" in text) is warned


def test_history_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n1,2.5,\n2,1.5,1.25\n")
    assert read_history(path) == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5, "val_loss": 1.25}]


@pytest.mark.parametrize(
    "content",
    [pytest.param(None, id="missing"), pytest.param(b"epoch\nten\n", id="words"), pytest.param(b"\xff", id="binary")],
)
def test_a_history_that_is_none_is_one_line(content, tmp_path):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FerkitError, match="not the history of a training run") as caught:
        read_history(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FerkitError, match="Cannot write"):
        write_report(report(), tmp_path / "file")
