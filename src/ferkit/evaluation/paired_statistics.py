"""Statistics of pairs: two models evaluated on the same faces. Shares are fractions, 0 to 1.

Counts are those of faces: `only_a` that only the first model got right, `only_b` that only the second did, `n` of all.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError
from ferkit.evaluation.metrics import Z95, resampled_counts

_RESAMPLES = 2000
_AT_ONCE = 200  # resamples in memory together


def mcnemar_midp(only_a: int, only_b: int) -> float:
    """Two-sided mid-p value of McNemar's test: how likely so uneven a split is if both models are right equally often.

    Half of the probability of what was seen counts (Fagerland, Lydersen and Laake 2013): the exact test is too
    cautious, the chi-squared one too bold where few faces tell the models apart. 1 where none does.

    >>> f"{mcnemar_midp(1, 7):.3f}"
    '0.039'
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    if n == 0 or only_a == only_b:
        return 1.0 if n == 0 else 1 - 0.5 * _binomial(n, fewer)
    return max(0.0, mcnemar_exact(only_a, only_b) - _binomial(n, fewer))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p value of McNemar's test: the binomial test of the faces that only one model got right.

    >>> f"{mcnemar_exact(1, 7):.3f}"
    '0.070'
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * math.fsum(_binomial(n, k) for k in range(fewer + 1)))


def _binomial(n: int, k: int) -> float:
    """Probability of k heads in n tosses; through logarithms, for n may be a million."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))


def paired_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies on the same n faces, second less first (Tango 1998).

    The score interval: it holds for few faces and for models that hardly differ, where the textbook's is too narrow.

    >>> low, high = paired_interval(7, 1, 21)
    >>> f"{low:.3f} {high:.3f}"
    '-0.517 -0.026'
    """
    if n < 1 or min(only_a, only_b) < 0 or only_a + only_b > n:
        raise FerkitError(f"An interval needs only_a + only_b <= n and n >= 1. Received: {only_a}, {only_b} of {n}.")
    difference = (only_b - only_a) / n
    return _bound(only_a, only_b, n, -1.0, difference), _bound(only_a, only_b, n, 1.0, difference)


def _bound(only_a: int, only_b: int, n: int, end: float, difference: float) -> float:
    """Where the score statistic reaches 1.96 between the difference and -1 or 1, by bisection."""
    inside, outside = difference, end
    for _ in range(60):  # halved to the last bit of a float
        middle = (inside + outside) / 2
        if abs(_score(only_a, only_b, n, middle)) < Z95:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


def _score(only_a: int, only_b: int, n: int, delta: float) -> float:
    """Tango's statistic for a true difference of `delta`; b and c of the paper are only_b and only_a."""
    b, c = only_b, only_a
    # The likeliest probability of "only the first is right" under delta: the root of a quadratic.
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    probability = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * probability + delta * (1 - delta))
    gap = b - c - n * delta
    if variance <= 0:  # at the very ends, and for two models that never differ
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of several tests, corrected so that any false alarm among all has the stated chance (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def cohen_kappa(answers: npt.NDArray[np.int64]) -> float | None:
    """Agreement beyond chance of two models (Cohen 1960), from the counts (K, K) of their answers: 1 is always the same.

    0 is what two models would have that answer at random, each with the frequencies of its own answers. None where both
    always gave one and the same answer: then chance agrees as often.

    >>> f"{cohen_kappa(np.array([[20, 5], [10, 15]])):.2f}"
    '0.40'
    """
    shares = answers / answers.sum()
    by_chance = float(shares.sum(axis=1) @ shares.sum(axis=0))
    if by_chance >= 1:
        return None
    return (float(np.trace(shares)) - by_chance) / (1 - by_chance)


def macro_f1_interval(
    labels: npt.NDArray[np.int64], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], *, k: int
) -> tuple[float, float]:
    """95 % interval of the difference in macro-F1, second less first: percentiles of a paired bootstrap.

    Efron and Tibshirani 1993. Whole faces are drawn anew, each with its label and both answers, int64 (N,) of k
    classes. The same faces give the same interval. Too narrow where few answers differ.
    """
    # Faces with the same label and answers are interchangeable: a resample is a few hundred counts, not all faces.
    cells, counts = np.unique((labels * k + a) * k + b, return_counts=True)
    true, first, second = cells // (k * k), cells // k % k, cells % k
    n, differences = len(labels), []
    for drawn in resampled_counts(n, counts / n, _RESAMPLES, at_once=_AT_ONCE, seed=0):
        one, other = (_macro_f1(drawn, true, answers, k) for answers in (first, second))
        differences.append(other - one)
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return float(low), float(high)


def _macro_f1(
    drawn: npt.NDArray[np.int64], true: npt.NDArray[np.int64], answers: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.float64]:
    """Macro-F1 of each resample, float64 (resamples,): `metrics.macro_f1` for many at once."""
    classes = np.arange(k)[:, None]
    hits = drawn @ ((true == answers) & (true == classes)).T.astype(np.int64)
    labelled, answered = (drawn @ (one == classes).T.astype(np.int64) for one in (true, answers))
    with np.errstate(invalid="ignore"):
        f1 = np.where(labelled > 0, 2 * hits / (labelled + answered), np.nan)
    return np.asarray(np.nanmean(f1, axis=1))
