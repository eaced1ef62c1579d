"""Statistics of pairs: the same faces answered by two models. Pure Python and numpy; shares are fractions, 0 to 1.

Counts are those of faces: `only_a` that only the first model got right, `only_b` that only the second did, `n` of all.

Two models on the same faces: which is better, how sure that is, and where they differ.

What two accuracies with an interval each cannot say: the models see the same faces, so only those count that one of them
got right and the other did not, and a difference shows far earlier than two separate intervals let see.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data import FaceSet
from ferkit.errors import DatasetError, FerkitError, ModelError, count
from ferkit.evaluation.report import Report, evaluate, measure
from ferkit.labels import canonical
from ferkit.models import Classifier

_Z95 = 1.959963984540054  # the standard normal's 97.5 % quantile
_RESAMPLES = 2000
_AT_ONCE = 200  # resamples in memory together


def mcnemar_midp(only_a: int, only_b: int) -> float:
    """Two-sided mid-p value of McNemar's test: how likely so uneven a split is if both models are right equally often.

    Half of the probability of what was seen counts (Fagerland, Lydersen and Laake 2013): the exact test is too cautious,
    the chi-squared one too bold where few faces tell the models apart. 1 where none does.

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
        if abs(_score(only_a, only_b, n, middle)) < _Z95:
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

    Efron and Tibshirani 1993. Whole faces are drawn anew, each with its label and both answers, int64 (N,) of k classes.
    The same faces give the same interval. Too narrow where few answers differ.
    """
    # Faces with the same label and answers are interchangeable: a resample is a few hundred counts, not all faces.
    cells, counts = np.unique((labels * k + a) * k + b, return_counts=True)
    true, first, second = cells // (k * k), cells // k % k, cells % k
    rng, n = np.random.default_rng(0), len(labels)
    differences = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        drawn = rng.multinomial(n, counts / n, size=_AT_ONCE)
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


ALPHA = 0.05
# With fewer a bootstrap draws the same few faces again and again, and leaves 0 out where nothing is proved.
_FEWEST_DECIDING = 10


@dataclass(frozen=True)
class Pair:
    """How often each of two models is right on the same faces. Differences are the second's less the first's."""

    n: int
    both: int
    only_a: int
    only_b: int

    @property
    def neither(self) -> int:
        return self.n - self.both - self.only_a - self.only_b

    @property
    def accuracies(self) -> tuple[float, float]:
        return (self.both + self.only_a) / self.n, (self.both + self.only_b) / self.n

    @property
    def difference(self) -> float:
        return (self.only_b - self.only_a) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference (Tango 1998)."""
        return paired_interval(self.only_a, self.only_b, self.n)

    @property
    def p(self) -> float:
        """McNemar's test, mid-p (Fagerland et al. 2013)."""
        return mcnemar_midp(self.only_a, self.only_b)

    @property
    def p_exact(self) -> float:
        return mcnemar_exact(self.only_a, self.only_b)

    def differs(self, p: float | None = None) -> bool:
        """Whether one is better: p is below 0.05 and the interval leaves 0 out, which by a hair may part ways.

        p: in place of its own, such as one that is corrected for several tests.
        """
        return (self.p if p is None else p) < ALPHA and self._interval_without_0

    @property
    def nearly_differs(self) -> bool:
        """Whether only one of the two, p and interval, says so."""
        return (self.p < ALPHA) != self._interval_without_0

    @property
    def _interval_without_0(self) -> bool:
        low, high = self.interval
        return low > 0 or high < 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "accuracies": list(self.accuracies),
            "difference": self.difference,
            "difference_ci95": list(self.interval),
            "p": self.p,
            "p_exact": self.p_exact,
            "both_right": self.both,
            "only_a_right": self.only_a,
            "only_b_right": self.only_b,
            "none_right": self.neither,
        }


