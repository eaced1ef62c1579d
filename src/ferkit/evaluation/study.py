"""Studies: differences between conditions with people as the unit, and what people show over time.

Takes plain rows, such as those of `ferkit.batch.find_people`, and plain arrays.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import DatasetError, UsageError, count
from ferkit.evaluation.metrics import Z95, mean_interval, t95
from ferkit.evaluation.paired_statistics import holm
from ferkit.render import ClassName, DataTable, Section, Text, p_value, percent, point_interval, points
from ferkit.sources import printable_name

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

SHARE = "share_"
_DRAWS, _AT_ONCE = 10_000, 4_000_000  # permutations; numbers in memory together
_SAME = 1e-9  # what is equal but for rounding counts as equal


@dataclass(frozen=True)
class Difference:
    """One measure in two conditions.

    means: over people, in the first and in the second condition. difference: second less first, with its 95 % interval
        (Student's of paired differences, else Welch's).
    effect: Hedges' g, of paired differences in units of their standard deviation; with its 95 % interval. None where
        that is 0.
    p: of a permutation test. p_holm: corrected for all measures and pairs of conditions (Holm 1979).
    """

    measure: str
    conditions: tuple[str, str]
    means: tuple[float, float]
    difference: float
    difference_ci95: Interval
    effect: float | None
    effect_ci95: Interval | None
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Two conditions compared.

    paired: whether each person is compared with themselves. people: how many were compared, in each. left_out: people
        who are in both though others are not, or in one though others are in both. smallest_p: that a permutation test
        of so few can give.
    """

    conditions: tuple[str, str]
    paired: bool
    people: tuple[int, int]
    left_out: int
    smallest_p: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class StudyComparison:
    """Conditions compared, each with each. column: that says which condition a row is."""

    column: str
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sections(self) -> Iterator[Section]:
        """A table for each pair of conditions."""
        for pair in self.pairs:
            first, second = map(printable_name, pair.conditions)
            n, m = pair.people
            who = f"paired: {n} people in both" if pair.paired else f"not paired: {n} and {m} people"
            said = [f"{pair.left_out} left out"] if pair.left_out else []
            if pair.smallest_p > 0.01:
                said.append(f"so few people give no p below {p_value(pair.smallest_p)}")
            rows = tuple(_row(one) for one in pair.differences)
            columns = ("perceived", first, second, "difference", "95% interval", "g", "p", "p (Holm)")
            title = f"{printable_name(self.column)}: {first} and {second}"
            yield Section(title, (Text("; ".join([who, *said])), DataTable(columns, rows)))


def _row(one: Difference) -> tuple[Any, ...]:
    share = one.measure.startswith(SHARE)
    name = ClassName(one.measure.removeprefix(SHARE)) if share else one.measure
    if share:
        said = (*map(percent, one.means), points(one.difference), point_interval(one.difference_ci95))
    else:
        low, high = one.difference_ci95
        said = (*(f"{mean:.3g}" for mean in one.means), f"{one.difference:+.3g}", f"{low:+.3g} to {high:+.3g}")
    return (name, *said, "-" if one.effect is None else f"{one.effect:+.2f}", p_value(one.p), p_value(one.p_holm))


def compare_conditions(
    rows: Iterable[Mapping[str, Any]],
    column: str,
    *,
    measures: Sequence[str] | None = None,
    person: str = "person",
    seed: int = 0,
) -> StudyComparison:
    """Test whether people differ between conditions, with people and not faces as the unit.

    Several rows of a person in a condition count as their mean. Two conditions are compared in pairs where more people
    are in both than in one of them, else as independent groups; who does not fit is left out and counted.

    The test permutes signs of people's differences, or conditions among people, of which it studentises the difference
    so that groups may vary differently (Chung and Romano 2013): all permutations up to 10,000, else as many at random
    (p as Phipson and Smyth 2010).

    Args:
        rows: One or more for each person and condition; rows without a condition or a measure are left out.
        column: That names the condition.
        measures: Columns to compare; None takes those that begin with `share_`.
        person: The column that names the person.
        seed: Of the random permutations.

    Raises:
        UsageError: There is no such column. DatasetError: There are fewer than two conditions of two people.
    """
    rows = list(rows)
    names = list(rows[0]) if rows else []
    measures = [name for name in names if name.startswith(SHARE)] if measures is None else list(measures)
    for name in (column, person, *measures):
        if name not in names:
            raise UsageError(f"There is no column {name!r} to compare by. Columns: {', '.join(names) or 'none'}.")
    values: dict[str, dict[str, list[list[float]]]] = {}
    for row in rows:
        if row[column] is not None and all(row[name] is not None for name in measures):
            found = values.setdefault(str(row[column]), {}).setdefault(str(row[person]), [])
            found.append([float(row[name]) for name in measures])
    people = {level: {who: np.mean(each, axis=0) for who, each in found.items()} for level, found in values.items()}
    if len(people) < 2:
        raise DatasetError(f"{column} has {count(len(people), 'condition')} of people. Expected at least two.")
    rng = np.random.default_rng(seed)
    pairs = [_pair(people, levels, measures, rng) for levels in itertools.combinations(sorted(people), 2)]
    return StudyComparison(column, tuple(_corrected(pairs)))


