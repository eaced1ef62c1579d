"""A person's probabilities over time in bounded memory, for plots: the longer it gets, the coarser it becomes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# A plot is some two thousand pixels wide.
_MOST = 4096


class History:
    """Stretches of time with the probabilities shown in them: each lasts from its start to its end, in seconds."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._values: list[npt.NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start_s: float, end_s: float, probabilities: Sequence[float]) -> None:
        """Append a stretch that does not begin before the last one ended."""
        self._starts.append(start_s)
        self._ends.append(end_s)
        self._values.append(np.array(probabilities))
        if len(self) > _MOST:
            self._halve()

    def runs(self) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Times (N + 1,) and probabilities (N + 1, classes) of each time that the person was there without a break.

        Probabilities hold from their time on; the last ones are repeated at the end.
        """
        found: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        first = 0
        for place in range(1, len(self) + 1):
            if place == len(self) or self._starts[place] > self._ends[place - 1] + 1e-6:
                times = np.array([*self._starts[first:place], self._ends[place - 1]])
                found.append((times, np.array([*self._values[first:place], self._values[place - 1]])))
                first = place
        return found

    def _halve(self) -> None:
        """Make one of each two neighbours, weighted by how long they last; gaps stay."""
        starts, ends, values = self._starts, self._ends, self._values
        self._starts, self._ends, self._values = [], [], []
        place = 0
        while place < len(starts):
            last = min(place + 1, len(starts) - 1)
            if starts[last] > ends[place] + 1e-6:
                last = place
            lasting = np.maximum(np.subtract(ends[place : last + 1], starts[place : last + 1]), 1e-9)
            self._starts.append(starts[place])
            self._ends.append(ends[last])
            self._values.append(np.average(values[place : last + 1], axis=0, weights=lasting))
            place = last + 1
