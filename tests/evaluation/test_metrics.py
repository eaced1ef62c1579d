"""Figures against tables worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferkit.errors import FerkitError
from ferkit.evaluation import metrics
from ferkit.evaluation.metrics import ClassScores
from ferkit.models import apply_temperature, fit_temperature


def one_hot(predicted, k, confidence=1.0):
    """Probabilities that put `confidence` on each prediction and share the rest evenly."""
    rows = np.full((len(predicted), k), (1 - confidence) / (k - 1))
    rows[np.arange(len(predicted)), predicted] = confidence
    return rows


# Ten faces of three classes, worked out on paper:
#            a  b  c | n
#       a    3  1  0 | 4
#       b    1  2  0 | 3
#       c    2  0  1 | 3
TRUE = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
CALLED = np.array([0, 0, 0, 1, 0, 1, 1, 0, 0, 2])
MATRIX = [[3, 1, 0], [1, 2, 0], [2, 0, 1]]


def test_confusion_matrix_has_the_truth_in_rows():
    matrix = metrics.confusion_matrix(one_hot(CALLED, 3), TRUE)
    assert matrix.tolist() == MATRIX
    assert matrix.dtype == np.int64


def test_class_scores_macro_f1_and_balanced_accuracy_of_the_table():
    a, b, c = metrics.class_scores(np.array(MATRIX))
    assert (a.precision, a.recall, a.f1, a.n) == (3 / 6, 3 / 4, pytest.approx(0.6), 4)
    assert (b.precision, b.recall, b.f1, b.n) == (2 / 3, 2 / 3, pytest.approx(2 / 3), 3)
    assert (c.precision, c.recall, c.f1, c.n) == (1.0, 1 / 3, pytest.approx(0.5), 3)
    assert metrics.macro_f1(np.array(MATRIX)) == pytest.approx((0.6 + 2 / 3 + 0.5) / 3)
    assert metrics.balanced_accuracy(np.array(MATRIX)) == pytest.approx((3 / 4 + 2 / 3 + 1 / 3) / 3)
    assert metrics.accuracy(one_hot(CALLED, 3), TRUE) == 0.6


@pytest.mark.parametrize(
    ("matrix", "scores", "macro_f1", "balanced"),
    [
        pytest.param(
            [[2, 0], [0, 0]], [ClassScores(1.0, 1.0, 1.0, 2), ClassScores(None, None, None, 0)], 1.0, 1.0, id="no faces"
        ),
        pytest.param(
            [[1, 1], [0, 0]], [ClassScores(1.0, 0.5, 2 / 3, 2), ClassScores(None, None, None, 0)], 2 / 3, 0.5,
            id="no faces, yet predicted",
        ),
        pytest.param(
            [[2, 0], [2, 0]], [ClassScores(0.5, 1.0, 2 / 3, 2), ClassScores(0.0, 0.0, 0.0, 2)], 1 / 3, 0.5,
            id="never predicted",
        ),
    ],
)  # fmt: skip
def test_classes_at_the_edge(matrix, scores, macro_f1, balanced):
    matrix = np.array(matrix)
    assert list(metrics.class_scores(matrix)) == scores
    assert metrics.macro_f1(matrix) == pytest.approx(macro_f1)
    assert metrics.balanced_accuracy(matrix) == pytest.approx(balanced)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, Wilson without correction.
        pytest.param(81, 263, 0.2553, 0.3662, id="81 of 263"),
        pytest.param(15, 148, 0.0624, 0.1605, id="15 of 148"),
        pytest.param(0, 20, 0.0, 0.1611, id="none of 20"),
        pytest.param(1, 29, 0.0061, 0.1718, id="1 of 29"),
        pytest.param(20, 20, 0.8389, 1.0, id="all of 20"),
    ],
)
def test_wilson_interval_agrees_with_published_values(hits, n, low, high):
    assert metrics.wilson_interval(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_nonsense(hits, n):
    with pytest.raises(FerkitError, match=f"hits={hits}, n={n}"):
        metrics.wilson_interval(hits, n)


def test_log_loss_in_nats():
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    expected = -(math.log(0.5) + math.log(0.9) + math.log(0.2)) / 3
    assert metrics.nll(probabilities, np.array([1, 0, 0])) == pytest.approx(expected)
    assert metrics.nll(np.full((4, 7), 1 / 7), np.arange(4)) == pytest.approx(math.log(7))
    assert metrics.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-math.log(1e-7))


def test_reliability_and_ece_of_a_table_worked_out_by_hand():
    # Five bins of 0.2. Confidence 0.6 belongs to (0.4, 0.6], 0.9 and 1.0 to (0.8, 1].
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [1.0, 0.0]])
    labels = np.array([0, 1, 0, 1])
    table = metrics.reliability(probabilities, labels, bins=5)
    assert table.counts.tolist() == [0, 0, 2, 0, 2]
    assert table.confidence[[2, 4]] == pytest.approx([0.6, 0.95])
    assert table.accuracy[[2, 4]] == pytest.approx([0.5, 0.5])
    assert np.isnan(table.accuracy[[0, 1, 3]]).all()
    assert metrics.ece(probabilities, labels, bins=5) == pytest.approx(0.5 * 0.1 + 0.5 * 0.45)


def test_ece_uses_fifteen_bins():
    assert len(metrics.reliability(one_hot(CALLED, 3), TRUE).counts) == 15
    assert metrics.ece(one_hot(CALLED, 3), TRUE) == pytest.approx(0.4)  # certain of all ten, right on six


def test_coverage_curve_lets_equal_confidences_pass_together():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
    curve = metrics.coverage_curve(probabilities, np.array([0, 0, 1, 1]))
    assert curve.threshold == pytest.approx([0.9, 0.7, 0.6])
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.accuracy == pytest.approx([1.0, 2 / 3, 0.5])


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        pytest.param(0.25, 1.0, id="the surest"),
        pytest.param(0.5, 0.75, id="between two equals, one right"),
        pytest.param(0.75, 2 / 3, id="both equals"),
        pytest.param(1.0, 0.5, id="all"),
    ],
)
def test_accuracy_at_coverage(coverage, expected):
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
    assert metrics.accuracy_at_coverage(probabilities, np.array([0, 0, 1, 1]), coverage) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("min_confidence", "n", "coverage", "accuracy", "balanced_coverage", "balanced_accuracy"),
    [
        pytest.param(0.0, 4, 1.0, 0.75, 1.0, 5 / 6, id="all"),
        pytest.param(0.6, 3, 0.75, 2 / 3, 5 / 6, 0.75, id="the confidence itself is enough"),
        pytest.param(0.7, 2, 0.5, 1.0, 2 / 3, 1.0, id="one of three and all of one"),
        pytest.param(1.0, 0, 0.0, None, 0.0, None, id="none"),
    ],
)
def test_answered(min_confidence, n, coverage, accuracy, balanced_coverage, balanced_accuracy):
    # Three faces of class 0 and one of class 1; nobody shows class 2.
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.0, 0.9, 0.1]])
    one = metrics.answered(probabilities, np.array([0, 0, 0, 1]), min_confidence)
    assert (one.n, one.coverage, one.accuracy) == (n, coverage, accuracy and pytest.approx(accuracy))
    assert one.balanced_coverage == pytest.approx(balanced_coverage)
    assert one.balanced_accuracy == (balanced_accuracy and pytest.approx(balanced_accuracy))
    assert one.accuracy_ci95 == (metrics.wilson_interval(round(accuracy * n), n) if n else None)


def test_answered_agrees_with_the_labels_of_results(rng):
    """float32 0.6 is above 0.6: what evaluation counts as answered is what recognition labels."""
    from ferkit.results import UNCERTAIN, Box, Face, FaceEmotion

    rows = np.array([[0.6, 0.4], [0.59999996, 0.40000004], [0.7, 0.3]], np.float32)
    face = Face(Box(0, 0, 1, 1), 1.0)
    for limit in (0.6, 0.7):
        labels = [FaceEmotion.from_probabilities(face, ("a", "b"), row, limit).label for row in rows]
        assert metrics.answered(rows, np.array([0, 0, 0]), limit).n == sum(label != UNCERTAIN for label in labels)


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_answered_refuses(limit):
    with pytest.raises(FerkitError, match="min_confidence must be 0 to 1"):
        metrics.answered(one_hot(CALLED, 3), TRUE, limit)


@pytest.mark.parametrize("coverage", [0, -0.1, 1.1])
def test_accuracy_at_coverage_refuses(coverage):
    with pytest.raises(FerkitError, match="coverage must be"):
        metrics.accuracy_at_coverage(one_hot(CALLED, 3), TRUE, coverage)


def test_confident_mistakes_come_surest_first():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.99, 0.01]])
    labels = np.array([1, 1, 1, 0, 0])
    assert metrics.confident_mistakes(probabilities, labels, 3).tolist() == [0, 2, 3]
    assert metrics.confident_mistakes(probabilities, np.array([0, 0, 0, 1, 0]), 3).tolist() == []


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_fit_temperature_finds_the_one_that_made_the_labels(rng, temperature):
    logits = rng.normal(0, 2, (40_000, 5))
    likely = apply_temperature(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), temperature)
    labels = (likely.cumsum(axis=1) > rng.random((len(likely), 1))).argmax(axis=1)
    stated = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert fit_temperature(stated, labels) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_agrees_with_a_grid(rng):
    probabilities = rng.dirichlet(np.full(7, 0.3), 500).astype(np.float32)
    labels = np.where(rng.random(500) < 0.6, probabilities.argmax(1), rng.integers(0, 7, 500))
    grid = np.geomspace(0.3, 10, 2000)
    losses = [metrics.nll(apply_temperature(probabilities, t), labels) for t in grid]
    assert fit_temperature(probabilities, labels) == pytest.approx(grid[np.argmin(losses)], rel=0.01)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([0, 0], 0.05, id="always right: as sharp as allowed"),
        pytest.param([1, 1], 20.0, id="always wrong: as soft as allowed"),
    ],
)
def test_fit_temperature_stays_in_bounds(labels, expected):
    probabilities = np.array([[1.0, 0.0], [0.7, 0.3]], np.float32)  # the zero must not become infinity
    assert fit_temperature(probabilities, np.array(labels)) == pytest.approx(expected, rel=1e-3)


def test_apply_temperature_by_hand():
    softened = apply_temperature(np.array([[0.64, 0.36], [1.0, 0.0]]), 2.0)
    assert softened[0] == pytest.approx([0.8 / 1.4, 0.6 / 1.4])  # square roots, normalised
    assert softened[1] == pytest.approx([1, 0], abs=1e-6)
    assert softened.dtype == np.float32


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_temperature_keeps_rows_summing_to_one_and_the_order(seed, temperature):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(7), 20)
    scaled = apply_temperature(probabilities, temperature)
    assert scaled.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    chosen = scaled[np.arange(20), probabilities.argmax(axis=1)]
    assert (chosen >= scaled.max(axis=1) - 1e-6).all()


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_apply_temperature_refuses(temperature):
    with pytest.raises(FerkitError, match="temperature is a number above 0"):
        apply_temperature(np.array([[0.5, 0.5]]), temperature)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        pytest.param(np.empty((0, 2)), np.empty(0, int), "at least one face", id="no face"),
        pytest.param(np.ones((2, 2)) / 2, np.array([0]), r"\(1, classes\). Received: \(2, 2\)", id="counts differ"),
        pytest.param(np.ones(2) / 2, np.array([0, 1]), r"Received: \(2,\)", id="one axis"),
        pytest.param(np.ones((1, 2)) / 2, np.array([2]), r"0 to 1. Received: \[2\]", id="label too large"),
        pytest.param(np.ones((1, 2)) / 2, np.array([-1]), r"Received: \[-1\]", id="label negative"),
        pytest.param(np.array([[np.nan, 0.5]]), np.array([0]), "NaN", id="diverged model"),
    ],
)
def test_bad_input_is_named(probabilities, labels, message):
    with pytest.raises(FerkitError, match=message):
        metrics.accuracy(probabilities, labels)


@pytest.mark.parametrize(
    ("n", "quantile"),
    [  # of Student's distribution with n - 1 degrees of freedom, from printed tables
        pytest.param(2, 12.7062, id="two"),
        pytest.param(11, 2.228, id="last of the table"),
        pytest.param(12, 2.201, id="first beyond it"),
        pytest.param(31, 2.042, id="many"),
    ],
)
def test_the_interval_of_a_mean(n, quantile):
    values = np.linspace(0.5, 0.7, n).tolist()
    half = quantile * np.std(values, ddof=1) / np.sqrt(n)
    assert metrics.mean_interval(values) == pytest.approx((0.6 - half, 0.6 + half), abs=2e-5)


def test_one_value_has_no_interval():
    with pytest.raises(FerkitError, match="at least 2 values"):
        metrics.mean_interval([0.6])
