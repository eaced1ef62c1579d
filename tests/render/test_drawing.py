import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferkit.labels import EMOTION_COLORS, EMOTIONS, color_of
from ferkit.render import drawing as drawing
from ferkit.render.drawing import _UNCERTAIN_COLOR, _text_on, annotate
from ferkit.results import UNCERTAIN
from recognition import emotion


def rgb(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def luminance(color) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(color) / 255]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


# Machado, Oliveira and Fernandes 2009, complete loss of one kind of cone; for linear RGB.
COLOUR_BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("blindness", COLOUR_BLIND)
def test_emotions_differ_for_the_colour_blind(blindness):
    colors = np.array([rgb(color) for color in EMOTION_COLORS.values()], np.float32)[None] / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_BLIND[blindness]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(seen.astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), 1)]
    assert distances.min() > 15, "CIE 1976; 2.3 is just noticeable side by side"


def test_the_picture_keeps_its_size_and_the_original_its_pixels():
    image = np.full((400, 600, 3), 128, np.uint8)
    before = image.copy()
    drawn = annotate(image, [emotion("happy", box=(200, 100, 320, 240))])
    assert drawn.shape == image.shape
    assert np.array_equal(image, before)
    assert (drawn == rgb(EMOTION_COLORS["happy"])).all(axis=2).sum() > 500
    assert np.array_equal(drawn[100:240, 200:320], image[100:240, 200:320]), "the face itself is covered"


def test_without_faces_nothing_is_drawn():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert np.array_equal(annotate(image, []), image)


def test_bars_are_drawn_where_there_is_room_only():
    image = np.full((600, 800, 3), 200, np.uint8)
    roomy = [emotion(box=(100, 100, 300, 350))]
    assert not np.array_equal(annotate(image, roomy), annotate(image, roomy, bars=False))
    small = [emotion(box=(100, 100, 130, 124))]
    assert np.array_equal(annotate(image, small), annotate(image, small, bars=False))


def test_tiny_pictures_are_enlarged_by_a_whole_number():
    drawn = annotate(np.zeros((48, 48, 3), np.uint8), [emotion(box=(0, 0, 48, 48))])
    assert drawn.shape == (288, 288, 3)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((1, 1), (256, 256), id="one pixel"),
        pytest.param((30, 60), (150, 300), id="a small crop"),
        pytest.param((200, 30), (1000, 150), id="narrow"),
        pytest.param((5, 3000), (5, 3000), id="a strip is left as it is"),
        pytest.param((3000, 1), (3000, 1), id="a line"),
    ],
)
def test_odd_pictures(shape, expected):
    drawn = annotate(np.zeros((*shape, 3), np.uint8), [emotion(box=(0, 0, shape[1], shape[0]))])
    assert drawn.dtype == np.uint8
    assert drawn.shape == (*expected, 3)


def test_a_large_picture_can_be_shrunk_on_the_way():
    image = np.full((1500, 3000, 3), 128, np.uint8)
    drawn = annotate(image, [emotion("happy", box=(1500, 500, 1800, 900))], longest=600, bars=False)
    assert drawn.shape == (300, 600, 3)
    rows, columns = (drawn == rgb(EMOTION_COLORS["happy"])).all(axis=2).nonzero()
    assert (columns.min(), rows.max()) == (297, 182), "the frame stands just outside of the face, at 300..360, 100..180"
    assert annotate(image, [], longest=9999).shape == image.shape


