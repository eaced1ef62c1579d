"""Whether shares of right answers differ between groups by more than chance makes them differ."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


def standardised(right: Counts, counts: Counts, weights: Floats) -> list[tuple[float, float]]:
    """Accuracy of each group at the same mix of classes, and its standard error."""
    # Half a face more on either side, so that a class of which all were found does not seem certain.
    smooth = (right + 0.5) / (counts + 1)
    errors = np.sqrt((weights**2 * smooth * (1 - smooth) / counts).sum(axis=1))
    return list(zip(((right / counts) @ weights).tolist(), errors.tolist(), strict=True))


def widest_gap(names: Sequence[str], right: Counts, counts: Counts, weights: Floats, rng: np.random.Generator) -> Gap:
    """The widest gap that is more than chance, or if none is, the widest; arguments as of `gap_test`."""
    p, critical = gap_test(right, counts, weights, rng)
    shares, pooled = (right / counts) @ weights, _errors(right, counts, weights)
    own = np.array([error for _, error in standardised(right, counts, weights)])
    gaps = []
    for chance, pair in zip(p, itertools.combinations(range(len(names)), 2), strict=True):
        better, worse = sorted(pair, key=lambda group: -shares[group])
        difference = float(shares[better] - shares[worse])
        # Pooled errors are wrong where groups differ, own ones where nearly all are right.
        error = max(float(np.hypot(*errors[[better, worse]])) for errors in (pooled, own))
        # Few different counts can be shuffled to nothing; an interval is never narrower than that of one pair.
        spread = max(critical, _Z95) * error
        interval = (max(-1.0, difference - spread), min(1.0, difference + spread))
        gaps.append(Gap(names[better], names[worse], difference, interval, chance, (critical + _Z80) * error))
    return max([gap for gap in gaps if gap.clear] or gaps, key=lambda gap: gap.difference)


def gap_test(right: Counts, counts: Counts, weights: Floats, rng: np.random.Generator) -> tuple[list[float], float]:
    """Whether groups differ: p of each pair in the order of `itertools.combinations`, and the gap in standard errors
    that chance exceeds with probability `LEVEL`.

    right, counts: faces that were answered right, and all, by group and class, (G, C), counts above 0. weights: of the
    classes, (C,), sum 1. Right answers are shuffled among the groups within each class, which is to draw their numbers
    from a multivariate hypergeometric distribution; the largest standardised gap among the pairs is compared with those
    of the shuffles (Westfall and Young 1993; p as Phipson and Smyth 2010). If no group differs, the chance that any pair
    comes out below p is p. Where some do, the p of the others means nothing: errors are pooled over all groups. Faces are
    taken to be independent; several of one person make p too small.
    """
    errors = _errors(right, counts, weights)
    first, second = np.array(list(itertools.combinations(range(len(right)), 2))).T
    scale = np.hypot(errors[first], errors[second])

    def clearness(shares: Floats) -> Floats:
        gaps = np.abs(shares[..., first] - shares[..., second])
        clear = np.divide(gaps, scale, out=np.zeros_like(gaps), where=np.broadcast_to(scale > 0, gaps.shape))
        return np.asarray(clear, np.float64)

    drawn = np.zeros((_DRAWS, len(right)))
    for one, weight in enumerate(weights):
        shuffled = rng.multivariate_hypergeometric(counts[:, one], int(right[:, one].sum()), _DRAWS)
        drawn += weight * shuffled / counts[:, one]
    largest = clearness(drawn).max(axis=1)
    # What is equal but for rounding counts as equal.
    seen = clearness((right / counts) @ weights) - 1e-9
    p = [(1 + int((largest >= one).sum())) / (1 + _DRAWS) for one in seen]
    return p, float(np.quantile(largest, 1 - LEVEL))


def _errors(right: Counts, counts: Counts, weights: Floats) -> Floats:
    """Standard error of each group's share if no group differed, (G,)."""
    pooled = right.sum(axis=0) / counts.sum(axis=0)
    return np.asarray(np.sqrt((weights**2 * pooled * (1 - pooled) / counts).sum(axis=1)))
