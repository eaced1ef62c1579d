"""Whether accuracies of groups differ significantly.

Where people have several faces each, predictions for one person are alike, so people are the sampling unit: errors are
those of people as clusters, and whole people are shuffled, drawn and left out, never single faces.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ferkit.evaluation import metrics
from ferkit.models import Labels

# A gap that chance makes more rarely than this is called one.
LEVEL = 0.05
_DRAWS = 10_000

Interval = tuple[float, float]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """The accuracy of two groups compared.

    difference: of `better` over `worse`. difference_ci95: such intervals hold the true differences of all pairs at once
        in 95 % of data sets, so it may be read though the pair was chosen for its gap.
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
    def significant(self) -> bool:
        """By the test and by the interval, which can disagree in borderline cases."""
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
        """The widest significant gap, or if none is, the widest."""

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
        return p_values(standardised_gaps(self.shares(weights), errors), standardised_gaps(drawn, errors).max(axis=1))

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
        line = max(critical, metrics.Z95)
        reach = line * error
        interval = (max(-1.0, difference - reach), min(1.0, difference + reach))
        gaps.append(Gap(names[better], names[worse], difference, interval, chance, (line + metrics.Z80) * error))
    return max([gap for gap in gaps if gap.significant] or gaps, key=lambda gap: gap.difference)


def standardised_gaps(shares: Floats, errors: Floats) -> Floats:
    """The gaps of all pairs of groups in standard errors, (..., pairs); of shares and their errors, (..., G)."""
    first, second = _pairs(shares.shape[-1])
    gaps = np.abs(shares[..., first] - shares[..., second])
    scale = np.broadcast_to(errors_of_pairs(errors), gaps.shape)
    return np.divide(gaps, scale, out=np.zeros_like(gaps), where=scale > 0)


def errors_of_pairs(errors: Floats) -> Floats:
    """Standard errors of the gaps of all pairs, (..., pairs), from those of the groups, (..., G)."""
    first, second = _pairs(errors.shape[-1])
    return np.asarray(np.hypot(errors[..., first], errors[..., second]), np.float64)


def p_values(seen: Floats, largest: Floats) -> tuple[list[float], float]:
    """For each pair its p, (pairs,), and the standardised_gaps that chance exceeds with probability `LEVEL`, from the largest of each
    shuffle, (draws,).
    """
    # What is equal but for rounding counts as equal.
    p = [(1 + int((largest >= one - 1e-9).sum())) / (1 + len(largest)) for one in seen]
    return p, float(np.quantile(largest, 1 - LEVEL))


def _pairs(groups: int) -> tuple[Counts, Counts]:
    first, second = np.triu_indices(groups, 1)
    return first, second


# Errors of fewer clusters are too small themselves (Cameron and Miller 2015), so nothing is concluded.
FEW_PEOPLE = 10
# A class that fewer people of a group show, and answers that fewer people got, say nothing about how people differ.
FEW_OF_A_KIND = 5
_PEOPLE_DRAWS, _FEWEST_DRAWS = 10_000, 1000
# Numbers to multiply at once, and in all: with very many people fewer shuffles do.
_AT_ONCE, _IN_ALL = 4_000_000, 200_000_000_000


def numbered(names: Sequence[str | None]) -> Counts:
    """A number for each person, of the names on their faces. Who has no name is nobody else."""
    known = {name: number for number, name in enumerate(dict.fromkeys(one for one in names if one is not None))}
    unnamed = itertools.count(len(known))
    return np.array([next(unnamed) if one is None else known[one] for one in names], np.int64)


def effective_sample_size(person: Counts) -> float:
    """Effective sample size of the people on these faces, (N,): as if all had equally many (Kish 1965)."""
    faces = np.unique(person, return_counts=True)[1].astype(np.float64)
    return float(faces.sum() ** 2 / (faces**2).sum())


