"""Explanations: maps that say what they claim to, sit right on the face, and change with the weights."""

import inspect
import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ferkit.cli.explain import explain as explain_command
from ferkit.detection.crops import cut_face, cut_to_picture
from ferkit.errors import UsageError
from ferkit.evaluation import (
    METHODS,
    Explanation,
    NoGradients,
    Occlusion,
    available,
    explain,
    open_method,
    overlay,
    ramp,
)
from ferkit.evaluation import explanation_methods as choosing
from ferkit.labels import EMOTIONS
from ferkit.models.classifier import EmotionClassifier
from ferkit.results import FaceEmotion
from ferkit.serve.answers import wanted_of
from ferkit.sources.images import FaceInput
from recognition import emotion, face_at

# Landmarks of a face that is turned by some thirty degrees.
TURNED = ((70.0, 60.0), (110.0, 83.0), (78.0, 88.0), (48.0, 97.0), (80.0, 116.0))


class EyeClassifier:
    """Happy as far as one place of a face is bright: rows 12 to 17, columns 32 to 43; sad as far as it is dark."""

    name = "eye"
    classes = ("happy", "sad")

    def __init__(self, channels: int = 1) -> None:
        self.face_input = FaceInput(channels=channels)
        self.most = 0

    def predict_proba(self, faces):
        self.most = max(self.most, len(faces))
        bright = faces[:, 12:18, 32:44].mean(axis=(1, 2, 3)) / 255
        return np.column_stack([bright, 1 - bright]).astype(np.float32)


def bright_eye(channels: int = 1) -> np.ndarray:
    """Black but for the place that `EyeClassifier` looks at: uint8 (48, 48, channels)."""
    face = np.zeros((48, 48, channels), np.uint8)
    face[12:18, 32:44] = 255
    return face


def middle_of(heatmap) -> tuple[float, float]:
    """Row and column of a map's centre of mass."""
    rows, columns = np.indices(heatmap.shape)
    return float((rows * heatmap).sum() / heatmap.sum()), float((columns * heatmap).sum() / heatmap.sum())


def rank_correlation(first, second) -> float:
    pair = pd.DataFrame({"a": np.ravel(first), "b": np.ravel(second)}).rank()
    return float(pair.corr().loc["a", "b"])


# --- Occlusion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_occlusion_finds_the_place_that_counts(channels):
    classifier = EyeClassifier(channels)
    face = bright_eye(channels)
    maps = Occlusion(classifier)(np.stack([face, face]), np.array([0, 1]))
    assert (maps.shape, maps.dtype) == ((2, 48, 48), np.float32)
    # A patch of 12x12 covers all of it, and what is below is as dark as the face's mean: 72 of 48x48 pixels are white.
    # The map is read between the middles of patches, where it is a little lower.
    assert maps[0].max() == pytest.approx(1 - 72 / 48**2, abs=0.05)
    row, column = middle_of(np.maximum(maps[0], 0))
    assert abs(row - 14.5) < 1.5
    assert abs(column - 37.5) < 1.5
    # What makes the face less happy makes it sadder.
    np.testing.assert_allclose(maps[1], -maps[0], atol=1e-6)
    assert classifier.most <= 32, "live frames must not be kept waiting"


def test_covering_adds_no_edge_of_its_own():
    """The square has the face's mean: on an even face there is nothing to cover."""
    face = np.full((48, 48, 1), 180, np.uint8)
    assert not Occlusion(EyeClassifier())(face[None], np.array([0])).any()


@pytest.mark.parametrize(
    ("patch", "stride"),
    [pytest.param(6, 6, id="no-overlap"), pytest.param(7, 5, id="odd"), pytest.param(48, 48, id="all-at-once")],
)
def test_patches_of_any_size(patch, stride):
    (found,) = Occlusion(EyeClassifier(), patch=patch, stride=stride)(bright_eye()[None], np.array([0]))
    assert found.shape == (48, 48)
    assert found.max() > 0.4


@pytest.mark.parametrize("values", [{"patch": 0}, {"patch": 49}, {"stride": 0}], ids=str)
def test_patches_that_make_no_sense(values):
    with pytest.raises(UsageError, match=f"{next(iter(values))} must be 1 to 48"):
        Occlusion(EyeClassifier(), **values)