def _corrected(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """With Holm's p over all that can differ at all: what nobody showed is no test."""
    told = [one for pair in pairs for one in pair.differences]
    tests = [one for one in told if one.effect is not None or abs(one.difference) > _SAME]
    corrected = {id(one): p for one, p in zip(tests, holm([one.p for one in tests]), strict=True)}
    for pair in pairs:
        yield replace(
            pair, differences=tuple(replace(one, p_holm=corrected.get(id(one), 1.0)) for one in pair.differences)
        )


def _pair(
    people: Mapping[str, Mapping[str, Floats]],
    levels: tuple[str, str],
    measures: Sequence[str],
    rng: np.random.Generator,
) -> Pair:
    first, second = (people[level] for level in levels)
    both = [who for who in first if who in second]
    only = [[who for who in one if who not in other] for one, other in ((first, second), (second, first))]
    paired = len(both) > len(only[0]) + len(only[1])
    chosen = [both, both] if paired else only
    if min(map(len, chosen)) < 2:
        raise DatasetError(
            f"{levels[0]} and {levels[1]} cannot be compared: {len(both)} people are in both, "
            f"{len(only[0])} and {len(only[1])} in one of them. Expected at least two in each."
        )
    a, b = (np.array([one[who] for who in names]) for one, names in zip((first, second), chosen, strict=True))
    tested = _paired(b - a, rng) if paired else _independent(a, b, rng)
    told = [
        Difference(name, levels, (float(a[:, n].mean()), float(b[:, n].mean())), *one)
        for n, (name, one) in enumerate(zip(measures, tested, strict=True))
    ]
    smallest = 2.0 ** (1 - len(both)) if paired else 1 / math.comb(len(a) + len(b), len(a)) * (1 + (len(a) == len(b)))
    left_out = sum(map(len, only)) if paired else len(both)
    return Pair(levels, paired, (len(a), len(b)), left_out, max(smallest, 1 / (1 + _DRAWS)), tuple(told))


_Tested = tuple[float, Interval, float | None, Interval | None, float]


def _paired(gaps: Floats, rng: np.random.Generator) -> Iterator[_Tested]:
    """Of differences of people, (people, measures)."""
    n = len(gaps)
    seen, hits, draws = np.abs(gaps.mean(axis=0)), np.zeros(gaps.shape[1]), 0
    for signs in _signs(n, rng):
        hits += (np.abs(signs @ gaps / n) >= seen - _SAME).sum(axis=0)
        draws += len(signs)
    for p, gap in zip(_p(hits, draws, exact=2**n <= _DRAWS), gaps.T, strict=True):
        mean, spread = float(gap.mean()), float(gap.std(ddof=1))
        # Of the standardised mean difference of one sample: Borenstein et al. 2009.
        effect = _effect(mean, spread, n - 1, lambda g: 1 / n + g**2 / (2 * n))
        yield (mean, mean_interval(gap.tolist()), *effect, p)


def _independent(a: Floats, b: Floats, rng: np.random.Generator) -> Iterator[_Tested]:
    """Of two groups of people, (people, measures) each."""
    n, m = len(a), len(b)
    values = np.vstack([a, b])
    seen = _welch((np.arange(n + m) < n)[None].astype(float), values)[0]
    hits, draws = np.zeros(values.shape[1]), 0
    for member in _members(n, m, rng):
        hits += (_welch(member, values) >= seen - _SAME).sum(axis=0)
        draws += len(member)
    exact = math.comb(n + m, n) <= _DRAWS
    for p, one, other in zip(_p(hits, draws, exact=exact), a.T, b.T, strict=True):
        difference = float(other.mean() - one.mean())
        errors = one.var(ddof=1) / n, other.var(ddof=1) / m
        error = math.sqrt(sum(errors))
        # Welch 1947
        df = sum(errors) ** 2 / (errors[0] ** 2 / (n - 1) + errors[1] ** 2 / (m - 1)) if error else 1.0
        reach = t95(df) * error
        pooled = math.sqrt(((n - 1) * one.var(ddof=1) + (m - 1) * other.var(ddof=1)) / (n + m - 2))
        # Hedges and Olkin 1985, in the form that statsmodels has.
        effect = _effect(difference, pooled, n + m - 2, lambda g: (n + m) / (n * m) + g**2 / (2 * (n + m - 3.94)))
        yield (difference, (difference - reach, difference + reach), *effect, p)


def _effect(
    difference: float, spread: float, df: int, variance: Callable[[float], float]
) -> tuple[float | None, Interval | None]:
    """Hedges' g and its 95 % interval: the standardised difference without its bias in small samples."""
    if spread < _SAME:
        return None, None
    effect = difference / spread * (1 - 3 / (4 * df - 1))
    reach = Z95 * math.sqrt(variance(effect))
    return effect, (effect - reach, effect + reach)


def _welch(member: Floats, values: Floats) -> Floats:
    """Welch's t without its sign, (draws, measures), of who is in the first group, (draws, people)."""
    sides = []
    for one in (member, 1 - member):
        n = one.sum(axis=1, keepdims=True)
        mean = one @ values / n
        sides.append((mean, np.maximum(one @ values**2 / n - mean**2, 0) / (n - 1)))
    (a, error_a), (b, error_b) = sides
    gap, error = np.abs(a - b), np.sqrt(error_a + error_b)
    # Groups in which all are alike differ beyond doubt, or not at all.
    apart = np.where(gap > _SAME, np.inf, 0.0)
    return np.asarray(np.where(error > _SAME, gap / np.maximum(error, _SAME), apart), np.float64)


def _signs(n: int, rng: np.random.Generator) -> Iterator[Floats]:
    if 2**n <= _DRAWS:
        yield np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        return
    for draws in _batches(n):
        yield rng.choice((1.0, -1.0), (draws, n))


def _members(n: int, m: int, rng: np.random.Generator) -> Iterator[Floats]:
    if math.comb(n + m, n) <= _DRAWS:
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
        member = np.zeros((len(chosen), n + m))
        np.put_along_axis(member, chosen, 1.0, axis=1)
        yield member
        return
    for draws in _batches(n + m):
        yield rng.permuted(np.tile((np.arange(n + m) < n).astype(float), (draws, 1)), axis=1)


def _batches(people: int) -> Iterator[int]:
    size = max(1, _AT_ONCE // people)
    for begin in range(0, _DRAWS, size):
        yield min(size, _DRAWS - begin)


def _p(hits: Floats, draws: int, *, exact: bool) -> list[float]:
    # What was seen is one of all permutations, and one more than the random ones.
    return [float(one / draws if exact else (1 + one) / (1 + draws)) for one in hits]


def inter_subject_correlation(courses: Floats) -> Floats:
    """How much people agree over time: the correlation of each with the mean of all others.

    Leave-one-out inter-subject correlation (Hasson et al. 2004; Nastase, Gazzola, Hasson and Keysers 2019, "Measuring
    shared responses across subjects using intersubject correlation"). Average it over people after Fisher's z, or
    compare it between conditions like any other measure.

    Args:
        courses: One measure of at least two people at the same times, (people, times); NaN where a person is not seen,
            who is then left out of the others' mean at that time.

    Returns:
        Pearson's r of each person, (people,); NaN of whoever, or whose others, never change.
    """
    found = np.full(len(courses), np.nan)
    for place, own in enumerate(courses):
        others = np.delete(courses, place, axis=0)
        there = np.isfinite(own) & np.isfinite(others).any(axis=0)
        if there.sum() > 2:
            x, y = own[there], np.nanmean(others[:, there], axis=0)
            spread = x.std() * y.std()
            found[place] = ((x - x.mean()) * (y - y.mean())).mean() / spread if spread > _SAME else np.nan
    return found


def baseline_corrected(courses: Floats, times: Floats, baseline: Interval) -> Floats:
    """Courses as change from each person's baseline: less their mean in an interval before the event.

    As usual for facial EMG and other psychophysiology (van Boxtel 2010, "Facial EMG as a tool for inferring affective
    states"): faces at rest differ, and a classifier takes some for sad or angry.

    Args:
        courses: (people, times).
        times: Of the columns, (times,), in seconds.
        baseline: First and last second of the baseline, the last excluded.

    Raises:
        UsageError: No time is in the baseline.
    """
    inside = (times >= baseline[0]) & (times < baseline[1])
    if not inside.any():
        raise UsageError(
            f"No time is in the baseline of {baseline[0]} to {baseline[1]} s. Received: {len(times)} times."
        )
    return np.asarray(courses - np.nanmean(courses[:, inside], axis=1, keepdims=True), np.float64)