@dataclass(frozen=True, eq=False)
class People:
    """A `ferkit.evaluation.group_statistics.Sample` of P people, each with all their faces. Who stands in two groups counts once in each.

    group: the group, from 0 to G - 1, (P,). right, counts: faces that were answered right, and all, by class, (P, C).
    """

    group: Counts
    right: Floats
    counts: Floats

    @classmethod
    def of(cls, group: Counts, person: Counts, labels: Labels, hits: npt.NDArray[np.bool_], k: int) -> "People":
        """group: of each face, -1 for none, (N,). person: a number for each, (N,). hits: whether the answer was right."""
        kept = group >= 0
        pairs, which = np.unique(np.stack([group[kept], person[kept]]), axis=1, return_inverse=True)
        place = which.reshape(-1) * k + labels[kept]
        size = pairs.shape[1] * k
        counts = np.bincount(place, minlength=size).reshape(-1, k)
        right = np.bincount(place, hits[kept], minlength=size).reshape(-1, k)
        return cls(pairs[0], right.astype(np.float64), counts.astype(np.float64))

    @cached_property
    def numbers(self) -> Counts:
        """People in each group, (G,)."""
        return np.bincount(self.group)

    def known_classes(self) -> npt.NDArray[np.bool_]:
        shown = [(self.counts[self.group == group] > 0).sum(axis=0) for group in range(len(self.numbers))]
        return np.asarray((np.array(shown) >= FEW_OF_A_KIND).all(axis=0), np.bool_)

    def of_classes(self, chosen: npt.NDArray[np.bool_]) -> "People":
        return People(self.group, self.right[:, chosen], self.counts[:, chosen])

    def merged(self) -> "People":
        return People(self.group, self.right.sum(axis=1, keepdims=True), self.counts.sum(axis=1, keepdims=True))

    def shares(self, weights: Floats) -> Floats:
        return self._seen(weights)[0]

    def standard_errors(self, weights: Floats) -> Floats:
        """People are clusters (Liang and Zeger 1986). No error is below that of as many independent faces, nor, of classes
        on which hardly anybody got a wrong answer or a right one, below that of people with one answer each.
        """
        return self._seen(weights)[1]

    def gap_test(self, weights: Floats, rng: np.random.Generator) -> tuple[list[float], float]:
        """Whole people are shuffled among the groups, and every gap, seen or shuffled, is taken in standard errors of its
        own, so that groups may have other numbers of faces per person (Chung and Romano 2013).
        """
        features, groups = self._features, len(self.numbers)
        work = groups * features.size
        draws, at_once = (
            max(_FEWEST_DRAWS, min(_PEOPLE_DRAWS, _IN_ALL // work)),
            max(1, _AT_ONCE // (groups * len(features))),
        )
        largest = []
        for begin in range(0, draws, at_once):
            shuffled = rng.permuted(np.tile(self.group, (min(at_once, draws - begin), 1)), axis=1)
            largest.append(
                standardised_gaps(*_shares(_sums(shuffled, features, groups), self.numbers, weights)).max(axis=1)
            )
        return p_values(standardised_gaps(*self._seen(weights)), np.concatenate(largest))

    def widest_gap(self, names: Sequence[str], weights: Floats, rng: np.random.Generator) -> Gap:
        p, critical = self.gap_test(weights, rng)
        shares, errors = self._seen(weights)
        return widest(names, shares, errors_of_pairs(errors), p, critical)

    def accuracy_interval(self) -> Interval:
        """Wilson's of as many independent faces as these are worth (Rao and Scott 1992). Where that cannot be known, as
        people are few, or few have a wrong answer or a right one, those of one person are taken to be all alike.
        """
        one = People(np.zeros_like(self.group), self.right, self.counts).merged()
        n, right = float(one.counts.sum()), float(one.right.sum())
        square = float((one.counts**2).sum())
        some = min(int((one.right > 0).sum()), int((one.right < one.counts).sum()))
        if some < FEW_OF_A_KIND or n**2 / square < FEW_PEOPLE:
            effect = square / n
        else:
            error = float(one.standard_errors(np.ones(1))[0])
            effect = max(1.0, error**2 / (right / n * (1 - right / n) / n))
        return metrics.wilson_interval(right / effect, n / effect)

    @cached_property
    def _features(self) -> Floats:
        """Of each person what is summed over a group, (P, 4 C + 3 C * C): counts, right answers, whether there are any, and
        any wrong ones, and products of counts and right answers.
        """
        right, counts = self.right, self.counts
        pairs = ((right, right), (right, counts), (counts, counts))
        products = [(one[:, :, None] * other[:, None, :]).reshape(len(right), -1) for one, other in pairs]
        return np.hstack([counts, right, right > 0, right < counts, *products])

    def _seen(self, weights: Floats) -> tuple[Floats, Floats]:
        """Shares of the groups and their errors, as they are."""
        return _shares(_sums(self.group[None], self._features, len(self.numbers))[0], self.numbers, weights)


def _sums(group: Counts, features: Floats, groups: int) -> Floats:
    """Features summed over groups, for each shuffle: (draws, G, F) of group, (draws, P)."""
    member = group[:, None, :] == np.arange(groups)[:, None]
    return np.asarray(member.reshape(-1, len(features)) @ features, np.float64).reshape(len(group), groups, -1)


def _shares(sums: Floats, numbers: Counts, weights: Floats) -> tuple[Floats, Floats]:
    """Share of right answers at a mix of classes, and its standard error, (..., G) of sums, (..., G, F)."""
    k = len(weights)
    counts, right, hitting, missing = (sums[..., place * k : (place + 1) * k] for place in range(4))
    # A shuffled group may lack a class, which then counts for nothing there.
    wanted = weights * (counts > 0)
    wanted = wanted / np.maximum(wanted.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    each = wanted / np.maximum(counts, 1)
    # Of each person's residuals from the group's recalls, the sum of products of two classes.
    both, mixed, faces = np.moveaxis(sums[..., 4 * k :].reshape(*counts.shape[:-1], 3, k, k), -3, 0)
    recall = right / np.maximum(counts, 1)
    crossed = mixed * recall[..., None, :]
    residuals = both - crossed - np.swapaxes(crossed, -1, -2) + faces * recall[..., None, :] * recall[..., :, None]
    clustered = np.einsum("...c,...cd,...d->...", each, residuals, each)
    clustered *= numbers / np.maximum(numbers - 1, 1)
    # Never below the error of independent faces, or of people with one answer each where few tell how people differ.
    alike = np.diagonal(faces, axis1=-2, axis2=-1) / np.maximum(counts, 1)
    worth = counts / np.where(np.minimum(hitting, missing) < FEW_OF_A_KIND, np.maximum(alike, 1), 1)
    smooth = (recall * worth + 0.5) / (worth + 1)
    least = (wanted**2 * smooth * (1 - smooth) / np.maximum(worth, 1)).sum(axis=-1)
    return (each * right).sum(axis=-1), np.sqrt(np.maximum(clustered, least))
