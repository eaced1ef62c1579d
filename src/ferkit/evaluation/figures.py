"""Pictures of what a model learned: each function takes data and a target path, and draws nothing on any screen.

The suffix of the path chooses the format (.png, .svg, .pdf). Figures are built from `matplotlib.figure.Figure`, never
through pyplot, so drawing changes no global state and works in threads and servers. Colours of emotions come from
`ferkit.labels`; everything else is ink, gray and one accent. Numbers come from `ferkit.evaluation.metrics`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from ferkit.errors import FerkitError
from ferkit.evaluation import metrics
from ferkit.labels import color_of
from ferkit.models import Labels, Probabilities
from ferkit.render import DARK as DARK
from ferkit.render import LIGHT as LIGHT
from ferkit.render import (
    WIDTH,
    legend,
    new_figure,
    percent_tick,
    plain,
    save,
    show_face,
    style_axes,
)
from ferkit.render import Theme as Theme


def training_curves(history: Sequence[Mapping[str, float]], path: Path, *, theme: Theme = LIGHT) -> None:
    """Loss, accuracy and learning rate by epoch; the best validation epoch is marked.

    history: one mapping per epoch with epoch, loss, accuracy and learning_rate; val_loss, val_accuracy where the run
        was validated. Accuracies are fractions, losses in nats.
    """
    if not history:
        raise FerkitError("Training curves need at least one epoch. Received an empty history.")
    figure = new_figure(theme, height=6.2)
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(5, 5, 2))
    epochs = _series(history, "epoch")
    best = _best_epoch(history)
    for axes, name, title in ((loss, "loss", "Loss (nats)"), (accuracy, "accuracy", "Accuracy")):
        style_axes(axes, theme, title)
        axes.plot(epochs, _series(history, name), color=theme.muted, lw=1.6, label="training")
        if any(f"val_{name}" in row for row in history):
            values = _series(history, f"val_{name}")
            axes.plot(epochs, values, color=theme.accent, lw=2.2, label="validation")
            if best is not None:
                axes.plot(epochs[best], values[best], "o", color=theme.accent, ms=7, mec=theme.paper, mew=1.5, zorder=5)
    if best is not None:
        value = history[best]["val_accuracy"]
        # Below the curve and to the left of the point: the corner that a rising curve leaves free.
        accuracy.annotate(
            f"best {value:.1%}\nepoch {epochs[best]:.0f}",
            (epochs[best], value),
            xytext=(0, -34),
            textcoords="offset points",
            ha="right" if best > len(history) / 2 else "left",
            va="top",
            color=theme.accent,
            arrowprops={"arrowstyle": "-", "color": theme.accent, "lw": 0.8, "shrinkB": 5},
        )
    accuracy.yaxis.set_major_formatter(percent_tick)
    legend(loss, theme, "best")
    style_axes(rate, theme, "Learning rate")
    rate.plot(epochs, _series(history, "learning_rate"), color=theme.muted, lw=1.6, drawstyle="steps-mid")
    rate.set_ylim(bottom=0)
    peak = float(np.nanmax(_series(history, "learning_rate")))
    rate.set_yticks([0, peak], ["0", f"{peak:.2g}"])
    _epoch_axis(rate, epochs)
    save(figure, path)


def training_speed(history: Sequence[Mapping[str, float]], path: Path, *, theme: Theme = LIGHT) -> None:
    """Faces per second of each epoch, with the median.

    history: one mapping per epoch with epoch and faces_per_second, as `training_curves` takes it.
    """
    epochs, speeds = _series(history, "epoch"), _series(history, "faces_per_second")
    if np.isnan(speeds).all():
        raise FerkitError("A plot of the speed needs faces_per_second of at least one epoch. Received none.")
    figure = new_figure(theme, height=2.7)
    axes = figure.subplots()
    style_axes(axes, theme, "Faces per second")
    axes.bar(epochs, speeds, width=0.85, color=theme.accent, alpha=0.75, lw=0)
    median = float(np.nanmedian(speeds))
    axes.axhline(median, color=theme.ink, lw=1.2, ls=(0, (4, 3)))
    # Named above the picture: among bars that change from epoch to epoch no place is free for sure.
    axes.set_title(f"median {median:,.0f}", loc="right", size=11.5, weight="bold", color=theme.ink)
    axes.set_ylim(bottom=0)
    _epoch_axis(axes, epochs)
    save(figure, path)


def draw_shares(axes: Axes, rates: npt.NDArray[np.float64], theme: Theme) -> None:
    """Cells (rows, columns), the first row on top, from paper for 0 to the accent for 1; NaN stays empty."""
    shades = LinearSegmentedColormap.from_list("share", [theme.paper, theme.accent])
    axes.set_facecolor(theme.paper)
    axes.pcolormesh(rates, cmap=shades, vmin=0, vmax=1, linewidth=1.5, edgecolor=theme.paper)
    axes.set(xlim=(0, rates.shape[1]), ylim=(rates.shape[0], 0))
    axes.spines[:].set_visible(False)


def ink_on(rate: float, theme: Theme) -> str:
    """Colour of text in such a cell."""
    # The accent contrasts with the paper as ink does: where it fills the cell, text takes the paper's colour.
    return theme.paper if rate > 0.62 else theme.ink if rate >= 0.005 else theme.muted


def confusion_matrix(confusion: metrics.Confusion, classes: Sequence[str], path: Path, *, theme: Theme = LIGHT) -> None:
    """Share of each true class by prediction, with counts: int (K, K), rows true; no faces, empty row."""
    k = len(classes)
    totals = confusion.sum(axis=1, keepdims=True)
    rates = np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    side = max(WIDTH, 1.6 + 0.62 * k)
    figure = new_figure(theme, width=side, height=side * 0.94)
    axes = figure.subplots()
    draw_shares(axes, rates, theme)
    axes.set(aspect="equal")
    for row in range(k):
        for column in range(k):
            if totals[row, 0] == 0:
                continue
            rate = float(rates[row, column])
            color = ink_on(rate, theme)
            weight = "bold" if row == column else "normal"
            # Cells are wider than their texts; measuring hundreds of them for the layout would take seconds.
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": color, "in_layout": False}
            count = int(confusion[row, column])
            if count == 0:
                axes.text(column + 0.5, row + 0.5, "0", size=9, **style)
                continue
            axes.text(column + 0.5, row + 0.44, f"{rate:.0%}", size=11.5, weight=weight, **style)
            axes.text(column + 0.5, row + 0.74, f"{count:,}", size=9, **style)
    names = [plain(name) for name in classes]
    axes.set_xticks(np.arange(k) + 0.5, names, rotation=90 if k > 8 or max(map(len, names)) > 9 else 0, color=theme.ink)
    axes.set_yticks(
        np.arange(k) + 0.5,
        [f"{name}\n{total:,}" for name, total in zip(names, totals[:, 0], strict=True)],
        color=theme.ink,
        va="center",
    )
    axes.tick_params(length=0, labelsize=10)
    axes.set_xlabel("Predicted", color=theme.muted, labelpad=8)
    axes.set_ylabel("True class and its faces", color=theme.muted, labelpad=8)
    save(figure, path)


def reliability_diagram(probabilities: Probabilities, labels: Labels, path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy against stated confidence in 15 bins, and how many faces each bin holds (Guo et al. 2017)."""
    table = metrics.reliability(probabilities, labels)
    figure = new_figure(theme, height=5.8)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.2))
    width = np.diff(table.edges)
    left = table.edges[:-1]
    gap = table.confidence - table.accuracy
    style_axes(axes, theme, "Accuracy")
    axes.set_title(
        f"ECE {metrics.ece(probabilities, labels):.1%}", loc="right", size=11.5, weight="bold", color=theme.ink
    )
    axes.bar(left, table.accuracy, width, align="edge", color=theme.accent, ec=theme.paper, lw=1.5, label="accuracy")
    axes.bar(left, gap, width, bottom=table.accuracy, align="edge", color=theme.accent, alpha=0.2, label="gap")
    # Outlined in paper, so that the mark stays visible where it falls on a bar.
    halo = [Stroke(linewidth=4, foreground=theme.paper), Normal()]
    axes.hlines(
        table.confidence,
        left + 0.15 * width,
        left + 0.85 * width,
        color=theme.ink,
        lw=2,
        path_effects=halo,
        label="stated confidence",
    )
    axes.plot([0, 1], [0, 1], color=theme.muted, lw=1.2, ls=(0, (4, 3)), label="perfectly calibrated")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(percent_tick)
    legend(axes, theme, "upper left")
    style_axes(counts, theme, "Faces")
    counts.bar(left, table.counts, width, align="edge", color=theme.muted, ec=theme.paper, lw=1.5)
    for x, number in zip(left + width / 2, table.counts, strict=True):
        if number:
            counts.annotate(
                f"{number:,}", (x, number), (0, 2), textcoords="offset points", ha="center", size=8, color=theme.muted
            )
    counts.set_ylim(0, table.counts.max() * 1.25)
    counts.set_yticks([])
    counts.xaxis.set_major_formatter(percent_tick)
    counts.set_xlabel("Confidence")
    save(figure, path)


