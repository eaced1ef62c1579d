"""How good predictions are: the one owner of every figure about accuracy and confidence.

Pure numpy. `probabilities` is float (N, K) with rows that sum to 1, `labels` is int (N,), 0 to K - 1, N >= 1; anything
else raises a `FerkitError`. All shares are fractions, 0 to 1, never per cent. Classes without a face cannot be scored:
they count in no average.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError
from ferkit.models import Labels, Probabilities, check_probabilities

Confusion = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Keras' own floor (`keras.config.epsilon`): a certain mistake costs 16.1 nats, and val_loss agrees with nll.
_FLOOR = 1e-7
# The standard normal's 97.5 % and 80 % quantiles.
Z95, Z80 = 1.959963984540054, 0.8416212335729143
# Where reports look at what a model answers when it may stay silent; seven classes at even odds have 0.14.
CONFIDENCES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ClassScores:
    """One class against all others: fractions 0 to 1, and n faces that carry its label.

    A class without a face has `None` for all three: nothing is known about it.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    n: int


@dataclass(frozen=True)
class Reliability:
    """Faces sorted into bins by confidence: float64 and int64 arrays (bins,), `edges` (bins + 1,).

    confidence, accuracy: the means over the bin's faces, NaN in an empty bin.
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


@dataclass(frozen=True)
class CoverageCurve:
    """Accuracy among the faces whose confidence reaches a threshold: float64 (M,), strictest threshold first.

    Equally confident faces pass together, so M is the number of distinct confidences; the last coverage is 1.
    """

    threshold: Floats
    coverage: Floats
    accuracy: Floats


@dataclass(frozen=True)
class Answered:
    """What is left when faces below a confidence stay `uncertain`, as `ferkit predict --min-confidence` does.

    n: faces that are answered. coverage: their share of all. accuracy, accuracy_ci95: share of right ones among them,
        with its Wilson interval; None where no face is answered.
    balanced_coverage, balanced_accuracy: the same with every class counting the same. Classes without a face, and for
        the accuracy those of which no face is answered, count in no mean.
    """

    min_confidence: float
    n: int
    coverage: float
    accuracy: float | None
    accuracy_ci95: tuple[float, float] | None
    balanced_coverage: float
    balanced_accuracy: float | None


def resampled_counts(
    n: int, shares: Floats, resamples: int, *, at_once: int, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Bootstrap resamples of n faces (Efron and Tibshirani 1993): how often each kind is drawn, int64 (at_once, kinds).

    Args:
        n: Faces in a resample.
        shares: Share of each kind among the faces, float64 (kinds,).
        resamples: How many to draw.
        at_once: Resamples that are in memory together.
        seed: The same seed draws the same resamples.
    """
    rng = np.random.default_rng(seed)
    for _ in range(resamples // at_once):
        yield rng.multinomial(n, shares, at_once)


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of faces whose most probable class is their label.

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    return float(_hits(probabilities, labels).mean())


def wilson_interval(hits: float, n: float) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927): what remains plausible about a model after n faces.

    Both may be fractions where several faces are worth less than as many independent ones. Unlike the textbook's p +-
    1.96 sqrt(p (1 - p) / n) it stays inside 0 to 1 and holds for small n.

    Raises:
        FerkitError: `hits` is not between 0 and `n`, or `n` is 0.

    >>> low, high = wilson_interval(5, 10)
    >>> f"{low:.4f} {high:.4f}"
    '0.2366 0.7634'
    """
    if not 0 <= hits <= n or n == 0:
        raise FerkitError(f"An interval needs 0 <= hits <= n and n >= 1. Received: hits={hits}, n={n}.")
    share, z2 = hits / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    # In exact arithmetic the ends touch 0 and 1 here; rounding would put them a hair off.
    return (0.0 if hits == 0 else centre - half, 1.0 if hits == n else centre + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean of which these are samples, at least two (Student 1908).

    For runs with several seeds: what remains plausible about the recipe on these faces, whatever the seed.

    Raises:
        FerkitError: There are fewer than two values.

    >>> low, high = mean_interval([0.60, 0.62, 0.64])
    >>> f"{low:.3f} {high:.3f}"
    '0.570 0.670'
    """
    if len(values) < 2:
        raise FerkitError(f"An interval of a mean needs at least 2 values. Received: {len(values)}.")
    mean = statistics.fmean(values)
    half = t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def t95(df: float) -> float:
    """Student's 97.5 % quantile for so many degrees of freedom, at least one and not only whole ones.

    >>> f"{t95(1):.4f} {t95(4.5):.4f} {t95(1e9):.4f}"
    '12.7062 2.6589 1.9600'
    """
    # With t = sqrt(df) tan(angle) the density is that of a power of the cosine, on a bounded interval.
    angles = np.linspace(0, min(math.pi / 2, 12 / math.sqrt(df)), 10_001)
    density = np.cos(angles) ** (df - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(df) * math.tan(np.interp(0.95 * below[-1], below, angles))


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> Confusion:
    """Count faces by true and predicted class: int64 (K, K), rows are the truth, columns the prediction.

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])).tolist()
    [[1, 0], [1, 0]]
    """
    check_probabilities(probabilities, labels)
    return counted(labels, probabilities.argmax(axis=1), probabilities.shape[1])


def counted(rows: Labels, columns: Labels, k: int) -> Confusion:
    """How often each pair of classes comes: int64 (K, K)."""
    return np.bincount(rows.astype(np.int64) * k + columns, minlength=k * k).reshape(k, k).astype(np.int64)


def class_scores(confusion: Confusion) -> tuple[ClassScores, ...]:
    """Precision, recall, F1 and n of each class (van Rijsbergen 1979), in class order.

    A class that has faces but was never predicted has precision 0 by convention.
    """
    scores = []
    for hits, n, predicted in zip(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0), strict=True):
        if n == 0:
            scores.append(ClassScores(None, None, None, 0))
            continue
        precision = float(hits / predicted) if predicted else 0.0
        scores.append(ClassScores(precision, float(hits / n), float(2 * hits / (n + predicted)), int(n)))
    return tuple(scores)


