import itertools

import numpy as np
import pytest
from test_video_timeline import face

from ferkit.labels import EMOTIONS
from ferkit.render.drawing import Layout, free_place, least_covering
from ferkit.results import Box
from ferkit.video.frames import Frame
from ferkit.video.overlay import Overlay
from ferkit.video.timeline import FrameFaces
from moving import box_at, scene


def found(time_s, *places, hidden=(), label="happy", width=640, height=360):
    pixels = scene(*places, width=width, height=height)
    faces = tuple(
        face(track, label, box=box_at(*place, width, height).to_list()) for track, place in enumerate(places, start=1)
    )
    return FrameFaces(Frame(0, time_s, pixels), faces, hidden)


def drawn_boxes(monkeypatch):
    """The boxes that come to be drawn, frame by frame."""
    from ferkit.video import overlay

    seen, annotate = [], overlay.annotate
    monkeypatch.setattr(
        overlay, "annotate", lambda *a, **k: seen.append([one.box for one in a[1]]) or annotate(*a, **k)
    )
    return seen


def test_a_frame_is_annotated_and_left_as_it_is():
    frame = found(0.0, (200, 100))
    before = frame.frame.pixels.copy()
    drawn = Overlay(EMOTIONS)(frame)
    assert drawn.shape == before.shape
    assert (drawn != before).any()
    assert (frame.frame.pixels == before).all()


def test_boxes_do_not_tremble(monkeypatch):
    seen, draw = drawn_boxes(monkeypatch), Overlay(EMOTIONS)
    for step in range(30):
        draw(found(step / 30, (200 + 2 * (step % 2), 100)))
    steps = [abs(after[0].x1 - before[0].x1) for before, after in itertools.pairwise(seen[5:])]
    assert max(steps) <= 1


def test_boxes_keep_up_with_who_walks(monkeypatch):
    seen, draw = drawn_boxes(monkeypatch), Overlay(EMOTIONS)
    for step in range(30):
        draw(found(step / 30, (50 + 6 * step, 100)))
    assert abs(seen[-1][0].x1 - box_at(50 + 6 * 29, 100, 640, 360).x1) <= 15


def test_a_jump_is_followed_at_once(monkeypatch):
    seen, draw = drawn_boxes(monkeypatch), Overlay(EMOTIONS)
    draw(found(0.0, (50, 100)))
    draw(found(1 / 30, (400, 200)))
    assert seen[-1][0] == box_at(400, 200, 640, 360)


@pytest.mark.parametrize("time_s", [pytest.param(0.0, id="same-time"), pytest.param(-5.0, id="time-goes-back")])
def test_odd_times(time_s):
    draw = Overlay(EMOTIONS)
    draw(found(0.0, (50, 100)))
    assert draw(found(time_s, (52, 100))).shape == (360, 640, 3)


def test_what_is_drawn_stays_in_its_place():
    """The panel of a face goes left and right of it in turns if every frame is laid out anew."""
    draw = Overlay(EMOTIONS)
    panels = set()
    for step in range(20):
        edge = 640 - 72 - 118 + 2 * (step % 2)
        draw(found(step / 30, (edge, 100)))
        panels.add(draw._drawn[1].layout.bars)
    assert len(panels) == 1


def test_faces_and_where_they_should_be_are_blurred():
    away = Box(400, 200, 480, 280)
    frame = found(0.0, (100, 100), hidden=(away,))
    frame.frame.pixels[180:300:2] = 0  # stripes
    plain, hidden = Overlay(EMOTIONS)(frame), Overlay(EMOTIONS, blur_faces=True)(frame)
    assert (plain[200:280, 400:480] == frame.frame.pixels[200:280, 400:480]).all()
    for box in (away, box_at(100, 100, 640, 360)):
        part = slice(box.y1 + 8, box.y2 - 8), slice(box.x1 + 8, box.x2 - 8)
        less, more = (np.abs(np.diff(one[part].astype(int), axis=0)).mean() for one in (hidden, plain))
        assert less < 0.3 * more


def test_people_who_are_gone_are_forgotten():
    draw = Overlay(EMOTIONS)
    draw(found(0.0, (50, 100)))
    draw(found(2.0))
    assert draw._drawn == {}


RANKED = [("happy", 0.6), ("angry", 0.3), *((name, 0.02) for name in EMOTIONS if name not in ("happy", "angry"))]


def names(bars):
    return [name for name, _ in bars]


def test_bars_stand_in_the_order_of_the_classes():
    layout = Layout(order=EMOTIONS)
    assert names(layout.bars_to_draw(RANKED, 3, 7)) == list(EMOTIONS)
    assert names(layout.bars_to_draw(RANKED, 3, 6)) == ["angry", "disgust", "happy"]
    assert Layout().bars_to_draw(RANKED, 3, 6) == RANKED[:6]


def test_the_number_of_bars_does_not_flicker():
    layout = Layout(order=EMOTIONS)
    assert [len(layout.bars_to_draw(RANKED, 3, room)) for room in (6, 7, 6, 7, 8, 7, 8, 6)] == [3, 3, 3, 3, 7, 7, 7, 3]


def test_of_few_bars_the_same_stay():
    layout = Layout(order=EMOTIONS)
    layout.bars_to_draw([("happy", 0.9), ("sad", 0.04), ("fear", 0.03), *RANKED[2:4]], 3, 4)
    drawn = layout.bars_to_draw([("happy", 0.9), ("disgust", 0.05), ("fear", 0.03), ("sad", 0.02)], 3, 3)
    assert names(drawn) == ["fear", "happy", "sad"]
    drawn = layout.bars_to_draw([("happy", 0.7), ("disgust", 0.2), ("fear", 0.06), ("sad", 0.02)], 3, 3)
    assert names(drawn) == ["disgust", "fear", "happy"]


PLACES = [Box(0, 0, 10, 10), Box(20, 0, 30, 10), Box(40, 0, 50, 10)]


@pytest.mark.parametrize(
    ("taken", "before", "free", "least"),
    [
        pytest.param([], None, 0, 0, id="the-first"),
        pytest.param([], 2, 2, 2, id="the-one-before"),
        pytest.param([Box(40, 0, 45, 10)], 2, 0, 0, id="the-one-before-is-taken"),
        pytest.param([Box(0, 0, 100, 9), Box(20, 0, 21, 9)], None, None, 0, id="none-is-free"),
        pytest.param([Box(0, 0, 100, 9)], 1, None, 1, id="all-are-equally-bad"),
        pytest.param([Box(0, 0, 10, 10)], None, 1, 1, id="the-first-free"),
    ],
)
def test_places(taken, before, free, least):
    assert free_place(PLACES, taken, before) == free
    assert least_covering(PLACES, taken, before) == least


def test_letters_do_not_tremble_with_the_box():
    layout = Layout()
    sizes = {layout.style_for(Box(0, 0, 60, high), 1920).font_size for high in (48, 50, 52, 46, 50)}
    assert len(sizes) == 1
    assert layout.style_for(Box(0, 0, 60, 80), 1920).font_size > max(sizes)
