"""Whether an exported network answers as the original does, on a thousand stored faces."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]

# Greatest difference of a probability between a network and its export (float32 rounding is about 1e-6).
TOLERANCE = 1e-4
# What eight bits may cost. Drawn faces are hard to name, so many are close calls: on photographed faces the labels agree
# more often than here, and the accuracy falls by 0.3 points at most.
MEAN_TOLERANCE, LEAST_AGREEMENT = 0.02, 0.95


@dataclass(frozen=True)
class Parity:
    """How far two networks are apart: over `faces` faces, differences of probabilities, 0 to 1.

    agreement: share of faces on which the most probable class is the same. rounded: whether the exported network
    computes in eight bits, where a mean and an agreement are asked for instead of a greatest difference.
    """

    faces: int
    max_difference: float
    mean_difference: float
    agreement: float
    rounded: bool = False

    @property
    def problem(self) -> str | None:
        """What is wrong, in half a sentence; None if nothing is. NaN is wrong."""
        if self.rounded:
            good = self.mean_difference <= MEAN_TOLERANCE and self.agreement >= LEAST_AGREEMENT
            limit = f"at most {MEAN_TOLERANCE:g} on average, and {LEAST_AGREEMENT:.0%} of the labels"
        else:
            good, limit = self.max_difference <= TOLERANCE, f"at most {TOLERANCE:g}"
        return None if good else f"{self}; allowed: {limit}"

    def __str__(self) -> str:
        largest = f"probabilities differ by at most {self.max_difference:.2g}"
        if not self.rounded:
            return f"{largest} on {self.faces:,} faces"
        return f"{largest}, {self.mean_difference:.2g} on average, {self.agreement:.1%} of {self.faces:,} labels agree"


def compare(original: Probabilities, exported: Probabilities, *, rounded: bool = False) -> Parity:
    """Compare float32 (N, classes) with the same of an export."""
    difference = np.abs(original - exported)
    same = original.argmax(axis=1) == exported.argmax(axis=1)
    return Parity(len(original), float(difference.max()), float(difference.mean()), float(same.mean()), rounded)
