"""Every plot is written whole, in both themes, for sound and for awkward data; looks are judged by eye."""

import sys
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from ferkit.errors import FerkitError
from ferkit.evaluation import figures as plots
from ferkit.labels import EMOTION_COLORS, EMOTIONS
from ferkit.render import FaceTile, draw_gallery, style


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A quarter of the width and height: the same drawing in a fraction of the time."""
    monkeypatch.setattr(style, "_DPI", 50)


def epochs(count, **columns):
    rows = []
    for epoch in range(1, count + 1):
        accuracy = 1 - 0.8 / epoch
        rows.append(
            {"epoch": epoch, "loss": 2 / epoch, "accuracy": accuracy, "learning_rate": 1e-4, "faces_per_second": 400.0}
            | {"val_loss": 2.1 / epoch, "val_accuracy": accuracy - 0.05}
            | columns
        )
    return rows


def guesses(n=200, k=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), n).astype(np.float32), rng.integers(0, k, n)


def tiles(n, *answers, channels=1):
    faces = np.random.default_rng(1).integers(0, 256, (n, 12, 12, channels), dtype=np.uint8)
    caption, below = f"sad \N{RIGHTWARDS ARROW} {answers[0]}", (" or ".join(answers), "more")
    return tuple(FaceTile(face, answers, caption, below, "a face") for face in faces)


PROBABILITIES, LABELS = guesses()
CERTAIN = np.eye(7, dtype=np.float32)[LABELS]
FACE = tiles(1, "happy")[0].face
ONE = dict(zip(EMOTIONS, PROBABILITIES[0].tolist(), strict=True))
ODD = ("$\\frac{", "<b>", "a_b", "c&d", "", "é" * 300, "g")

# name -> draw(path, theme)
DRAWINGS = {
    "curves": lambda path, theme: plots.training_curves(epochs(20), path, theme=theme),
    "curves of one epoch": lambda path, theme: plots.training_curves(epochs(1), path, theme=theme),
    "curves without validation": lambda path, theme: plots.training_curves(
        [{k: v for k, v in row.items() if not k.startswith("val_")} for row in epochs(3)], path, theme=theme
    ),
    "curves of a diverged run": lambda path, theme: plots.training_curves(
        epochs(3, loss=float("nan"), val_loss=float("inf")), path, theme=theme
    ),
    "speed": lambda path, theme: plots.training_speed(epochs(20), path, theme=theme),
    "speed of one epoch": lambda path, theme: plots.training_speed(epochs(1), path, theme=theme),
    "speed of some epochs": lambda path, theme: plots.training_speed([{"epoch": 1}, *epochs(3)[1:]], path, theme=theme),
    "confusion": lambda path, theme: plots.confusion_matrix(np.arange(49).reshape(7, 7), EMOTIONS, path, theme=theme),
    "confusion with an empty row": lambda path, theme: plots.confusion_matrix(
        np.array([[5, 0], [0, 0]]), ("a", "b"), path, theme=theme
    ),
    "confusion of 13 classes": lambda path, theme: plots.confusion_matrix(
        np.eye(13, dtype=np.int64) * 1000, [f"class {i}" for i in range(13)], path, theme=theme
    ),
    "confusion of odd names": lambda path, theme: plots.confusion_matrix(
        np.eye(7, dtype=np.int64), ODD, path, theme=theme
    ),
    "reliability": lambda path, theme: plots.reliability_diagram(PROBABILITIES, LABELS, path, theme=theme),
    "reliability of certainty": lambda path, theme: plots.reliability_diagram(CERTAIN, LABELS, path, theme=theme),
    "coverage": lambda path, theme: plots.coverage_curve(PROBABILITIES, LABELS, path, theme=theme),
    "coverage of one confidence": lambda path, theme: plots.coverage_curve(CERTAIN, LABELS, path, theme=theme),
    "coverage of one face": lambda path, theme: plots.coverage_curve(CERTAIN[:1], LABELS[:1], path, theme=theme),
    "bars": lambda path, theme: plots.probability_bars(ONE, path, theme=theme),
    "bars with a gray face": lambda path, theme: plots.probability_bars(ONE, path, FACE, theme=theme),
    "bars with a flat gray face": lambda path, theme: plots.probability_bars(ONE, path, FACE[..., 0], theme=theme),
    "bars with a colour face": lambda path, theme: plots.probability_bars(ONE, path, np.tile(FACE, 3), theme=theme),
    "bars of odd names": lambda path, theme: plots.probability_bars(dict.fromkeys(ODD, 1 / 7), path, theme=theme),
    "gallery": lambda path, theme: draw_gallery(tiles(8, "happy"), path, theme=theme),
    "gallery in colour": lambda path, theme: draw_gallery(tiles(3, *ODD[:2], channels=3), path, theme=theme),
    "gallery of nothing": lambda path, theme: draw_gallery((), path, theme=theme),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_a_whole_picture_of_its_theme(name, tmp_path):
    theme = plots.DARK if len(name) % 2 else plots.LIGHT
    path = tmp_path / "new" / "plot.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a label that does not fit, a mean of nothing, a glyph that is missing
        DRAWINGS[name](path, theme)
    assert [one.name for one in path.parent.iterdir()] == ["plot.png"]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    paper = np.round(np.array(to_rgb(theme.paper)) * 255).astype(int)
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == paper).all()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert min(pixels.shape[:2]) > 75


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_chooses_the_format(suffix, start, tmp_path):
    path = tmp_path / f"bars{suffix}"
    plots.probability_bars(ONE, path)
    assert path.read_bytes().startswith(start)


def test_text_stays_text(tmp_path):
    """Journals ask for TrueType, not for Matplotlib's usual Type 3, and search and editors need letters."""
    for suffix in (".svg", ".pdf"):
        plots.probability_bars(ONE, tmp_path / f"bars{suffix}")
    assert ">happy</text>" in (tmp_path / "bars.svg").read_text()
    pdf = (tmp_path / "bars.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_bars_wear_the_colours_of_their_emotions(tmp_path):
    path = tmp_path / "bars.png"
    plots.probability_bars(dict.fromkeys(EMOTIONS, 1 / 7), path)
    seen = {tuple(color) for color in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)}
    for color in EMOTION_COLORS.values():
        assert tuple(round(channel * 255) for channel in to_rgb(color)) in seen


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        pytest.param(lambda path: plots.training_curves([], path), "empty history", id="no epoch"),
        pytest.param(lambda path: plots.training_speed([{"epoch": 1}], path), "at least one epoch", id="no speed"),
        pytest.param(
            lambda path: plots.coverage_curve(CERTAIN[:0], LABELS[:0], path), "at least one face", id="no face"
        ),
    ],
)
def test_nothing_to_draw_is_said_and_nothing_is_written(draw, message, tmp_path):
    with pytest.raises(FerkitError, match=message):
        draw(tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FerkitError, match="Cannot write") as caught:
        plots.probability_bars(ONE, tmp_path / "file" / "bars.png")
    assert "\n" not in str(caught.value)


def test_drawing_leaves_pyplot_alone(tmp_path):
    for name in ("confusion", "gallery"):
        DRAWINGS[name](tmp_path / "plot.png", plots.LIGHT)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_letters_come_from_whatever_font_has_them(tmp_path, monkeypatch, caplog):
    """A watch is in STIX, which Matplotlib brings along, and not in its font of words."""
    letter = "\N{WATCH}"
    monkeypatch.setattr(style, "_further_fonts", lambda: ())
    assert style.plain(f"a{letter}") == "a\N{WHITE SQUARE}"
    monkeypatch.setattr(style, "_further_fonts", lambda: ("STIXGeneral", "DejaVu Sans Display"))
    assert style.plain(f"a{letter}") == f"a{letter}"
    figure = style.new_figure(plots.LIGHT, height=1)
    figure.text(0.2, 0.5, style.plain(f"a{letter}"))
    figure.text(0.8, 0.5, "bold", weight="bold")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.save(figure, tmp_path / "a.png")
    assert not caplog.records, "the second is never bold"