def coverage_curve(probabilities: Probabilities, labels: Labels, path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy against coverage, the share of faces with the most confident predictions, with its 95 % interval.

    Marked is where `metrics.CONFIDENCES` lie: what a threshold on the confidence leaves, and what it gains.
    """
    curve = metrics.coverage_curve(probabilities, labels)
    counts = np.rint(curve.coverage * len(labels)).astype(int)
    hits = np.rint(curve.accuracy * counts).astype(int)
    low, high = np.array([metrics.wilson_interval(int(k), int(n)) for k, n in zip(hits, counts, strict=True)]).T
    # Among a handful of faces accuracy is noise that would set the scale of the whole picture.
    steady = counts >= min(30, len(labels))
    figure = new_figure(theme, height=5.0)
    axes = figure.subplots()
    style_axes(axes, theme, "Accuracy")
    axes.fill_between(curve.coverage[steady], low[steady], high[steady], color=theme.accent, alpha=0.18, lw=0)
    axes.plot(curve.coverage[steady], curve.accuracy[steady], color=theme.accent, lw=2.2)
    marked = [metrics.answered(probabilities, labels, confidence) for confidence in metrics.CONFIDENCES]
    drawn = 2.0
    # From the right, where all are answered; thresholds that leave the same faces share one mark.
    for one in marked:
        if one.accuracy is None or one.n < min(30, len(labels)) or drawn - one.coverage < 0.04:
            continue
        drawn = one.coverage
        place = one.coverage, one.accuracy
        axes.plot(*place, "o", color=theme.accent, ms=7, mec=theme.paper, mew=1.5, zorder=5, clip_on=False)
        said = (
            f"{one.accuracy:.1%}"
            if one.min_confidence == 0
            else f"\N{GREATER-THAN OR EQUAL TO} {one.min_confidence:.1f}"
        )
        weight = "bold" if one.min_confidence == 0 else "normal"
        axes.annotate(said, place, (6, 5), textcoords="offset points", weight=weight, color=theme.ink)
    axes.set_xlim(0, 1)
    axes.set_ylim(top=min(1.0, axes.get_ylim()[1]) + 0.02)
    axes.xaxis.set_major_formatter(percent_tick)
    axes.yaxis.set_major_formatter(percent_tick)
    axes.set_xlabel("Coverage, most confident faces first")
    save(figure, path)


def probability_bars(
    probabilities: Mapping[str, float],
    path: Path,
    face: npt.NDArray[np.uint8] | None = None,
    *,
    theme: Theme = LIGHT,
) -> None:
    """One face's probabilities as bars, the likeliest on top, beside the face if it is given.

    probabilities: class -> fraction 0 to 1. face: uint8 (H, W), (H, W, 1) or RGB (H, W, 3).
    """
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    figure = new_figure(theme, width=WIDTH + (0 if face is None else 2.4), height=0.7 + 0.4 * len(ranked))
    if face is None:
        axes = figure.subplots()
    else:
        picture, axes = figure.subplots(1, 2, width_ratios=(1, 1.7))
        show_face(picture, face, theme)
    values = [value for _, value in ranked]
    axes.barh(range(len(ranked)), 1, height=0.66, color=theme.faint, alpha=0.5)  # what certainty would look like
    axes.barh(range(len(ranked)), values, height=0.66, color=[color_of(name) for name, _ in ranked])
    for row, value in enumerate(values):
        axes.annotate(
            f"{value:.1%}",
            (1, row),
            (46, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            weight="bold" if row == 0 else "normal",
            color=theme.ink,
        )
    axes.set_yticks(range(len(ranked)), [plain(name) for name, _ in ranked], color=theme.ink)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, path)


def _epoch_axis(axes: Axes, epochs: npt.NDArray[np.float64]) -> None:
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)


def _series(history: Sequence[Mapping[str, float]], name: str) -> npt.NDArray[np.float64]:
    """One figure by epoch; NaN, which plots as a gap, where an epoch lacks it."""
    return np.array([row.get(name, np.nan) for row in history], np.float64)


def _best_epoch(history: Sequence[Mapping[str, float]]) -> int | None:
    values = _series(history, "val_accuracy")
    return None if np.isnan(values).all() else int(np.nanargmax(values))
