"""Plots that compare: two models by class, what they predict differently, groups of people, accuracy under corruption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ferkit.errors import count
from ferkit.labels import color_of
from ferkit.render import (
    LIGHT,
    Theme,
    is_drawable,
    legend_style,
    new_figure,
    percent_tick,
    plain,
    save,
    style_axes,
)


@dataclass(frozen=True)
class Difference:
    """One row of `differences`: fractions, -1 to 1. sure: whether it is more than chance, which is drawn filled."""

    name: str
    n: int
    value: float
    low: float
    high: float
    sure: bool


def differences(rows: Sequence[Difference], path: Path, *, theme: Theme = LIGHT) -> None:
    """Differences with their intervals, a row each, about a line at zero; the first row is of all faces."""
    figure = new_figure(theme, height=1.2 + 0.42 * len(rows))
    axes = figure.subplots()
    style_axes(axes, theme, "B \N{MINUS SIGN} A, in percentage points")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.faint, lw=0.8)
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0, color=theme.muted, lw=1.4, zorder=1)
    for row, one in enumerate(rows):
        color = theme.ink if row == 0 else color_of(one.name)
        axes.plot([100 * one.low, 100 * one.high], [row, row], color=color, lw=2.6, solid_capstyle="round", zorder=2)
        fill = color if one.sure else theme.paper
        axes.plot(100 * one.value, row, "D" if row == 0 else "o", ms=8.5, mfc=fill, mec=color, mew=2, zorder=3)
    names = [f"{plain(one.name)}  ({one.n:,})" for one in rows]
    axes.set_yticks(range(len(rows)), names, color=theme.ink)
    axes.get_yticklabels()[0].set_fontweight("bold")
    if len(rows) > 1:
        axes.axhline(0.5, color=theme.faint, lw=0.8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    widest = max(1.0, *(100 * abs(end) for one in rows for end in (one.low, one.high)))
    axes.set_xlim(-1.06 * widest, 1.06 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+.0f}" if x else "0"))
    axes.set_xlabel("\N{LEFTWARDS ARROW} higher recall of A    |    higher recall of B \N{RIGHTWARDS ARROW}")
    save(figure, path)


def disagreements(rows: Sequence[tuple[str, str, int, int, int]], path: Path, *, theme: Theme = LIGHT) -> None:
    """Pairs of answers as bars: how many faces get them, and how many of these have the label of A, of B, of neither.

    rows: answer of A, answer of B, faces, right for A, right for B.
    """
    figure = new_figure(theme, height=1.3 + 0.36 * max(1, len(rows)))
    axes = figure.subplots()
    style_axes(axes, theme, "Faces")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    parts = {
        "A is right": ([one[3] for one in rows], theme.accent),
        "B is right": ([one[4] for one in rows], "#E69F00"),
        "neither": ([one[2] - one[3] - one[4] for one in rows], theme.faint),
    }
    left = np.zeros(len(rows))
    for name, (counts, color) in parts.items():
        axes.barh(range(len(rows)), counts, left=left, height=0.68, color=color, ec=theme.paper, lw=1, label=name)
        left += counts
    for row, one in enumerate(rows):
        axes.annotate(
            f"{one[2]:,}", (one[2], row), (6, 0), textcoords="offset points", va="center_baseline", color=theme.ink
        )
    names = [f"{plain(one[0])} | {plain(one[1])}" for one in rows]
    axes.set_yticks(range(len(rows)), names, color=theme.ink)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_xlim(0, 1.1 * max([1, *(one[2] for one in rows)]))
    axes.set_xticks([])
    axes.set_ylabel("A predicts | B predicts", color=theme.muted)
    figure.legend(loc="outside lower center", ncols=3, **legend_style(theme))
    save(figure, path)


_COLUMNS = 2
# Of several models: colours that differ in lightness too, and lines that differ without colour.
_DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))


@dataclass(frozen=True)
class GroupRow:
    """One row of `groups`. Fractions, 0 to 1; same_mix is None where it could not be computed."""

    name: str
    n: int
    accuracy: float
    low: float
    high: float
    same_mix: float | None
    confidence: float
    small: bool


@dataclass(frozen=True)
class Panel:
    """One corruption. ticks: names of its strengths, the clean face among them, as are the values of each line.

    lines: by model, (accuracy, low, high, mean confidence), each of as many fractions as there are ticks.
    """

    title: str
    unit: str
    ticks: Sequence[str]
    lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]]


def groups(rows: Sequence[GroupRow], overall: float, path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy of groups with 95 % intervals, a row each, about that of all; what it is at the same mix, and confidence.

    overall: accuracy on all faces. Small groups are drawn faint. A name in letters that no font here has is `row 3`
    instead.
    """
    figure = new_figure(theme, height=1.75 + 0.46 * len(rows))
    axes = figure.subplots()
    style_axes(axes, theme, "Accuracy by group")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.faint, lw=0.8)
    axes.axvline(overall, color=theme.muted, lw=1.2, ls=(0, (4, 3)), zorder=1)
    for row, one in enumerate(rows):
        color, alpha = (theme.muted, 0.55) if one.small else (theme.accent, 1.0)
        axes.plot([one.low, one.high], [row, row], color=color, alpha=alpha, lw=2.6, solid_capstyle="round", zorder=2)
        axes.plot(one.accuracy, row, "o", color=color, alpha=alpha, ms=9, mec=theme.paper, mew=1.2, zorder=4)
        axes.plot([one.confidence] * 2, [row - 0.24, row + 0.24], color=theme.ink, alpha=alpha, lw=2, zorder=3)
        if one.same_mix is not None:
            axes.plot(one.same_mix, row, "D", mfc="none", mec=theme.ink, mew=1.6, ms=8.5, zorder=5)
    names = [
        f"{plain(one.name) if is_drawable(one.name) else f'row {place}'}\n{count(one.n, 'face')}{': too few' * one.small}"
        for place, one in enumerate(rows, 1)
    ]
    axes.set_yticks(range(len(rows)), names, color=theme.ink)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(percent_tick)
    handles = [
        Line2D([], [], color=theme.accent, marker="o", ms=8, lw=2.6, label="accuracy, 95% interval"),
        Line2D([], [], color=theme.ink, marker="D", mfc="none", mew=1.6, ms=7.5, lw=0, label="at the same mix"),
        Line2D([], [], color=theme.ink, marker="|", ms=11, mew=2, lw=0, label="stated confidence"),
        Line2D([], [], color=theme.muted, lw=1.2, ls=(0, (4, 3)), label="all faces"),
    ]
    style = legend_style(theme) | {"handlelength": 1.8}
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.6, **style)
    save(figure, path)


