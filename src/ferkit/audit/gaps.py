"""Whether shares of right answers differ between groups by more than chance makes them differ."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

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

    difference: of `better` over `worse`; difference_ci95: Newcombe 1998 (normal where the mix is adjusted).
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
        return self.p < LEVEL


def standardised(right: Counts, counts: Counts, weights: Floats) -> list[tuple[float, float]]:
    """Accuracy of each group at the same mix of classes, and its standard error."""
    # Half a face more on either side, so that a class of which all were found does not seem certain.
    smooth = (right + 0.5) / (counts + 1)
    errors = np.sqrt((weights**2 * smooth * (1 - smooth) / counts).sum(axis=1))
    return list(zip(((right / counts) @ weights).tolist(), errors.tolist(), strict=True))


def widest_gap(names: Sequence[str], right: Counts, counts: Counts, weights: Floats, rng: np.random.Generator) -> Gap:
    shares, errors = (right / counts) @ weights, _errors(right, counts, weights)
    pairs = list(itertools.combinations(range(len(names)), 2))
    gaps = [abs(shares[i] - shares[j]) for i, j in pairs]
    p, critical = gap_test(right, counts, weights, rng)
    clear = [place for place, one in enumerate(p) if one < LEVEL]
    place = max(clear or range(len(pairs)), key=lambda place: gaps[place])
    better, worse = sorted(pairs[place], key=lambda group: -shares[group])
    error = math.hypot(errors[better], errors[worse])
    if counts.shape[1] == 1:
        interval = newcombe_interval(
            (int(right[better, 0]), int(counts[better, 0])), (int(right[worse, 0]), int(counts[worse, 0]))
        )
    else:
        own = standardised(right, counts, weights)
        spread = _Z95 * math.hypot(own[better][1], own[worse][1])
        interval = (float(gaps[place] - spread), float(gaps[place] + spread))
    return Gap(names[better], names[worse], float(gaps[place]), interval, p[place], float((critical + _Z80) * error))


def gap_test(right: Counts, counts: Counts, weights: Floats, rng: np.random.Generator) -> tuple[list[float], float]:
    """Whether groups differ: p of each pair in the order of `itertools.combinations`, and the gap in standard errors
    that chance exceeds with probability `LEVEL`.

    right, counts: faces that were answered right, and all, by group and class, (G, C), counts above 0. weights: of the
    classes, (C,), sum 1. Right answers are shuffled among the groups within each class, which is to draw their numbers
    from a multivariate hypergeometric distribution; the largest standardised gap among the pairs is compared with those
    of the shuffles (Westfall and Young 1993; p as Phipson and Smyth 2010). The chance that any pair of equal groups comes
    out below p is p.
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


def newcombe_interval(better: tuple[int, int], worse: tuple[int, int]) -> Interval:
    """95 % interval of the difference of two shares, each as (hits, n): Newcombe 1998, method 10, from Wilson's.

    >>> low, high = newcombe_interval((56, 70), (48, 80))
    >>> f"{low:.4f} {high:.4f}"
    '0.0524 0.3339'
    """
    (a, b), ((a_low, a_high), (b_low, b_high)) = (
        (hits / n for hits, n in (better, worse)),
        (metrics.wilson_interval(*one) for one in (better, worse)),
    )
    return a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def _errors(right: Counts, counts: Counts, weights: Floats) -> Floats:
    """Standard error of each group's share if no group differed, (G,)."""
    pooled = right.sum(axis=0) / counts.sum(axis=0)
    return np.asarray(np.sqrt((weights**2 * pooled * (1 - pooled) / counts).sum(axis=1)))