# --- Where a map lies in the picture -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("face", "size"),
    [
        pytest.param(face_at(40, 30, 130, 140), (200, 180), id="upright"),
        pytest.param(face_at(35, 40, 125, 135, landmarks=TURNED), (200, 180), id="turned"),
        pytest.param(face_at(0, 0, 200, 120), (200, 120), id="whole-picture"),
        pytest.param(face_at(0, 100, 60, 180), (200, 180), id="over-the-edge"),
    ],
)
@pytest.mark.parametrize("shape", [(48, 48), (60, 40)], ids=str)
def test_a_map_sits_where_the_face_was_cut(face, size, shape):
    """Drawn onto the picture and cut out again as the network gets it, the map is what it was."""
    width, height = size
    takes = FaceInput(*shape, 1)
    rows, columns = np.indices(shape)
    blob = np.exp(-((rows - 0.4 * shape[0]) ** 2 + (columns - 0.65 * shape[1]) ** 2) / 40).astype(np.float32)
    matrix = cut_to_picture(face, takes, width=width, height=height)
    picture = np.zeros((height, width, 3), np.uint8)
    one = Explanation(emotion(box=face.box.to_list()), "happy", 0.7, "occlusion", blob, 0.5, matrix, picture)
    on_picture = one.on_picture()
    assert (on_picture.shape, on_picture.dtype) == ((height, width), np.float32)
    drawn = np.repeat(np.rint(255 * on_picture).astype(np.uint8)[..., None], 3, axis=2)
    again = cut_face(drawn, face, takes)[..., 0] / 255
    np.testing.assert_allclose(again, blob, atol=0.06)
    part = one.part()
    np.testing.assert_allclose(one.on_part(part), on_picture[part.y1 : part.y2, part.x1 : part.x2], atol=0.01)
    assert on_picture.sum() == pytest.approx(one.on_part(part).sum(), rel=1e-3)


# --- explain -------------------------------------------------------------------------------------------------------


def test_all_faces_of_a_picture_are_explained_or_those_that_are_given():
    picture = np.zeros((60, 160, 3), np.uint8)
    places = [face_at(5, 5, 53, 53), face_at(90, 5, 138, 53)]
    for left in (5, 90):
        picture[5:53, left : left + 48] = bright_eye(3)
    before = picture.copy()
    found = explain(EyeClassifier(), picture, detector=lambda image: places, method="occlusion")
    assert [one.face.box.x1 for one in found] == [5, 90]
    assert {(one.label, one.method, one.face.label) for one in found} == {("happy", "occlusion", "happy")}
    assert all(one.heatmap.max() == 1 and one.heatmap.min() >= 0 for one in found)
    assert all(0.8 < one.peak <= one.confidence for one in found)
    # The margin of -5 % cuts a little less than the face, around its middle (29, 29).
    row, column = middle_of(found[0].on_picture())
    assert (abs(row - (5 + 15)) < 3, abs(column - (5 + 38)) < 3) == (True, True)

    (one,) = explain(EyeClassifier(), picture, faces=places[1:], label="sadness", method="occlusion")
    assert (one.label, one.face.label) == ("sad", "happy")
    assert one.confidence == pytest.approx(1 - found[1].confidence)
    assert one.peak == pytest.approx(0, abs=0.01)
    assert explain(EyeClassifier(), picture, detector=lambda image: []) == []
    np.testing.assert_array_equal(picture, before)


def test_an_array_that_the_network_takes_is_a_face():
    (one,) = explain(EyeClassifier(), bright_eye(), method=Occlusion(EyeClassifier(), patch=8))
    assert (one.face.box.to_list(), one.label) == ([0, 0, 48, 48], "happy")
    np.testing.assert_allclose(one.on_picture(), one.heatmap, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        pytest.param({"label": "bored"}, UsageError, "'bored' is none of the classes of this model: happy, sad", id="label"),
        pytest.param({"method": "grad"}, UsageError, "Did you mean 'grad-cam'", id="method"),
        pytest.param({"method": "grad-cam"}, NoGradients, "eye has no model.keras. Use --method occlusion", id="no-keras"),
        pytest.param({"detector": "harr"}, UsageError, "Did you mean 'haar'", id="detector"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_one_clear_line(options, error, said):
    pytest.importorskip("keras")
    with pytest.raises(error, match=said):
        explain(EyeClassifier(), np.zeros((90, 90, 3), np.uint8), **options)


def test_without_keras_it_is_occlusion_and_says_so(monkeypatch, caplog):
    classifier = EmotionClassifier.load("default")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    choosing._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "ferkit"):
        assert open_method(classifier).name == open_method(classifier).name == "occlusion"
    assert caplog.messages == ["Explained by occlusion: Grad-CAM needs Keras: pip install 'ferkit[train]'."]
    assert available(classifier) == ["occlusion"]
    with pytest.raises(NoGradients, match=r"pip install .* Use --method occlusion"):
        open_method(classifier, "grad-cam")


def test_importing_it_needs_no_keras():
    script = "import sys, ferkit.evaluation.explanation; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax"} & set(done.stdout.split())


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_says_what_it_is(name):
    assert METHODS[name].__doc__.strip().split("\n")[0].endswith(".")
    assert METHODS[name].name == name


