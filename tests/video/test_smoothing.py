import math

import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.video.tracking import Smoother

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_the_first_is_taken_as_it_is():
    assert Smoother(1.0).update(1, 7.0, A).tolist() == A.tolist()


@pytest.mark.parametrize(
    "times",
    [
        pytest.param([2.0], id="one-frame"),
        pytest.param(np.linspace(0, 2, 61)[1:], id="30-fps"),
        pytest.param([0.1, 0.11, 1.7, 2.0], id="variable"),
    ],
)
def test_what_is_left_depends_on_time_not_on_frames(times):
    smoother = Smoother(0.5)
    smoother.update(1, 0.0, A)
    for time_s in times:
        mean = smoother.update(1, time_s, B)
    assert mean[0] == pytest.approx(math.exp(-2 / 0.5))
    assert mean.sum() == pytest.approx(1)


def test_tracks_do_not_mix_and_can_be_forgotten():
    smoother = Smoother(1.0)
    smoother.update(1, 0.0, A)
    assert smoother.update(2, 0.1, B).tolist() == B.tolist()
    smoother.forget(1)
    smoother.forget(99)
    assert smoother.update(1, 0.2, B).tolist() == B.tolist()


def test_no_smoothing():
    smoother = Smoother(0)
    smoother.update(1, 0.0, A)
    assert smoother.update(1, 0.0, B).tolist() == B.tolist()


@pytest.mark.parametrize("time_s", [1.0, 0.5])
def test_time_that_does_not_rise(time_s):
    smoother = Smoother(1.0)
    smoother.update(1, 1.0, A)
    assert smoother.update(1, time_s, B).tolist() == A.tolist()
    assert smoother.update(1, 2.0, B)[0] == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("constant", [-1, math.nan, math.inf])
def test_wrong_time_constant(constant):
    with pytest.raises(UsageError, match="0 or more seconds"):
        Smoother(constant)
