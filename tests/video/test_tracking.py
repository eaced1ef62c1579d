import math

import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.results import Box
from ferkit.video.tracking import FaceTracker


def at(x, y=100, side=60):
    return Box(round(x), round(y), round(x) + side, round(y) + side)


def test_people_get_numbers_in_order_and_keep_them():
    tracker = FaceTracker()
    assert tracker.update([at(10), at(200)], 0.0) == [1, 2]
    assert tracker.update([at(205), at(15)], 0.1) == [2, 1]
    assert tracker.update([at(20), at(400), at(210)], 0.2) == [1, 3, 2]
    assert tracker.update([], 0.3) == []


@pytest.mark.parametrize(
    ("gap", "number"),
    [pytest.param(0.5, 1, id="half-a-second"), pytest.param(1.0, 1, id="just"), pytest.param(1.5, 2, id="too-long")],
)
def test_a_gap(gap, number):
    tracker = FaceTracker(max_gap_s=1.0)
    tracker.update([at(10)], 0.0)
    tracker.update([], gap / 2)
    assert tracker.update([at(12)], gap) == [number]


@pytest.mark.parametrize(
    ("pause", "number"), [pytest.param(9.0, 1, id="still-screen"), pytest.param(11.0, 2, id="too-long")]
)
def test_a_pause_in_which_there_are_no_frames(pause, number):
    tracker = FaceTracker(max_gap_s=1.0)
    tracker.update([at(10)], 0.0)
    assert tracker.update([at(12)], pause) == [number]


def test_a_number_is_never_used_again():
    tracker = FaceTracker(max_gap_s=0.1)
    seen = [tracker.update([at(10)] if time_s % 2 == 0 else [], float(time_s)) for time_s in range(10)]
    seen = [track for tracks in seen for track in tracks]
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("step", [pytest.param(1 / 30, id="30-fps"), pytest.param(0.2, id="5-fps")])
def test_two_who_pass_each_other_keep_their_numbers(step):
    """Each moves at 150 pixels a second; in the middle their boxes are nearly one."""
    tracker = FaceTracker()
    left, right = tracker.update([at(0), at(300)], 0.0)
    for time_s in np.arange(step, 2.0, step):
        found = tracker.update([at(150 * time_s, 100), at(300 - 150 * time_s, 118)], time_s)
        assert found == [left, right]


def test_one_who_moves_fast_is_followed_without_overlap():
    tracker = FaceTracker()
    seen = {tracker.update([at(70 * step, side=60)], step / 10)[0] for step in range(8)}
    assert seen == {1}


@pytest.mark.parametrize(
    "other",
    [pytest.param(at(400), id="far-away"), pytest.param(Box(0, 0, 300, 300), id="another-size")],
)
def test_somebody_else_is_somebody_else(other):
    tracker = FaceTracker()
    tracker.update([at(100)], 0.0)
    assert tracker.update([other], 0.1) == [2]


def test_prediction_goes_on_and_comes_to_rest():
    tracker = FaceTracker(max_gap_s=10)
    for step in range(10):
        tracker.update([at(10 * step)], step / 10)
    soon, late, latest = (tracker.predict(time_s)[1].x1 for time_s in (0.95, 5.0, 9.0))
    assert 92 <= soon <= 97
    assert 100 < late <= 120
    assert late == latest


def test_predictions_are_of_the_living():
    tracker = FaceTracker(max_gap_s=1)
    tracker.update([at(10)], 0.0)
    assert tracker.living == {1}
    assert tracker.predict(0.5) == {1: at(10)}
    tracker.update([], 1.0)
    assert tracker.predict(1.5) == {}
    assert tracker.living == frozenset()


def test_what_leaves_the_picture_is_not_predicted():
    tracker = FaceTracker(max_gap_s=9)
    for step in range(5):
        tracker.update([at(200 - 50 * step)], step / 20)
    assert tracker.living == {1}
    assert tracker.predict(5.0) == {}


def test_known_places_are_taken():
    tracker = FaceTracker()
    tracker.update([at(0), at(300)], 0.0)
    tracker.follow({1: at(150), 9: at(5)}, 0.5)
    assert tracker.update([at(200)], 0.6) == [1]
    assert tracker.living == {1, 2}


def test_after_a_cut_all_are_new():
    tracker = FaceTracker()
    tracker.update([at(10)], 0.0)
    tracker.end_all()
    assert tracker.update([at(10)], 0.1) == [2]


def test_time_that_stands_still_or_goes_back():
    tracker = FaceTracker()
    assert [tracker.update([at(10)], time_s) for time_s in (5.0, 5.0, 1.0, 5.1)] == [[1]] * 4


@pytest.mark.parametrize("gap", [-1, math.nan])
def test_wrong_gap(gap):
    with pytest.raises(UsageError, match="max_gap_s must be 0 or more"):
        FaceTracker(max_gap_s=gap)
