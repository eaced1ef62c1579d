"""Whether shares of right answers differ between groups by more than chance makes them differ."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ferkit import metrics

# A gap that chance makes more rarely than this is called one.
LEVEL = 0.05
_DRAWS = 10_000
_Z95, _Z80 = 1.959963984540054, 0.8416212335729143

Interval = tuple[float, float]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """The accuracy of two groups compared.

    difference: of `better` over `worse`. difference_ci95: such intervals hold the true differences of all pairs at once in
        95 % of data sets, so it may be read though the pair was chosen for its gap.
    p: how often chance alone would make some gap among these groups as clear as this one, if no group differed: a
        permutation test of the largest standardised gap (Westfall and Young 1993), so many pairs need no further
        correction.
    detectable: the gap between these two that a set of this size would show four times out of five.
    """

    better: str
    worse: str
    difference: float
    difference_ci95: Interval
    p: float
    detectable: float

    @property
    def clear(self) -> bool:
        """More than chance: by the test and by the interval, which may differ by a hair."""
        return self.p < LEVEL and self.difference_ci95[0] > 0


class Sample(Protocol):
    """What was answered on the faces of G groups, and what of it is chance. Weights are of the C classes and have the sum 1."""

    def known_classes(self) -> npt.NDArray[np.bool_]:
        """Classes of which every group has enough to be compared on, (C,)."""

    def of_classes(self, chosen: npt.NDArray[np.bool_], /) -> "Sample":
        """The same of some classes."""

    def merged(self) -> "Sample":
        """The same with all classes taken together as one."""

    def shares(self, weights: Floats, /) -> Floats:
        """Share of right answers of each group at this mix of classes, (G,): direct standardisation."""

    def standard_errors(self, weights: Floats, /) -> Floats:
        """Of `shares`, each from its own group alone, (G,)."""

    def gap_test(self, weights: Floats, rng: np.random.Generator, /) -> tuple[list[float], float]:
        """Whether groups differ: p of each pair in the order of `itertools.combinations`, and the gap in standard errors
        that chance exceeds with probability `LEVEL`.

        Shuffles what was sampled among the groups, and compares the largest standardised gap among the pairs with those
        of the shuffles (Westfall and Young 1993; p as Phipson and Smyth 2010). If no group differs, the chance that any
        pair comes out below p is p.
        """

    def widest_gap(self, names: Sequence[str], weights: Floats, rng: np.random.Generator, /) -> Gap:
        """The widest gap that is more than chance, or if none is, the widest."""

    def accuracy_interval(self) -> Interval:
        """95 % interval of the accuracy over all groups and classes."""


@dataclass(frozen=True, eq=False)
class Faces:
    """A `Sample` in which each face stands for itself: faces that were answered right, and all, by group and class, (G, C)."""

    right: Counts
    counts: Counts

    def known_classes(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.counts > 0).all(axis=0), np.bool_)

    def of_classes(self, chosen: npt.NDArray[np.bool_]) -> "Faces":
        return Faces(self.right[:, chosen], self.counts[:, chosen])

    def merged(self) -> "Faces":
        return Faces(self.right.sum(axis=1, keepdims=True), self.counts.sum(axis=1, keepdims=True))

    def shares(self, weights: Floats) -> Floats:
        return np.asarray((self.right / self.counts) @ weights, np.float64)

    def standard_errors(self, weights: Floats) -> Floats:
        # Half a face more on either side, so that a class of which all were found does not seem certain.
        smooth = (self.right + 0.5) / (self.counts + 1)
        return np.asarray(np.sqrt((weights**2 * smooth * (1 - smooth) / self.counts).sum(axis=1)), np.float64)

    def gap_test(self, weights: Floats, rng: np.random.Generator) -> tuple[list[float], float]:
        """Counts must be above 0. Right answers are shuffled among the groups within each class, which is to draw their
        numbers from a multivariate hypergeometric distribution. Where some groups differ, the p of the others means
        nothing: errors are pooled over all groups.
        """
        errors = self._pooled_errors(weights)
        drawn = np.zeros((_DRAWS, len(self.right)))
        for one, weight in enumerate(weights):
            counts = self.counts[:, one]
            shuffled = rng.multivariate_hypergeometric(counts, int(self.right[:, one].sum()), _DRAWS)
            drawn += weight * shuffled / counts
        return chances(clearness(self.shares(weights), errors), clearness(drawn, errors).max(axis=1))

    def widest_gap(self, names: Sequence[str], weights: Floats, rng: np.random.Generator) -> Gap:
        p, critical = self.gap_test(weights, rng)
        # Pooled errors are wrong where groups differ, own ones where nearly all are right.
        own, pooled = self.standard_errors(weights), self._pooled_errors(weights)
        spread = np.maximum(errors_of_pairs(own), errors_of_pairs(pooled))
        return widest(names, self.shares(weights), spread, p, critical)

    def accuracy_interval(self) -> Interval:
        return metrics.wilson_interval(int(self.right.sum()), int(self.counts.sum()))

    def _pooled_errors(self, weights: Floats) -> Floats:
        """Standard error of each group's share if no group differed, (G,)."""
        pooled = self.right.sum(axis=0) / self.counts.sum(axis=0)
        return np.asarray(np.sqrt((weights**2 * pooled * (1 - pooled) / self.counts).sum(axis=1)))


def widest(names: Sequence[str], shares: Floats, spread: Floats, p: Sequence[float], critical: float) -> Gap:
    """As `Sample.widest_gap`, from shares of groups, (G,), and of all pairs the standard error of their gap and p, (pairs,).

    critical: the gap in standard errors that chance exceeds with probability `LEVEL`.
    """
    gaps = []
    for error, chance, pair in zip(spread.tolist(), p, itertools.combinations(range(len(names)), 2), strict=True):
        better, worse = sorted(pair, key=lambda group: -shares[group])
        difference = float(shares[better] - shares[worse])
        # Few different counts can be shuffled to nothing; an interval is never narrower than that of one pair.
        line = max(critical, _Z95)
        reach = line * error
        interval = (max(-1.0, difference - reach), min(1.0, difference + reach))
        gaps.append(Gap(names[better], names[worse], difference, interval, chance, (line + _Z80) * error))
    return max([gap for gap in gaps if gap.clear] or gaps, key=lambda gap: gap.difference)


def clearness(shares: Floats, errors: Floats) -> Floats:
    """The gaps of all pairs of groups in standard errors, (..., pairs); of shares and their errors, (..., G)."""
    first, second = _pairs(shares.shape[-1])
    gaps = np.abs(shares[..., first] - shares[..., second])
    scale = np.broadcast_to(errors_of_pairs(errors), gaps.shape)
    return np.divide(gaps, scale, out=np.zeros_like(gaps), where=scale > 0)


def errors_of_pairs(errors: Floats) -> Floats:
    """Standard errors of the gaps of all pairs, (..., pairs), from those of the groups, (..., G)."""
    first, second = _pairs(errors.shape[-1])
    return np.asarray(np.hypot(errors[..., first], errors[..., second]), np.float64)


def chances(seen: Floats, largest: Floats) -> tuple[list[float], float]:
    """For each pair its p, (pairs,), and the clearness that chance exceeds with probability `LEVEL`, from the largest of each
    shuffle, (draws,).
    """
    # What is equal but for rounding counts as equal.
    p = [(1 + int((largest >= one - 1e-9).sum())) / (1 + len(largest)) for one in seen]
    return p, float(np.quantile(largest, 1 - LEVEL))


def _pairs(groups: int) -> tuple[Counts, Counts]:
    first, second = np.triu_indices(groups, 1)
    return first, second
