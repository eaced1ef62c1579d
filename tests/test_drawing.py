import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferkit.drawing import _UNCERTAIN_COLOR, _covered, _text_on, annotate
from ferkit.labels import EMOTIONS
from ferkit.palette import EMOTION_COLORS, color_of
from ferkit.results import UNCERTAIN
from recognition import emotion


def rgb(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def luminance(color) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(color) / 255]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_picture_keeps_its_size_and_the_original_its_pixels():
    image = np.full((400, 600, 3), 128, np.uint8)
    before = image.copy()
    drawn = annotate(image, [emotion("happy", box=(200, 100, 320, 240))])
    assert drawn.shape == image.shape
    assert np.array_equal(image, before)
    assert (drawn == rgb(EMOTION_COLORS["happy"])).all(axis=2).sum() > 500
    assert np.array_equal(drawn[110:230, 210:310], image[110:230, 210:310]), "the face itself is covered"


def test_without_faces_nothing_is_drawn():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert np.array_equal(annotate(image, []), image)


def test_bars_are_drawn_where_there_is_room_only():
    image = np.full((600, 800, 3), 200, np.uint8)
    roomy = [emotion(box=(100, 100, 300, 350))]
    assert not np.array_equal(annotate(image, roomy), annotate(image, roomy, bars=False))
    small = [emotion(box=(100, 100, 130, 135))]
    assert np.array_equal(annotate(image, small), annotate(image, small, bars=False))


def test_tiny_pictures_are_enlarged_by_a_whole_number():
    drawn = annotate(np.zeros((48, 48, 3), np.uint8), [emotion(box=(0, 0, 48, 48))])
    assert drawn.shape == (288, 288, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (30, 300)])
def test_odd_pictures(shape):
    drawn = annotate(np.zeros((*shape, 3), np.uint8), [emotion(box=(0, 0, shape[1], shape[0]))])
    assert drawn.dtype == np.uint8


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 560), st.integers(0, 360), st.integers(1, 40)), max_size=12))
def test_any_crowd_is_drawn(places):
    faces = [emotion("surprise", box=(x, y, x + side, y + side)) for x, y, side in places]
    assert annotate(np.zeros((400, 600, 3), np.uint8), faces).shape == (400, 600, 3)


def test_labels_of_neighbours_do_not_cover_each_other(monkeypatch):
    placed = []
    from ferkit import drawing

    real = drawing._draw_label
    monkeypatch.setattr(drawing, "_draw_label", lambda *a: placed.append(real(*a)) or placed[-1])
    boxes = [(40 + 70 * i, 100 + 5 * (i % 2), 90 + 70 * i, 160) for i in range(8)]
    annotate(np.zeros((400, 700, 3), np.uint8), [emotion("surprise", box=box) for box in boxes])
    assert len(placed) == 8
    assert not any(_covered(a, b) for i, a in enumerate(placed) for b in placed[:i])
    assert all(box.x1 >= 0 and box.x2 <= 700 for box in placed)


@pytest.mark.parametrize("label", [*EMOTIONS, "contempt", "bored", UNCERTAIN])
def test_text_can_be_read_on_its_label(label):
    """Contrast of at least 4.5, what WCAG 2.1 asks of normal text."""
    color = _UNCERTAIN_COLOR if label == UNCERTAIN else color_of(label)
    lighter, darker = sorted([luminance(rgb(color)), luminance(_text_on(color))], reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