@dataclass(frozen=True)
class Clash:
    """Faces that the first model calls `a` and the second `b`: how many, and how many of them have which label."""

    a: str
    b: str
    n: int
    a_right: int
    b_right: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two reports on the same faces, in the same order, with columns of the same classes."""

    a: Report
    b: Report

    @cached_property
    def answers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The class that each model answers, int64 (N,) each."""
        return self.a.probabilities.argmax(axis=1), self.b.probabilities.argmax(axis=1)

    @cached_property
    def right(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        labels = self.a.faces.labels
        return self.answers[0] == labels, self.answers[1] == labels

    def pair(self, which: npt.NDArray[np.bool_] | None = None) -> Pair:
        """All faces, or those of a mask, at least one."""
        a, b = self.right if which is None else (self.right[0][which], self.right[1][which])
        return Pair(len(a), int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()))

    @cached_property
    def overall(self) -> Pair:
        return self.pair()

    @property
    def without_duplicates(self) -> Pair | None:
        """Over distinct faces; None where duplicates were not looked for or nothing is left."""
        duplicate = self.a.faces.duplicate
        return None if duplicate is None or duplicate.all() else self.pair(~duplicate)

    @cached_property
    def judged(self) -> Pair:
        """What the verdict is taken from: distinct faces where copies were looked for, for a copy is no second opinion."""
        return self.without_duplicates or self.overall

    @property
    def judged_name(self) -> str:
        """`12 faces`, or `11 distinct faces` where there are copies."""
        return count(self.judged.n, "face" if self.judged.n == self.overall.n else "distinct face")

    @cached_property
    def per_class(self) -> dict[str, tuple[Pair, float]]:
        """Of each class with faces: how often each model finds them, and the p value, corrected for so many tests."""
        labels = self.a.faces.labels
        pairs = {
            name: self.pair(labels == label) for label, name in enumerate(self.a.classes) if (labels == label).any()
        }
        corrected = holm([pair.p for pair in pairs.values()])
        return {name: (pair, p) for (name, pair), p in zip(pairs.items(), corrected, strict=True)}

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Faces by the answer of the first model (row) and of the second (column), int64 (K, K)."""
        k = len(self.a.classes)
        return np.bincount(self.answers[0] * k + self.answers[1], minlength=k * k).reshape(k, k).astype(np.int64)

    @property
    def agreement(self) -> float:
        """Share of faces that both give the same answer."""
        return float(np.trace(self.counts)) / self.overall.n

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance (Cohen 1960)."""
        return cohen_kappa(self.counts)

    @cached_property
    def clashes(self) -> list[Clash]:
        """What is called one thing by the first and another by the second, the most frequent first."""
        labels, (a, b) = self.a.faces.labels, self.answers
        found = []
        for row, column in zip(*np.nonzero(self.counts), strict=True):
            if row != column:
                true = labels[(a == row) & (b == column)]
                names = self.a.classes[row], self.a.classes[column]
                found.append(Clash(*names, len(true), int((true == row).sum()), int((true == column).sum())))
        return sorted(found, key=lambda one: -one.n)

    @cached_property
    def surest_clashes(self) -> npt.NDArray[np.int64]:
        """Different faces with different answers, int64 (M,): first those where the less sure of the two is surest."""
        repeated = self.a.faces.duplicate
        differ = np.flatnonzero((self.answers[0] != self.answers[1]) & (True if repeated is None else ~repeated))
        sure = np.minimum(self.a.probabilities[differ].max(axis=1), self.b.probabilities[differ].max(axis=1))
        return differ[np.argsort(-sure, kind="stable")]

    @cached_property
    def macro_f1_interval(self) -> tuple[float, float] | None:
        """95 % interval of the difference in macro-F1 by a paired bootstrap; None where fewer than ten faces decide.

        Ten that only one of the models gets right. The same faces give the same interval.
        """
        if self.overall.only_a + self.overall.only_b < _FEWEST_DECIDING:
            return None
        return macro_f1_interval(self.a.faces.labels, *self.answers, k=len(self.a.classes))

    @property
    def verdict(self) -> str:
        """Who is better, in a sentence, and how sure that is: of distinct faces, where copies were looked for."""
        pair = self.judged
        low, high = pair.interval
        said = f"B less A is {100 * pair.difference:+.1f} points, 95% interval {100 * low:+.1f} to {100 * high:+.1f}"
        if pair.nearly_differs:
            return f"The two can hardly be told apart on {self.judged_name}: {said}, p = {pair.p:.3f}."
        if not pair.differs():
            return f"The two cannot be told apart on {self.judged_name}: {said}."
        better, worse = ("B", "A") if pair.difference > 0 else ("A", "B")
        return f"{better} is better than {worse} on faces like these ({self.judged_name}): {said}."

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit compare --json`."""
        distinct = self.without_duplicates
        return {
            "a": _summary(self.a),
            "b": _summary(self.b),
            "split": self.a.split,
            "truth": self.a.truth,
            "tta": self.a.tta,
            "verdict": self.verdict,
            **self.overall.to_dict(),
            "macro_f1_difference": self.b.macro_f1 - self.a.macro_f1,
            "macro_f1_difference_ci95": self.macro_f1_interval and list(self.macro_f1_interval),
            "without_duplicates": distinct and distinct.to_dict(),
            "per_class": {name: {**pair.to_dict(), "p_holm": p} for name, (pair, p) in self.per_class.items()},
            "agreement": self.agreement,
            "kappa": self.kappa,
            "classes": list(self.a.classes),
            "answers": self.counts.tolist(),
            "clashes": [asdict(one) for one in self.clashes],
        }


def compare(
    a: Classifier, b: Classifier, faces: FaceSet, *, faces_for_b: FaceSet | None = None, tta: str | None = None
) -> Comparison:
    """Run two classifiers on the same labelled faces.

    faces_for_b: the same faces in the size and channels that `b` takes; None where both take the same.
    tta: name of a test-time augmentation, of both.
    Raises `ModelError` for models of different classes and what `evaluate` raises, `DatasetError` if the two sets are not
    the same faces.

        a, b = (ferkit.EmotionClassifier.load(name) for name in ("default", "my_model"))
        print(compare(a, b, dataset.test).verdict)
    """
    check_classes(a, b)
    other = faces if faces_for_b is None else faces_for_b
    if other.classes != faces.classes or not np.array_equal(other.labels, faces.labels):
        raise DatasetError(f"{faces.name} and {other.name} are not the same faces. Load both from the same source.")
    _check_data(a, faces)
    first, second = evaluate(a, faces, tta=tta), evaluate(b, other, tta=tta)
    return Comparison(first, _in_order(second, first))


def check_classes(a: Classifier, b: Classifier) -> None:
    """Refuse two models that answer with different classes; order and aliases may differ."""
    known, others = ([canonical(name) for name in one.classes] for one in (a, b))
    if set(known) != set(others):
        raise ModelError(
            f"A comparison needs models of the same classes: {a.name} knows {', '.join(known)}; {b.name} knows "
            f"{', '.join(others)}. Compare models of the same classes."
        )


def _check_data(a: Classifier, faces: FaceSet) -> None:
    """Refuse data with classes that the models do not know, and say where they can be left out."""
    known, wanted = ([canonical(name) for name in classes] for classes in (a.classes, faces.classes))
    if strange := [name for name in wanted if name not in known]:
        raise ModelError(
            f"The models know {', '.join(known)}; the data has also {', '.join(strange)}. Compare them on data of their own "
            f"classes, or look at each alone, with other classes left out: ferkit evaluate MODEL DATA --label-map {strange[0]}="
        )


def _in_order(report: Report, like: Report) -> Report:
    """A report with the classes in the order of another one: those that no face has stand as its model has them."""
    if report.classes == like.classes:
        return report
    columns = [report.classes.index(name) for name in like.classes]
    faces = replace(report.faces, classes=like.classes, votes=like.faces.votes)
    seconds = report.n / report.faces_per_second
    return measure(report.probabilities[:, columns], faces, model=report.model, seconds=seconds, tta=report.tta)


def _summary(report: Report) -> dict[str, Any]:
    return {
        "model": report.model,
        "accuracy": report.accuracy,
        "accuracy_ci95": list(report.accuracy_ci95),
        "balanced_accuracy": report.balanced_accuracy,
        "macro_f1": report.macro_f1,
        "nll": report.nll,
        "ece": report.ece,
        "faces_per_second": report.faces_per_second,
    }
