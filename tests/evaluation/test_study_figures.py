"""Figures of studies: each chart in each format, what it says, and the size that was asked for."""

import re
from dataclasses import dataclass, field

import PIL.Image
import pytest

from ferkit.cli.summarize import Chart
from ferkit.errors import UsageError
from ferkit.evaluation import CHARTS, compare_conditions, plot_study
from ferkit.render import Look

LABELS = ("happy", "sad", "disgust")


@dataclass
class Study:
    rows: list = field(default_factory=list)
    changes: list = field(default_factory=list)
    courses: list = field(default_factory=list)
    labels: tuple = LABELS
    classes: tuple = LABELS


@pytest.fixture
def study():
    study = Study()
    for n in range(3):
        for film, happy in (("funny", 0.7), ("sad", 0.2)):
            keys = {"person": f"P{n}", "film": film}
            shares = {"share_happy": happy + n / 10, "share_sad": 0.3 - n / 10, "share_disgust": 0.0}
            study.rows.append({**keys, **shares})
            study.changes.append({**keys, "from": "happy", "to": "sad", "n": n + 1})
            means = {f"mean_{label}": 1 / 3 for label in LABELS}
            study.courses += [{**keys, "time_s": time_s, **means} for time_s in (0.0, 1.0)]
    return study


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        pytest.param("shares", ["funny (n = 3)", "-50.0 points, p = 0.25", "sad less funny; p by Holm"], id="shares"),
        pytest.param("timeline", ["funny (n = 3)", "sad (n = 3)", "seconds"], id="timeline"),
        pytest.param("transitions", ["sad (n = 3)", "6", "from"], id="transitions"),
        pytest.param("people", ["P0", "P2", "funny", "90%"], id="people"),
    ],
)
def test_says_what_it_shows(tmp_path, study, chart, expected):
    path, comparison = tmp_path / "plot.svg", compare_conditions(study.rows, "film")
    plot_study(study, chart, path, column="film", comparison=comparison)
    texts = re.findall(r">([^<>]+)</text>", path.read_text())
    assert set(expected) <= {text.replace("\N{MINUS SIGN}", "-") for text in texts}
    assert ("disgust" in texts) == (chart == "timeline"), "what nobody showed takes no room"


@pytest.mark.parametrize("chart", CHARTS)
def test_size_and_text(tmp_path, study, chart):
    plot_study(study, chart, tmp_path / "plot.png", look=Look.of("7x3.5", 6.0))
    assert PIL.Image.open(tmp_path / "plot.png").size == (1400, 700)
    sizes = []
    for points in (6.0, 12.0):
        plot_study(study, chart, tmp_path / "plot.svg", look=Look(font_size=points))
        found = re.search(r"([\d.]+)px[^<>]*>sad<", (tmp_path / "plot.svg").read_text())
        sizes.append(float(found[1]))
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.01)


@pytest.mark.parametrize("chart", CHARTS)
def test_nobody(tmp_path, chart):
    plot_study(Study(), chart, tmp_path / "plot.svg", column="film")
    assert "Nobody to draw." in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize("size", ["7", "7x", "x4", "0x4", "7x100", "axb"])
def test_sizes_that_make_no_sense(size):
    with pytest.raises(UsageError, match="as in 7x4"):
        Look.of(size, None)


def test_the_command_offers_all_charts():
    assert Chart.__args__ == CHARTS