# --- Pictures ------------------------------------------------------------------------------------------------------


def explanation(heatmap, peak=None, picture=None, method="grad-cam") -> Explanation:
    picture = np.full((600, 500, 3), (200, 150, 120), np.uint8) if picture is None else picture
    face = face_at(100, 100, 292, 292) if picture.shape[0] > 300 else face_at(8, 8, 40, 40)
    matrix = cut_to_picture(face, FaceInput(), width=picture.shape[1], height=picture.shape[0])
    whole = FaceEmotion.from_probabilities(face, EMOTIONS, np.eye(7)[3])
    return Explanation(whole, "happy", 1.0, method, heatmap.astype(np.float32), peak, matrix, picture)


def spot() -> np.ndarray:
    heatmap = np.zeros((48, 48), np.float32)
    heatmap[20:28, 20:28] = 1
    return heatmap


def test_an_overlay_colours_the_place_and_leaves_the_rest():
    one = explanation(spot())
    before = one.picture.copy()
    drawn = one.overlay()
    assert drawn.shape[1] == 500
    assert 600 < drawn.shape[0] < 700, "with a legend below"
    np.testing.assert_array_equal(one.picture, before)
    marked = drawn[196, 196].astype(int)
    assert marked[1] > marked[2] + 60, "yellow and green, not gray"
    gray = drawn[130, 196].astype(int)
    assert np.ptp(gray) < 25, "the face below is gray"
    np.testing.assert_array_equal(drawn[400:600], before[400:600])
    bar = drawn[600:]
    assert len(np.unique(bar.reshape(-1, 3), axis=0)) > 50, "a ramp of colours, and letters"


def test_what_hardly_counts_is_drawn_faintly_and_nothing_not_at_all():
    def colour(one) -> int:
        pixel = one.overlay()[196, 196].astype(int)
        return int(pixel[1] - pixel[2])

    strong, faint = (explanation(spot(), peak, method="occlusion") for peak in (0.2, 0.01))
    assert (strong.strength, faint.strength) == (1, pytest.approx(0.2))
    assert colour(strong) > 3 * colour(faint) > 0
    assert abs(colour(explanation(np.zeros((48, 48)), 0.0))) < 25


def test_the_legend_is_as_faint_as_the_face():
    def colour(*peaks) -> int:
        legend = overlay([explanation(spot(), peak, method="occlusion") for peak in peaks])[600:].astype(int)
        return int((legend[..., 1] - legend[..., 2]).max())

    strong = colour(0.2)
    assert colour(0.01) == pytest.approx(0.2 * strong, abs=3)
    assert colour(0.0) == 0
    assert colour(0.01, 0.2) == strong, "of several faces the strongest"


def test_small_pictures_are_enlarged_for_their_letters():
    small = explanation(spot(), picture=np.full((48, 48, 3), 99, np.uint8))
    assert overlay([small]).shape[1] == 480


def test_colours_for_pages_rise_from_nothing():
    colors = ramp(5)
    assert [color[7:] for color in (colors[0], colors[-1])] == ["00", "B8"]
    assert all(len(color) == 9 for color in colors)


def test_an_explanation_as_json():
    found = explanation(spot(), 0.25, method="occlusion").to_dict()
    assert list(found) == [
        "box", "detection_score", "label", "confidence", "probabilities", "roll",
        "explained", "explained_probability", "method", "peak", "strength", "to_picture", "heatmap",
    ]  # fmt: skip
    assert np.array(found["heatmap"]).shape == (48, 48)
    assert np.array(found["to_picture"]).shape == (2, 3)


def test_the_shell_the_page_and_python_explain_by_the_same_method():
    of_python = inspect.signature(explain).parameters["method"].default
    of_page = inspect.signature(wanted_of).parameters["method"].default
    of_shell = inspect.signature(explain_command).parameters["method"].default
    assert of_python == of_page == of_shell == "occlusion"
