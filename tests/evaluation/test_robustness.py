"""Corruptions: what each does to a face, the same every time; and what is left of a classifier's accuracy."""

import json

import numpy as np
import pytest

from faces import face_set
from ferkit.errors import UsageError
from ferkit.evaluation.corruptions import CORRUPTIONS
from ferkit.evaluation.report import evaluate
from ferkit.evaluation.robustness import measure_robustness, plot
from ferkit.labels import EMOTIONS
from ferkit.models import sample_picture
from ferkit.render import Document
from ferkit.render.page import to_html
from ferkit.sources.images import FaceInput, read_image


class Bars:
    """Knows the class by the place of the bright bar (`face_set`), as long as it sees one."""

    name, classes, face_input = "bars", EMOTIONS, FaceInput()

    def __init__(self):
        self.seen = 0

    def predict_proba(self, faces, /):
        self.seen += len(faces)
        bars = faces[:, :, :42, 0].reshape(len(faces), -1, 7, 6).mean(axis=(1, 3))
        spread = bars - bars.max(axis=1, keepdims=True)
        powers = np.exp(spread / 20)
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def portrait(channels=1, size=48):
    face = read_image(sample_picture())[57:177, 165:285]
    import cv2

    small = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    return small[None] if channels == 3 else small.mean(axis=2, keepdims=True).astype(np.uint8)[None]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "size"), [pytest.param(1, 48, id="gray"), pytest.param(3, 96, id="colour")])
def test_each_strength_takes_more_away(name, channels, size):
    """And keeps shape and type, leaves the original alone, and comes out the same again."""
    corruption = CORRUPTIONS[name]
    faces = np.repeat(portrait(channels, size), 8, axis=0)
    before = faces.copy()
    copies = [corruption.apply(faces, one, np.random.default_rng(3)) for one in corruption.strengths]
    again = [corruption.apply(faces, one, np.random.default_rng(3)) for one in corruption.strengths]
    np.testing.assert_array_equal(copies, again)
    np.testing.assert_array_equal(faces, before)
    assert all(copy.shape == faces.shape and copy.dtype == np.uint8 for copy in copies)
    losses = [float(np.abs(copy.astype(float) - faces).mean()) for copy in copies]
    if min(corruption.strengths) < 0:  # to both sides of the clean face
        middle = len(losses) // 2
        losses, other = losses[middle:], losses[:middle][::-1]
        assert other == sorted(other)
        assert other[0] > 1
    # Beyond half a right angle a tilted face looks like others again.
    assert losses[:3] == sorted(losses[:3])
    assert 0 < losses[0] < losses[-1]
    assert losses[-1] > 3


@pytest.mark.parametrize(
    ("name", "strength", "rows"),
    [pytest.param("eyes", 12, slice(12, 24), id="eyes"), pytest.param("mouth", 12, slice(31, 43), id="mouth")],
)
def test_bars_cover_where_eyes_and_mouth_are(name, strength, rows):
    white = np.full((2, 48, 48, 1), 255, np.uint8)
    covered = CORRUPTIONS[name].apply(white, strength, np.random.default_rng(0))
    expected = white.copy()
    expected[:, rows] = 0
    np.testing.assert_array_equal(covered, expected)


def test_bars_anywhere_lie_and_stand():
    covered = CORRUPTIONS["bar"].apply(np.full((40, 48, 48, 1), 255, np.uint8), 8, np.random.default_rng(0)) == 0
    assert (covered.sum(axis=(1, 2, 3)) == 8 * 48).all()
    lying = covered.all(axis=2).any(axis=(1, 2))
    assert 10 < lying.sum() < 30
    assert len({tuple(np.flatnonzero(one.any(axis=1))) for one in covered[lying][..., 0]}) > 5


def test_noise_is_not_that_of_the_face_before_nor_of_the_other_strength():
    gray = np.full((4, 48, 48, 1), 128, np.uint8)
    faces = face_set(6, 0, "val")
    drawn = CORRUPTIONS["noise"].apply(gray, 10, np.random.default_rng(0))
    assert len(np.unique(drawn.reshape(4, -1), axis=0)) == 4
    assert drawn.std() == pytest.approx(10, rel=0.05)
    assert measure_robustness(Bars(), faces).to_dict() == measure_robustness(Bars(), faces).to_dict()


def test_figures_are_those_of_evaluate_and_every_face_is_counted():
    faces, bars = face_set(70, 0, "val"), Bars()
    calls = []
    found = measure_robustness(bars, faces, progress=lambda done, total: calls.append((done, total)))
    plain = evaluate(Bars(), faces)
    assert (found.clean.accuracy, found.clean.macro_f1, found.clean.ece) == (plain.accuracy, plain.macro_f1, plain.ece)
    looks = 1 + sum(len(one.strengths) for one in CORRUPTIONS.values())
    assert bars.seen == 70 * looks
    assert calls[-1] == (70 * looks, 70 * looks)
    means = [np.mean([level.accuracy for level in levels]) for levels in found.levels.values()]
    assert found.relative_accuracy == pytest.approx(np.mean(means) / plain.accuracy)
    low, high = found.relative_accuracy_ci95
    assert 0 < low < found.relative_accuracy < high
    assert found.mean_of("rotation") < found.mean_of("contrast") == found.clean.accuracy


def test_limit_draws_the_same_faces_again():
    faces = face_set(70, 0, "val")
    first, second = (measure_robustness(Bars(), faces, limit=20) for _ in range(2))
    assert first.n == 20
    assert first.to_dict() == second.to_dict()
    assert measure_robustness(Bars(), faces, limit=500).n == 70
    with pytest.raises(UsageError, match="at least 1"):
        measure_robustness(Bars(), faces, limit=0)


def test_the_page_the_json_and_the_terminal_carry_it(tmp_path):
    faces = face_set(28, 0, "val")
    report = evaluate(Bars(), faces, robustness=True)
    (found,), stored = report.parts, report.to_dict()["robustness"]
    said = to_html(Document("t", "", (found.section(),)), tmp_path)
    assert "Robustness to image corruption" in said
    assert (tmp_path / "robustness-dark.png").is_file()
    assert json.loads(json.dumps(stored)) == stored
    assert list(stored["degradations"]) == list(CORRUPTIONS)
    assert stored["degradations"]["jpeg"]["levels"][0]["strength"] == 60
    for name in CORRUPTIONS:
        assert name in str(found)
        assert name in said


def test_several_models_share_a_plot(tmp_path):
    found = [measure_robustness(Bars(), face_set(n, 0, "val")) for n in (7, 14)]
    plot(found, tmp_path / "two.png")
    assert (tmp_path / "two.png").stat().st_size > 10_000