def macro_f1(confusion: Confusion) -> float:
    """Mean F1 of the classes that have faces, each class counting the same however rare (the averaged F1 of Opitz and Burst 2019)."""
    return float(np.mean([one.f1 for one in class_scores(confusion) if one.f1 is not None]))


def balanced_accuracy(confusion: Confusion) -> float:
    """Mean recall of the classes that have faces (Brodersen et al. 2010): always guessing one class scores 1 / K."""
    return float(np.mean([one.recall for one in class_scores(confusion) if one.recall is not None]))


def nll(probabilities: Probabilities, labels: Labels) -> float:
    """Log loss: mean negative log-likelihood of the labels, in nats. An even guess costs log K (1.946 for 7)."""
    check_probabilities(probabilities, labels)
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(given, _FLOOR, 1.0)).mean())


def reliability(probabilities: Probabilities, labels: Labels, bins: int = 15) -> Reliability:
    """Compare confidence with accuracy in equal-width bins over 0 to 1, each (low, high] (Guo et al. 2017)."""
    hits = _hits(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins).astype(np.int64)
    filled = np.where(counts, counts, np.nan)
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=np.bincount(index, weights=confidence, minlength=bins) / filled,
        accuracy=np.bincount(index, weights=hits, minlength=bins) / filled,
    )


def ece(probabilities: Probabilities, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy, weighted by faces per bin.

    0.05 says: stated confidence and actual accuracy are 5 points apart on average.
    """
    table = reliability(probabilities, labels, bins)
    gaps = np.abs(table.accuracy - table.confidence)
    return float(np.nansum(gaps * table.counts) / table.counts.sum())


def coverage_curve(probabilities: Probabilities, labels: Labels) -> CoverageCurve:
    """What accuracy a confidence threshold buys, and how many faces it costs (El-Yaniv and Wiener 2010)."""
    hits = _hits(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    confidence, passed = confidence[order], np.cumsum(hits[order])
    last = np.append(confidence[1:] != confidence[:-1], True)
    kept = np.flatnonzero(last) + 1
    return CoverageCurve(threshold=confidence[last], coverage=kept / len(labels), accuracy=passed[last] / kept)


def accuracy_at_coverage(probabilities: Probabilities, labels: Labels, coverage: float) -> float:
    """Accuracy among the `coverage` share of faces with the highest confidence, 0 < coverage <= 1.

    Where the cut falls among equally confident faces, it is the expected value of drawing among them.

    Raises:
        FerkitError: `coverage` is not above 0 and at most 1.
    """
    if not 0 < coverage <= 1:
        raise FerkitError(f"coverage must be above 0 and at most 1. Received: {coverage}.")
    curve = coverage_curve(probabilities, labels)
    hits = np.interp(coverage, np.append(0.0, curve.coverage), np.append(0.0, curve.coverage * curve.accuracy))
    return float(hits / coverage)


def answered(probabilities: Probabilities, labels: Labels, min_confidence: float) -> Answered:
    """How much is answered, and how well, when less than `min_confidence` is no answer.

    Raises:
        FerkitError: `min_confidence` is not 0 to 1.

    >>> half_sure = np.array([[0.9, 0.1], [0.4, 0.6]])
    >>> answered(half_sure, np.array([0, 0]), 0.7).coverage
    0.5
    """
    if not 0 <= min_confidence <= 1:
        raise FerkitError(f"min_confidence must be 0 to 1. Received: {min_confidence}.")
    hits = _hits(probabilities, labels)
    # In float64, as results compare it.
    kept = probabilities.max(axis=1).astype(np.float64) >= min_confidence
    n, right = int(kept.sum()), int(hits[kept].sum())
    present = np.unique(labels)
    confusion = confusion_matrix(probabilities[kept], labels[kept]) if n else None
    return Answered(
        min_confidence=min_confidence,
        n=n,
        coverage=n / len(labels),
        accuracy=right / n if n else None,
        accuracy_ci95=wilson_interval(right, n) if n else None,
        balanced_coverage=float(np.mean([kept[labels == label].mean() for label in present])),
        balanced_accuracy=balanced_accuracy(confusion) if confusion is not None else None,
    )


def confident_mistakes(probabilities: Probabilities, labels: Labels, count: int) -> npt.NDArray[np.int64]:
    """Indices of the wrong predictions with the highest confidence, surest first: int64 (at most `count`,)."""
    wrong = np.flatnonzero(~_hits(probabilities, labels))
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def margins(probabilities: Probabilities) -> Floats:
    """How far the first answer stands above the second: float64 (N,), 0 where both are equally likely.

    >>> margins(np.array([[0.75, 0.25, 0.0]])).tolist()
    [0.5]
    """
    second, first = np.sort(probabilities.astype(np.float64), axis=1)[:, -2:].T
    return np.asarray(first - second)


def most_doubtful(probabilities: Probabilities, count: int) -> npt.NDArray[np.int64]:
    """Indices of the faces with the smallest gap between first and second answer, smallest first: int64 (at most `count`,)."""
    return np.argsort(margins(probabilities), kind="stable")[:count]


def _hits(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.bool_]:
    check_probabilities(probabilities, labels)
    return np.asarray(probabilities.argmax(axis=1) == labels)