def test_memory_of_any_order_is_drawn():
    """Mirrored views and video frames that belong to somebody else."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    faces = [emotion(box=(100, 100, 160, 180))]
    frozen = image[:, ::-1].copy()
    frozen.flags.writeable = False
    for options in ({}, {"longest": 200}):
        assert np.array_equal(annotate(image[:, ::-1], faces, **options), annotate(frozen, faces, **options))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 560), st.integers(0, 360), st.integers(1, 40)), max_size=12))
def test_any_crowd_is_drawn(places):
    faces = [emotion("surprise", box=(x, y, x + side, y + side)) for x, y, side in places]
    assert annotate(np.zeros((400, 600, 3), np.uint8), faces).shape == (400, 600, 3)


@pytest.fixture
def placed(monkeypatch):
    """Where labels and leaders were drawn."""
    calls = {"label": [], "leader": []}
    label, line = drawing._draw_label, drawing.cv2.line
    monkeypatch.setattr(drawing, "_draw_label", lambda *a: calls["label"].append(label(*a)) or calls["label"][-1])
    monkeypatch.setattr(drawing.cv2, "line", lambda *a: calls["leader"].append(a[1:3]) or line(*a))
    return calls


def overlapping(boxes):
    return [(a, b) for place, a in enumerate(boxes) for b in boxes[:place] if a.overlap(b)]


def test_labels_of_neighbours_do_not_cover_each_other(placed):
    boxes = [(40 + 70 * i, 100 + 5 * (i % 2), 90 + 70 * i, 160) for i in range(8)]
    annotate(np.zeros((400, 700, 3), np.uint8), [emotion("surprise", box=box) for box in boxes])
    assert len(placed["label"]) == 8
    assert not overlapping(placed["label"])
    assert all(box.x1 >= 0 and box.x2 <= 700 for box in placed["label"])


def test_forty_small_faces_have_a_label_each(placed):
    corners = [(60 + 155 * (i % 8), 60 + 130 * (i // 8)) for i in range(40)]
    annotate(np.zeros((720, 1280, 3), np.uint8), [emotion("surprise", box=(x, y, x + 24, y + 24)) for x, y in corners])
    assert not overlapping(placed["label"])
    assert all(label.height <= 24 for label in placed["label"]), "a label is no larger than its face"
    assert placed["leader"] == [], "every label stands at its face"


def test_a_label_that_had_to_move_away_is_joined_to_its_face(placed):
    """A face walled in by others: its label finds no place beside it."""
    wall = [(x, y, x + 60, y + 60) for x in range(100, 500, 66) for y in range(100, 300, 66)]
    annotate(np.zeros((400, 600, 3), np.uint8), [emotion("surprise", box=box) for box in wall])
    assert placed["leader"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 300, id="long"),
        pytest.param("two\nlines\r\tand tabs", id="lines"),
        pytest.param("", id="empty"),
        pytest.param("\ud800", id="half a character"),
        pytest.param("\u0440\u0430\u0434\u043e\u0441\u0442\u044c", id="Cyrillic"),
        pytest.param("\u559c\u3073", id="a script without letters here"),
        pytest.param("\u202eevil\0", id="control characters"),
    ],
)
def test_any_class_name_is_drawn(name, placed):
    face = emotion(name, box=(200, 100, 320, 240), classes=(name, "other", "third"))
    drawn = annotate(np.zeros((400, 600, 3), np.uint8), [face])
    assert drawn.any()
    assert placed["label"][0].width < 250


def test_letters_beyond_ascii_have_shapes_of_their_own():
    """Not the box that a font draws for a letter that it lacks."""
    font = drawing._font(20, ascii_only=False)
    assert bytes(font.getmask("\u0440")) != bytes(font.getmask("\u0434"))


def test_of_many_classes_those_that_fit_are_shown(monkeypatch):
    classes = tuple(f"class {number}" for number in range(20))
    drawn = []
    monkeypatch.setattr(drawing, "_short", lambda name: drawn.append(name) or name)
    annotate(np.zeros((480, 640, 3), np.uint8), [emotion("class 7", box=(200, 150, 300, 270), classes=classes)])
    assert drawn[:2] == ["class 7", "class 7"]
    assert 5 < len(drawn) < 20


@pytest.mark.parametrize("label", [*EMOTIONS, "contempt", "bored", UNCERTAIN])
def test_text_can_be_read_on_its_label(label):
    """Contrast of at least 4.5, what WCAG 2.1 asks of normal text."""
    color = _UNCERTAIN_COLOR if label == UNCERTAIN else color_of(label)
    lighter, darker = sorted([luminance(rgb(color)), luminance(_text_on(color))], reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_no_two_classes_have_a_color():
    names = [*EMOTIONS, *(f"class {number}" for number in range(300))]
    colors = [color_of(name) for name in names]
    assert len(set(colors)) == len(names)
    assert colors == [color_of(name) for name in names]
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in colors)
