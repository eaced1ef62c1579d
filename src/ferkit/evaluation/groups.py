"""Whether a model is as good for one group of people as for another, where somebody has said who belongs to which.

Groups come from a table (`ferkit.evaluation.group_table`), never from the faces: a network that guesses age, gender or
skin colour errs most on those whom such a report should protect.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import DatasetError
from ferkit.evaluation import metrics
from ferkit.evaluation.group_statistics import (
    FEW_PEOPLE,
    Counts,
    Faces,
    Floats,
    Gap,
    Interval,
    People,
    Sample,
    effective_sample_size,
    numbered,
)
from ferkit.evaluation.group_table import GroupTable
from ferkit.evaluation.report import Report
from ferkit.models import Labels
from ferkit.render import Section
from ferkit.sources import natural_key

# With fewer faces an interval spans a third of the scale: nothing can be concluded.
FEW = 30
_RESAMPLES = 1000
_SIMULATIONS = 200

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class GroupScores:
    """The metrics of one group. Shares are fractions, 0 to 1; intervals are of 95 %.

    people: how many the table tells apart; None where it does not. Then people are the sample, not faces, in every
        interval.
    accuracy_ci95: Wilson 1927. macro_f1_ci95, mean_confidence_ci95: percentile bootstrap over the group's sample (Efron
        and Tibshirani 1993). ece_ci95: basic bootstrap (Davison and Hinkley 1997), which takes off what few faces add
        to an ECE, so that it may lie below the figure.
    ece_by_chance: the ECE that a perfectly calibrated model would show on so few faces with these confidences, on
        average (consistency resampling, Broecker and Smith 2007). An ECE below twice of it says little.
    same_mix_accuracy: what the accuracy would be if every group had the same mix of classes: recalls weighted by the
        classes' shares over all groups (direct standardisation); its interval is the normal one. None for small groups.
    small: fewer than `FEW` faces, or worth fewer than `FEW_PEOPLE` people with equally many faces, so that no
        conclusion is drawn. Of so few people only the accuracy has an interval.
    """

    name: str
    n: int
    people: int | None
    accuracy: float
    accuracy_ci95: Interval
    macro_f1: float
    macro_f1_ci95: Interval | None
    ece: float
    ece_ci95: Interval | None
    ece_by_chance: float
    mean_confidence: float
    mean_confidence_ci95: Interval | None
    same_mix_accuracy: float | None
    same_mix_accuracy_ci95: Interval | None
    small: bool


@dataclass(frozen=True)
class Comparison:
    """All groups of one column.

    gap: the widest of those that are significant, or if none is, the widest; None where fewer than two groups are
        large enough. same_mix_gap: the same with every group given the same mix of classes. left_out: classes that some
        group has no face of, or hardly anyone shows, which cannot be adjusted for. without: measured faces without a
        group.
    """

    column: str
    groups: tuple[GroupScores, ...]
    gap: Gap | None
    same_mix_gap: Gap | None
    left_out: tuple[str, ...]
    without: int


@dataclass(frozen=True, eq=False)
class GroupReport:
    """What a table of groups says about a model: one comparison per column. accuracy: on all faces, in groups or not."""

    model: str
    split: str
    accuracy: float
    comparisons: tuple[Comparison, ...]
    note: str
    key: str = field(default="groups", init=False)

    def to_dict(self) -> dict[str, Any]:
        """What stands under `groups` in the JSON document of `ferkit evaluate --groups --json`."""
        return {
            "note": self.note,
            "few": FEW,
            "few_people": FEW_PEOPLE,
            "columns": {
                one.column: {
                    "groups": {group.name: _without_name(group) for group in one.groups},
                    "gap": one.gap and _listed(asdict(one.gap)),
                    "same_mix_gap": one.same_mix_gap and _listed(asdict(one.same_mix_gap)),
                    "classes_left_out_of_same_mix": list(one.left_out),
                    "without_group": one.without,
                }
                for one in self.comparisons
            },
        }

    def section(self) -> Section:
        """A plot and a table for each column, and what can be concluded from them."""
        # Plots bring Matplotlib, which measuring does without.
        from ferkit.evaluation.group_sections import group_section

        return group_section(self)


def group_report(report: Report, table: GroupTable, *, seed: int = 0) -> GroupReport:
    """The metrics of each group in each column, the widest gap, and whether it is significant.

    Where the table does not say who is who, intervals and tests take faces to be independent: if people have several
    each, they are too narrow and p too small.

    table: joined to the faces of the report (`join_groups`). seed: of resamples and permutations; the same seed, the
    same figures. Raises `DatasetError` if the table is of other faces.
    """
    if len(table) != len(report.faces):
        raise DatasetError(
            f"Groups of {len(table):,} faces came with a report on {len(report.faces):,}. Join them again."
        )
    person = None if table.people is None else numbered(table.people)
    comparisons = tuple(_compared(report, column, names, person, seed) for column, names in table.columns.items())
    return GroupReport(report.model, report.split, report.accuracy, comparisons, table.note)


def _compared(report: Report, column: str, names: Sequence[str | None], person: Counts | None, seed: int) -> Comparison:
    classes = np.array(report.classes)
    groups = sorted({one for one in names if one}, key=natural_key)
    members = {name: np.flatnonzero([one == name for one in names]) for name in groups}
    large = [name for name in groups if not _is_small(members[name], person)]

    counts = np.array([np.bincount(report.faces.labels[members[name]], minlength=len(classes)) for name in large])
    counts = counts.reshape(-1, len(classes))
    there = (counts > 0).any(axis=0)
    shared = there
    gap = same_mix = None
    adjusted: dict[str, tuple[float, float]] = {}
    if len(large) >= 2:
        rng = np.random.default_rng(seed)
        sample = _sample(report, [members[name] for name in large], person)
        gap = sample.merged().widest_gap(large, np.ones(1), rng)
        shared = sample.known_classes()
        if shared.any():
            weights = counts.sum(axis=0)[shared] / counts.sum(axis=0)[shared].sum()
            alike = sample.of_classes(shared)
            same_mix = alike.widest_gap(large, weights, rng)
            shares, errors = alike.shares(weights).tolist(), alike.standard_errors(weights).tolist()
            adjusted = dict(zip(large, zip(shares, errors, strict=True), strict=True))
    scores = tuple(
        _scores(report, name, indices, person, adjusted.get(name), seed) for name, indices in members.items()
    )
    return Comparison(column, scores, gap, same_mix, tuple(classes[there & ~shared].tolist()), names.count(None))


def _is_small(indices: Indices, person: Counts | None) -> bool:
    return len(indices) < FEW or (person is not None and effective_sample_size(person[indices]) < FEW_PEOPLE)


def _sample(report: Report, members: Sequence[Indices], person: Counts | None) -> Sample:
    """What was answered on the faces of some groups."""
    labels, k = report.faces.labels, len(report.classes)
    hits = report.probabilities.argmax(axis=1) == labels
    if person is not None:
        group = np.full(len(labels), -1)
        for number, indices in enumerate(members):
            group[indices] = number
        return People.of(group, person, labels, hits, k)
    counts = np.array([np.bincount(labels[indices], minlength=k) for indices in members])
    right = np.array([np.bincount(labels[indices][hits[indices]], minlength=k) for indices in members])
    return Faces(right, counts)


def _scores(
    report: Report,
    name: str,
    indices: Indices,
    person: Counts | None,
    adjusted: tuple[float, float] | None,
    seed: int,
) -> GroupScores:
    probabilities, labels = report.probabilities[indices], report.faces.labels[indices]
    people = None if person is None else np.unique(person[indices], return_inverse=True)[1]
    confidence = probabilities.max(axis=1).astype(np.float64)
    figures = (_macro_f1, metrics.ece, _mean_confidence)
    macro_f1, ece, mean = (figure(probabilities, labels) for figure in figures)
    # Drawn again and again, few people seem surer than they are.
    too_few = people is not None and effective_sample_size(people) < FEW_PEOPLE
    quantiles = None if too_few else _resampled(probabilities, labels, people, figures, seed)
    low_high = None
    if adjusted is not None:
        low_high = _inside(adjusted[0] - metrics.Z95 * adjusted[1], adjusted[0] + metrics.Z95 * adjusted[1])
    return GroupScores(
        name=name,
        n=len(labels),
        people=None if people is None else int(people.max()) + 1,
        accuracy=float(np.mean(probabilities.argmax(axis=1) == labels)),
        accuracy_ci95=_sample(report, [indices], person).accuracy_interval(),
        macro_f1=macro_f1,
        macro_f1_ci95=None if quantiles is None else _inside(*quantiles[0]),
        ece=ece,
        ece_ci95=None if quantiles is None else _inside(*(2 * ece - quantiles[1][::-1])),
        ece_by_chance=_ece_by_chance(probabilities, confidence, seed),
        mean_confidence=mean,
        mean_confidence_ci95=None if quantiles is None else _inside(*quantiles[2]),
        same_mix_accuracy=adjusted and adjusted[0],
        same_mix_accuracy_ci95=low_high,
        small=_is_small(indices, person),
    )


Figure = Callable[[npt.NDArray[np.float32], Labels], float]


def _resampled(
    probabilities: npt.NDArray[np.float32],
    labels: Labels,
    people: Indices | None,
    figures: Sequence[Figure],
    seed: int,
) -> Floats:
    """The 2.5 % and 97.5 % quantiles of figures over resamples, float64 (figures, 2).

    people: who each face is, from 0; of these whole people are drawn, with all their faces. None draws faces.
    """
    rng = np.random.default_rng(seed)
    n = len(labels) if people is None else int(people.max()) + 1
    faces = None if people is None else np.split(np.argsort(people, kind="stable"), np.cumsum(np.bincount(people))[:-1])
    found = np.empty((_RESAMPLES, len(figures)))
    for row in found:
        drawn = rng.integers(n, size=n)
        if faces is not None:
            drawn = np.concatenate([faces[one] for one in drawn])
        row[:] = [figure(probabilities[drawn], labels[drawn]) for figure in figures]
    return np.asarray(np.quantile(found, (0.025, 0.975), axis=0).T, np.float64)


def _macro_f1(probabilities: npt.NDArray[np.float32], labels: Labels) -> float:
    return metrics.macro_f1(metrics.confusion_matrix(probabilities, labels))


def _mean_confidence(probabilities: npt.NDArray[np.float32], _: Labels) -> float:
    return float(probabilities.max(axis=1).mean(dtype=np.float64))


def _ece_by_chance(probabilities: npt.NDArray[np.float32], confidence: Floats, seed: int) -> float:
    rng = np.random.default_rng(seed)
    answers, k = probabilities.argmax(axis=1), probabilities.shape[1]
    drawn = (np.where(rng.random(len(answers)) < confidence, answers, (answers + 1) % k) for _ in range(_SIMULATIONS))
    return float(np.mean([metrics.ece(probabilities, labels) for labels in drawn]))


def _inside(low: float, high: float) -> Interval:
    return min(1.0, max(0.0, float(low))), min(1.0, max(0.0, float(high)))


def _without_name(group: GroupScores) -> dict[str, Any]:
    found = _listed(asdict(group))
    del found["name"]
    return found


def _listed(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in entries.items()}