def corruptions(panels: Sequence[Panel], path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy against the strength of each corruption, a small plot each, with 95 % intervals.

    Of one model its mean confidence is drawn too: where it stays above the accuracy, the model is overconfident.
    """
    lines = -(-len(panels) // _COLUMNS)
    figure = new_figure(theme, height=0.7 + 1.85 * lines)
    grid = figure.subplots(lines, _COLUMNS, sharey=True, squeeze=False)
    colors = (theme.accent, theme.ink, theme.muted, theme.muted)
    models = list(panels[0].lines)
    for axes, panel in zip(grid.flat, panels, strict=False):
        style_axes(axes, theme, panel.title)
        places = np.arange(len(panel.ticks))
        for number, (accuracy, low, high, confidence) in enumerate(panel.lines.values()):
            color, dash = colors[number % len(colors)], _DASHES[number % len(_DASHES)]
            if len(models) == 1:
                axes.fill_between(places, low, high, color=color, alpha=0.18, lw=0)
                axes.plot(places, confidence, color=theme.ink, lw=1.4, ls=(0, (4, 2)))
            axes.plot(places, accuracy, color=color, lw=2.2, ls=dash, marker="o", ms=4.5, mec=theme.paper, mew=0.8)
        axes.set_xticks(places, panel.ticks)
        axes.tick_params(labelsize=9.5)
        axes.set_xlim(-0.45, len(places) - 0.7)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(percent_tick)
        axes.set_xlabel(panel.unit, fontsize=9.5)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    names = ["accuracy, 95% interval", "stated confidence"] if len(models) == 1 else [plain(one, 30) for one in models]
    styles = (
        [(theme.accent, "solid"), (theme.ink, (0, (4, 2)))]
        if len(models) == 1
        else [*zip(colors, _DASHES, strict=True)]
    )
    handles = [
        Line2D([], [], color=color, ls=dash, lw=2.2, label=name)
        for name, (color, dash) in zip(names, styles, strict=False)
    ]
    style = legend_style(theme) | {"handlelength": 2.4}
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), **style)
    save(figure, path)
