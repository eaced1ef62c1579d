"""Probabilities that do not flicker: an exponential mean over time, for each track on its own."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError

Values = npt.NDArray[np.floating[Any]]


class Smoother:
    """Exponential mean of each track's probabilities.

    time_constant_s: after so many seconds a new expression has 63 % of the weight (1 - 1/e), after three times as many
        95 %. 0 smooths nothing.

    Weights follow from time, not from frames, so a variable frame rate and left-out frames change nothing.

    >>> smoother = Smoother(time_constant_s=1.0)
    >>> smoother.update(1, 0.0, np.array([1.0, 0.0])).tolist()
    [1.0, 0.0]
    >>> smoother.update(1, 1.0, np.array([0.0, 1.0])).round(2).tolist()
    [0.37, 0.63]
    """

    def __init__(self, time_constant_s: float) -> None:
        if not (math.isfinite(time_constant_s) and time_constant_s >= 0):
            raise UsageError(f"The time constant of smoothing must be 0 or more seconds. Received: {time_constant_s}.")
        self.time_constant_s = time_constant_s
        self._means: dict[int, tuple[float, Values]] = {}

    def update(self, track: int, time_s: float, probabilities: Values) -> Values:
        """The mean of a track after new probabilities, float (classes,); they sum to 1 if all that came did.

        A time that does not lie after the last one leaves the mean as it is.
        """
        if track not in self._means or self.time_constant_s == 0:
            self._means[track] = time_s, probabilities
            return probabilities
        before, mean = self._means[track]
        weight = -math.expm1(-max(time_s - before, 0.0) / self.time_constant_s)
        mean = mean + weight * (probabilities - mean)
        self._means[track] = max(before, time_s), mean
        return mean

    def forget(self, track: int) -> None:
        """Drop what is kept of a track, if anything is."""
        self._means.pop(track, None)
