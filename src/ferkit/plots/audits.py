"""Groups side by side, and accuracy as pictures get worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from ferkit.plots.style import LIGHT, Theme, is_drawable, legend_style, new_figure, percent, plain, save, style_axes
from ferkit.wording import count

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
    """One degradation. ticks: names of its strengths, the clean face among them, as are the values of each line.

    lines: by model, (accuracy, low, high, mean confidence), each of as many fractions as there are ticks.
    """

    title: str
    unit: str
    ticks: Sequence[str]
    lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]]


def groups(rows: Sequence[GroupRow], overall: float, path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy of groups with 95 % intervals, a row each, about that of all; what it is at the same mix, and confidence.

    overall: accuracy on all faces. Small groups are drawn faint. A name in letters that no font here has is `row 3` instead.
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
    axes.xaxis.set_major_formatter(percent)
    handles = [
        Line2D([], [], color=theme.accent, marker="o", ms=8, lw=2.6, label="accuracy, 95% interval"),
        Line2D([], [], color=theme.ink, marker="D", mfc="none", mew=1.6, ms=7.5, lw=0, label="at the same mix"),
        Line2D([], [], color=theme.ink, marker="|", ms=11, mew=2, lw=0, label="stated confidence"),
        Line2D([], [], color=theme.muted, lw=1.2, ls=(0, (4, 3)), label="all faces"),
    ]
    style = legend_style(theme) | {"handlelength": 1.8}
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.6, **style)
    save(figure, path)


def degradations(panels: Sequence[Panel], path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy against the strength of each degradation, a small plot each, with 95 % intervals.

    Of one model its mean confidence is drawn too: where it stays above the accuracy, the model does not notice.
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
        axes.yaxis.set_major_formatter(percent)
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
