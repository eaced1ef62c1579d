"""Groups whose people have several faces each: answers to faces of one person are alike, so people are counted.

Errors are those of people as clusters, and whole people are shuffled, drawn and left out, never single faces.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ferkit import metrics
from ferkit.audit.gaps import Counts, Floats, Gap, Interval, chances, clearness, errors_of_pairs, widest

# Errors of fewer clusters are too small themselves (Cameron and Miller 2015), so nothing is concluded.
FEW_PEOPLE = 10
# A class that fewer people of a group show, and answers that fewer people got, say nothing about how people differ.
FEW_OF_A_KIND = 5
_DRAWS, _FEWEST_DRAWS = 10_000, 1000
# Numbers to multiply at once, and in all: with very many people fewer shuffles do.
_AT_ONCE, _IN_ALL = 4_000_000, 200_000_000_000


def numbered(names: Sequence[str | None]) -> Counts:
    """A number for each person, of the names on their faces. Who has no name is nobody else."""
    known = {name: number for number, name in enumerate(dict.fromkeys(one for one in names if one is not None))}
    unnamed = itertools.count(len(known))
    return np.array([next(unnamed) if one is None else known[one] for one in names], np.int64)


def worth_people(person: Counts) -> float:
    """As how many people with equally many faces those on these faces, (N,), count: Kish's effective size (1965)."""
    faces = np.unique(person, return_counts=True)[1].astype(np.float64)
    return float(faces.sum() ** 2 / (faces**2).sum())


@dataclass(frozen=True, eq=False)
class People:
    """A `ferkit.audit.gaps.Sample` of P people, each with all their faces. Who stands in two groups counts once in each.

    group: the group, from 0 to G - 1, (P,). right, counts: faces that were answered right, and all, by class, (P, C).
    """

    group: Counts
    right: Floats
    counts: Floats

    @classmethod
    def of(cls, group: Counts, person: Counts, labels: metrics.Labels, hits: npt.NDArray[np.bool_], k: int) -> "People":
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
        draws, at_once = max(_FEWEST_DRAWS, min(_DRAWS, _IN_ALL // work)), max(1, _AT_ONCE // (groups * len(features)))
        largest = []
        for begin in range(0, draws, at_once):
            shuffled = rng.permuted(np.tile(self.group, (min(at_once, draws - begin), 1)), axis=1)
            largest.append(clearness(*_shares(_sums(shuffled, features, groups), self.numbers, weights)).max(axis=1))
        return chances(clearness(*self._seen(weights)), np.concatenate(largest))

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
