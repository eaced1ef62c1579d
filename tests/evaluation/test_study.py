"""Statistics of studies agree with SciPy's and statsmodels', and raise no more false alarms than they say."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import meta_analysis as effects
from statsmodels.stats import multitest

from ferkit.errors import DatasetError, UsageError
from ferkit.evaluation import baseline_corrected, compare_conditions, inter_subject_correlation
from ferkit.evaluation.metrics import t95
from ferkit.render import to_text
from ferkit.render.document import Document

LABELS = ("happy", "sad", "neutral")


def rows_of(groups, people=None):
    """Of shares by condition, (people, labels)."""
    return [
        {
            "person": f"{'' if people else level}{n}",
            "film": level,
            **{f"share_{k}": v for k, v in zip(LABELS, row, strict=True)},
        }
        for level, shares in groups.items()
        for n, row in enumerate(shares)
    ]


def compared(groups, *, paired, **options):
    (pair,) = compare_conditions(rows_of(groups, paired), "film", **options).pairs
    return pair


@pytest.mark.parametrize("df", [1, 1.5, 2, 4.2, 10, 11.7, 60, 1e4, 1e7])
def test_the_quantile_of_student(df):
    assert t95(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-5)


@pytest.mark.parametrize("n", [5, 9, 40])
def test_paired_differences(rng, n):
    a, b = rng.dirichlet((3, 2, 4), n), rng.dirichlet((4, 2, 3), n)
    pair = compared({"a": a, "b": b}, paired=True)
    assert (pair.paired, pair.people, pair.left_out) == (True, (n, n), 0)
    for one, x, y in zip(pair.differences, a.T, b.T, strict=True):
        assert one.difference == pytest.approx((y - x).mean())
        expected = stats.ttest_rel(y, x).confidence_interval(0.95)
        assert one.difference_ci95 == pytest.approx((expected.low, expected.high), abs=1e-6)
        assert one.effect == pytest.approx((y - x).mean() / (y - x).std(ddof=1) * (1 - 3 / (4 * (n - 1) - 1)))
        other = stats.permutation_test(
            (y - x,), np.mean, permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(1)
        )
        assert one.p == pytest.approx(other.pvalue, abs=1e-9 if n < 14 else 0.02)
    holm = multitest.multipletests([one.p for one in pair.differences], method="holm")[1]
    assert [one.p_holm for one in pair.differences] == pytest.approx(holm)


def welch(x, y, axis=-1):
    return np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (6, 7), (30, 20)])
def test_independent_groups(rng, n, m):
    a, b = rng.dirichlet((3, 2, 4), n), rng.dirichlet((4, 2, 3), m)
    pair = compared({"a": a, "b": b}, paired=False)
    assert (pair.paired, pair.people) == (False, (n, m))
    for one, x, y in zip(pair.differences, a.T, b.T, strict=True):
        expected = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
        assert one.difference_ci95 == pytest.approx((expected.low, expected.high), abs=1e-6)
        g, variance = effects.effectsize_smd(y.mean(), y.std(ddof=1), m, x.mean(), x.std(ddof=1), n)
        assert one.effect == pytest.approx(g)
        assert one.effect_ci95 == pytest.approx((g - 1.96 * variance**0.5, g + 1.96 * variance**0.5), abs=1e-4)
        other = stats.permutation_test(
            (x, y), welch, alternative="greater", vectorized=True, n_resamples=10_000, rng=np.random.default_rng(1)
        )
        assert one.p == pytest.approx(other.pvalue, abs=1e-9 if n < 10 else 0.02)


@pytest.mark.parametrize("paired", [True, False])
def test_false_alarms(rng, paired):
    """Of 150 studies in which nothing differs, about 5 % find some emotion below 0.05; benchmarks/false_alarms.py has more."""
    alarms = 0
    for _ in range(150):
        shares = rng.dirichlet((2, 1, 3), 10)
        groups = {"a": shares[:5], "b": shares[5:]}
        alarms += min(one.p_holm for one in compared(groups, paired=paired).differences) < 0.05
    assert alarms < stats.binom.ppf(0.9999, 150, 0.05)


def test_people_are_the_unit_and_not_their_rows(rng):
    """Each row a hundred times over changes nothing."""
    rows = rows_of({"a": rng.dirichlet((3, 2, 4), 5), "b": rng.dirichlet((4, 2, 3), 5)}, people=True)
    once, often = (compare_conditions(some, "film") for some in (rows, rows * 100))
    for one, other in zip(once.pairs[0].differences, often.pairs[0].differences, strict=True):
        assert (one.p, one.difference_ci95) == (other.p, pytest.approx(other.difference_ci95))


def test_who_does_not_fit_is_left_out(rng):
    rows = rows_of({"a": rng.dirichlet((3, 2, 4), 6), "b": rng.dirichlet((4, 2, 3), 4)}, people=True)
    (pair,) = compare_conditions(rows, "film").pairs
    assert (pair.paired, pair.people, pair.left_out) == (True, (4, 4), 2)
    rows += [*rows_of({"c": rng.dirichlet((3, 2, 4), 5)}), dict(rows[0], person="c0", film="d")]
    with pytest.raises(DatasetError, match="c and d cannot be compared: 1 people are in both, 4 and 0 in one"):
        compare_conditions([row for row in rows if row["film"] in "cd"], "film")


def test_all_pairs_of_conditions_are_corrected_together(rng):
    found = compare_conditions(rows_of({level: rng.dirichlet((3, 2, 4), 6) for level in "abc"}), "film")
    assert [pair.conditions for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    told = [one for pair in found.pairs for one in pair.differences]
    holm = multitest.multipletests([one.p for one in told], method="holm")[1]
    assert [one.p_holm for one in told] == pytest.approx(holm)


def test_what_nobody_showed_is_no_test():
    shares = np.array([[0.2, 0, 0.8], [0.4, 0, 0.6], [0.6, 0, 0.4]])
    pair = compared({"a": shares, "b": shares[:, ::-1].copy()[:, [2, 1, 0]] + [0.1, 0, -0.1]}, paired=False)
    happy, sad, _ = pair.differences
    assert (sad.difference, sad.difference_ci95, sad.effect, sad.p, sad.p_holm) == (0.0, (0.0, 0.0), None, 1.0, 1.0)
    assert happy.p_holm == pytest.approx(min(1, 2 * happy.p))
    assert pair.smallest_p == pytest.approx(0.1)


def test_what_people_read(rng):
    found = compare_conditions(
        rows_of({"a": rng.dirichlet((3, 2, 4), 3), "b": rng.dirichlet((4, 2, 3), 3)}, True), "film"
    )
    text = to_text(Document("", "", tuple(found.sections())))
    assert "film: a and b" in text
    assert "paired: 3 people in both; so few people give no p below 0.25" in text
    assert next(line for line in text.splitlines() if line.startswith("happy")).count("%") == 2


def test_columns_that_are_not_there():
    rows = rows_of({"a": [[0.1, 0.2, 0.7]]})
    with pytest.raises(UsageError, match="no column 'group' to compare by"):
        compare_conditions(rows, "group")
    with pytest.raises(DatasetError, match="film has 1 condition of people"):
        compare_conditions(rows, "film")


def test_inter_subject_correlation(rng):
    courses = rng.normal(size=(5, 40)) + np.sin(np.arange(40))
    courses[2, 7:12] = np.nan
    found = inter_subject_correlation(courses)
    for person, r in enumerate(found):
        others = np.nanmean(np.delete(courses, person, axis=0), axis=0)
        there = np.isfinite(courses[person])
        assert r == pytest.approx(stats.pearsonr(courses[person][there], others[there]).statistic)
    assert np.isnan(inter_subject_correlation(np.vstack([courses, np.ones(40)]))[-1])


def test_baseline():
    times = np.arange(6) / 2
    courses = np.array([[1.0, 3, 5, 5, 5, 5], [0, np.nan, 2, 2, 2, 2]])
    corrected = baseline_corrected(courses, times, (0, 1))
    assert corrected.tolist()[0] == [-1, 1, 3, 3, 3, 3]
    assert corrected[1, 2:].tolist() == [2, 2, 2, 2]
    with pytest.raises(UsageError, match="No time is in the baseline of 5 to 6 s"):
        baseline_corrected(courses, times, (5, 6))
