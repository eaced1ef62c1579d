"""Whether a model is as good for one group of people as for another, where somebody has said who belongs to which.

Groups come from a table (`ferkit.audit.group_table`), never from the faces: a network that guesses age, gender or skin
colour errs most on those whom such a report should protect.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit import metrics
from ferkit.audit.gaps import Floats, Gap, Interval, standardised, widest_gap
from ferkit.audit.group_table import GroupTable
from ferkit.errors import DatasetError
from ferkit.evaluation import Report
from ferkit.listing import natural_key

# With fewer faces an interval spans a third of the scale: nothing can be concluded.
FEW = 30
_RESAMPLES = 1000
_SIMULATIONS = 200
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class GroupScores:
    """The figures of one group. Shares are fractions, 0 to 1; intervals are of 95 %.

    accuracy_ci95: Wilson 1927. macro_f1_ci95, mean_confidence_ci95: percentile bootstrap over the group's faces (Efron and
        Tibshirani 1993). ece_ci95: basic bootstrap (Davison and Hinkley 1997), which takes off what few faces add to an
        ECE, so that it may lie below the figure.
    ece_by_chance: the ECE that a perfectly calibrated model would show on so few faces with these confidences, on
        average (consistency resampling, Broecker and Smith 2007). An ECE below twice of it says little.
    same_mix_accuracy: what the accuracy would be if every group had the same mix of classes: recalls weighted by the
        classes' shares over all groups (direct standardisation); its interval is the normal one. None for small groups.
    small: fewer than `FEW` faces, so that no conclusion is drawn.
    """

    name: str
    n: int
    accuracy: float
    accuracy_ci95: Interval
    macro_f1: float
    macro_f1_ci95: Interval
    ece: float
    ece_ci95: Interval
    ece_by_chance: float
    mean_confidence: float
    mean_confidence_ci95: Interval
    same_mix_accuracy: float | None
    same_mix_accuracy_ci95: Interval | None
    small: bool


@dataclass(frozen=True)
class Comparison:
    """All groups of one column.

    gap: the widest of those that are more than chance, or if none is, the widest; None where fewer than two groups have
        `FEW` faces. same_mix_gap: the same with every group given the same mix of classes. left_out: classes that some
        group has no face of, which cannot be adjusted for. without: measured faces without a group.
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

    def __rich__(self) -> Any:
        from ferkit.audit.group_words import tables

        return tables(self)

    def section(self, figures: Path) -> str:
        """The section of the report page, see `ferkit.evaluation.Addition`."""
        from ferkit.audit.group_page import section_of

        return section_of(self, figures)


def group_report(report: Report, table: GroupTable, *, seed: int = 0) -> GroupReport:
    """The figures of each group in each column, the widest gap, and whether it is more than chance.

    Intervals and tests take faces to be independent: where people have several each, they are too narrow and p too small.

    table: joined to the faces of the report (`join_groups`). seed: of resamples and permutations; the same seed, the same
    figures. Raises `DatasetError` if the table is of other faces.
    """
    if len(table) != len(report.faces):
        raise DatasetError(
            f"Groups of {len(table):,} faces came with a report on {len(report.faces):,}. Join them anew."
        )
    comparisons = tuple(_compared(report, column, names, seed) for column, names in table.columns.items())
    return GroupReport(report.model, report.split, report.accuracy, comparisons, table.note)


def _compared(report: Report, column: str, names: Sequence[str | None], seed: int) -> Comparison:
    labels, probabilities = report.faces.labels, report.probabilities
    members = {
        name: np.flatnonzero([one == name for one in names])
        for name in sorted({one for one in names if one}, key=natural_key)
    }
    large = [name for name, indices in members.items() if len(indices) >= FEW]
    hits = probabilities.argmax(axis=1) == labels
    k = len(report.classes)
    counts = np.array([np.bincount(labels[members[name]], minlength=k) for name in large]).reshape(-1, k)
    right = np.array([np.bincount(labels[members[name]][hits[members[name]]], minlength=k) for name in large])
    right = right.reshape(-1, k)

    shared = (counts > 0).all(axis=0) & (counts.sum(axis=0) > 0)
    left_out = tuple(np.array(report.classes)[(counts.sum(axis=0) > 0) & ~shared].tolist())
    gap = same_mix = None
    adjusted: dict[str, tuple[float, float]] = {}
    if len(large) >= 2:
        rng = np.random.default_rng(seed)
        totals, sums = counts.sum(axis=1, keepdims=True), right.sum(axis=1, keepdims=True)
        gap = widest_gap(large, sums, totals, np.ones(1), rng)
        if shared.any():
            weights = counts.sum(axis=0)[shared] / counts.sum(axis=0)[shared].sum()
            same_mix = widest_gap(large, right[:, shared], counts[:, shared], weights, rng)
            adjusted = dict(zip(large, standardised(right[:, shared], counts[:, shared], weights), strict=True))
    groups = tuple(
        _scores(name, probabilities[indices], labels[indices], adjusted.get(name), seed)
        for name, indices in members.items()
    )
    return Comparison(column, groups, gap, same_mix, left_out, sum(one is None for one in names))


def _scores(
    name: str,
    probabilities: npt.NDArray[np.float32],
    labels: metrics.Labels,
    adjusted: tuple[float, float] | None,
    seed: int,
) -> GroupScores:
    n = len(labels)
    confusion = metrics.confusion_matrix(probabilities, labels)
    right = int(np.trace(confusion))
    confidence = probabilities.max(axis=1).astype(np.float64)
    figures = (_macro_f1, metrics.ece, _mean_confidence)
    macro_f1, ece, mean = (figure(probabilities, labels) for figure in figures)
    quantiles = _resampled(probabilities, labels, figures, seed)
    low_high = None
    if adjusted is not None:
        low_high = _inside(adjusted[0] - _Z95 * adjusted[1], adjusted[0] + _Z95 * adjusted[1])
    return GroupScores(
        name=name,
        n=n,
        accuracy=right / n,
        accuracy_ci95=metrics.wilson_interval(right, n),
        macro_f1=macro_f1,
        macro_f1_ci95=_inside(*quantiles[0]),
        ece=ece,
        ece_ci95=_inside(*(2 * ece - quantiles[1][::-1])),
        ece_by_chance=_ece_by_chance(probabilities, confidence, seed),
        mean_confidence=mean,
        mean_confidence_ci95=_inside(*quantiles[2]),
        same_mix_accuracy=adjusted and adjusted[0],
        same_mix_accuracy_ci95=low_high,
        small=n < FEW,
    )


Figure = Callable[[npt.NDArray[np.float32], metrics.Labels], float]


def _resampled(
    probabilities: npt.NDArray[np.float32], labels: metrics.Labels, figures: Sequence[Figure], seed: int
) -> Floats:
    """The 2.5 % and 97.5 % quantiles of figures over resamples of the faces, float64 (figures, 2)."""
    rng = np.random.default_rng(seed)
    n = len(labels)
    found = np.empty((_RESAMPLES, len(figures)))
    for row in found:
        drawn = rng.integers(n, size=n)
        row[:] = [figure(probabilities[drawn], labels[drawn]) for figure in figures]
    return np.asarray(np.quantile(found, (0.025, 0.975), axis=0).T, np.float64)


def _macro_f1(probabilities: npt.NDArray[np.float32], labels: metrics.Labels) -> float:
    return metrics.macro_f1(metrics.confusion_matrix(probabilities, labels))


def _mean_confidence(probabilities: npt.NDArray[np.float32], _: metrics.Labels) -> float:
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
