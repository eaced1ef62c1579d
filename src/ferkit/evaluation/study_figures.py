"""Figures of a study: shares by condition with intervals, courses over time, transitions, and each person's shares."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ferkit.evaluation.figures import draw_shares, ink_on
from ferkit.evaluation.metrics import mean_interval
from ferkit.evaluation.study import SHARE, StudyComparison
from ferkit.labels import color_of
from ferkit.render import (
    AS_DRAWN,
    LIGHT,
    Look,
    Theme,
    check_plot,
    legend_style,
    new_figure,
    p_equals,
    percent_tick,
    plain,
    points,
    save,
    style_axes,
)

Chart = Literal["shares", "timeline", "transitions", "people"]
CHARTS: tuple[Chart, ...] = get_args(Chart)
_MARKERS = "oosDDs"  # the first of each kind is filled, the second hollow: conditions are told apart without colours
_MOST_PEOPLE = 60
_LONGEST = 26  # letters of a person's name
_WIDTH = 8.0

Rows = Sequence[Mapping[str, Any]]


class Study(Protocol):
    """What is drawn: `ferkit.batch.People`."""

    @property
    def rows(self) -> Rows: ...
    @property
    def changes(self) -> Rows: ...
    @property
    def courses(self) -> Rows: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def classes(self) -> Sequence[str]: ...


def plot_study(
    study: Study,
    chart: Chart,
    path: Path,
    *,
    column: str | None = None,
    comparison: StudyComparison | None = None,
    theme: Theme = LIGHT,
    look: Look = AS_DRAWN,
) -> None:
    """Draw a study.

    Args:
        study: People, as `ferkit.batch.find_people` finds them.
        chart: `shares` of each emotion with 95 % intervals over people; the `timeline` of mean probabilities, for which
            the study has courses; `transitions` from one emotion to another; or the shares of all `people`.
        path: .png, .svg or .pdf.
        column: Condition by which people are put together; None for all together.
        comparison: Its differences are written beside the shares, where two conditions are compared.
        theme: Colours.
        look: Size and size of text.
    """
    check_plot(path)
    levels = sorted({str(row[column]) for row in study.rows if row[column] is not None}) if column else [""]
    if not study.rows or not levels or (chart == "timeline" and not study.courses):
        figure = new_figure(theme, width=_WIDTH, height=2.2)
        figure.text(0.5, 0.5, "Nobody to draw.", ha="center", va="center", color=theme.muted, size=12)
    elif chart == "shares":
        figure = _shares(study, levels, column, comparison, theme)
    else:
        draw: Callable[[Study, Sequence[str], str | None, Theme], Figure]
        draw = {"timeline": _timeline, "transitions": _transitions, "people": _people}[chart]
        figure = draw(study, levels, column, theme)
    save(figure, path, look)


def _of(rows: Rows, column: str | None, level: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if column is None or str(row[column]) == level]


def _means(rows: Rows, measure: str) -> list[float]:
    """Of each person, who may have several rows."""
    people: dict[Any, list[float]] = {}
    for row in rows:
        people.setdefault(row["person"], []).append(float(row[measure]))
    return [float(np.mean(each)) for each in people.values()]


def _shares(
    study: Study, levels: Sequence[str], column: str | None, comparison: StudyComparison | None, theme: Theme
) -> Figure:
    shown = [label for label in study.labels if any(row[SHARE + label] > 0 for row in study.rows)]
    step = 0.62 / max(len(levels), 1)
    figure = new_figure(theme, width=_WIDTH, height=1.5 + (0.2 + 0.2 * len(levels)) * len(shown))
    axes = figure.subplots()
    style_axes(axes, theme, "Share of the time, mean of people with 95% interval")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.faint, lw=0.8)
    axes.spines["bottom"].set_visible(False)
    sizes = []
    for number, level in enumerate(levels):
        rows = _of(study.rows, column, level)
        sizes.append(len({row["person"] for row in rows}))
        for place, label in enumerate(shown):
            color, values = color_of(label), _means(rows, SHARE + label)
            y = place + (number - (len(levels) - 1) / 2) * step
            beneath = [y + 0.3 * step] * len(values)
            axes.plot(values, beneath, "o", ms=4, color=color, alpha=0.35, mew=0, zorder=1)
            if len(values) > 1:
                low, high = mean_interval(values)
                axes.plot([max(low, 0), min(high, 1)], [y, y], color=color, lw=2.4, solid_capstyle="round", zorder=2)
            axes.plot(np.mean(values), y, mec=color, mew=2, zorder=3, **_marker(number, color, theme))
    axes.set_yticks(range(len(shown)), [plain(label) for label in shown], color=theme.ink)
    axes.set_ylim(len(shown) - 0.45, -0.55)
    axes.set_xlim(left=-0.015)
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    tests = comparison.pairs[0].differences if comparison is not None and len(comparison.pairs) == 1 else ()
    told = {one.measure: f"{points(one.difference)} points, {p_equals(one.p_holm)}" for one in tests}
    if told:
        beside = axes.secondary_yaxis("right")
        beside.set_yticks(range(len(shown)), [told.get(SHARE + label, "") for label in shown])
        beside.tick_params(length=0, colors=theme.muted, labelsize=9.5)
        beside.spines[:].set_visible(False)
    if column is not None:
        handles = [
            Line2D(
                [],
                [],
                mec=theme.ink,
                mew=2,
                lw=0,
                label=f"{plain(level)} (n = {n})",
                **_marker(number, theme.ink, theme),
            )
            for number, (level, n) in enumerate(zip(levels, sizes, strict=True))
        ]
        note = (
            f"{comparison.pairs[0].conditions[1]} less {comparison.pairs[0].conditions[0]}; p by Holm"
            if told and comparison
            else ""
        )
        _legend(figure, handles, theme, note)
    return figure


def _marker(number: int, color: str, theme: Theme) -> dict[str, Any]:
    return {"marker": _MARKERS[number % len(_MARKERS)], "ms": 8, "mfc": theme.paper if number % 2 else color}


def _legend(figure: Figure, handles: Sequence[Line2D], theme: Theme, note: str = "") -> None:
    found = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        columnspacing=1.6,
        title=plain(note, 80) or None,
        title_fontsize=9,
        alignment="center",
        **legend_style(theme),
    )
    found.get_title().set_color(theme.muted)


def _panels(levels: Sequence[str], column: str | None, rows: Rows) -> list[str]:
    """A title for each condition."""
    if column is None:
        return [""]
    sizes = [len({row["person"] for row in _of(rows, column, level)}) for level in levels]
    return [f"{plain(level, 40)} (n = {n})" for level, n in zip(levels, sizes, strict=True)]


def _timeline(study: Study, levels: Sequence[str], column: str | None, theme: Theme) -> Figure:
    figure = new_figure(theme, width=_WIDTH, height=0.9 + 2.3 * len(levels))
    panels = figure.subplots(len(levels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    top = 0.1
    for axes, level, title in zip(panels, levels, _panels(levels, column, study.rows), strict=True):
        style_axes(axes, theme, title or "Mean probability")
        for name in study.classes:
            times, mean, low, high = _course(_of(study.courses, column, level), f"mean_{name}")
            axes.fill_between(times, low, high, color=color_of(name), alpha=0.18, lw=0)
            axes.plot(times, mean, color=color_of(name), lw=2)
            top = max(top, *np.where(np.isfinite(high), high, mean))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    panels[-1].set_ylim(0, min(1, 1.05 * top))
    panels[-1].set_xlabel("seconds")
    panels[-1].set_xlim(left=0)
    handles = [Line2D([], [], color=color_of(name), lw=3, label=plain(name)) for name in study.classes]
    _legend(figure, handles, theme, "mean probability over people, with 95% intervals")
    return figure


def _course(rows: Rows, measure: str) -> tuple[npt.NDArray[np.float64], ...]:
    """Times, means over people, and the ends of their intervals, NaN where there is one person."""
    at: dict[float, list[Mapping[str, Any]]] = {}
    for row in rows:
        at.setdefault(row["time_s"], []).append(row)
    found = []
    for time_s in sorted(at):
        values = _means(at[time_s], measure)
        low, high = mean_interval(values) if len(values) > 1 else (np.nan, np.nan)
        found.append((time_s, np.mean(values), low, high))
    times, mean, lows, highs = np.array(found, np.float64).reshape(-1, 4).T
    return times, mean, np.maximum(lows, 0), np.minimum(highs, 1)


def _transitions(study: Study, levels: Sequence[str], column: str | None, theme: Theme) -> Figure:
    seen = {row[end] for row in study.changes for end in ("from", "to")}
    labels = [label for label in study.labels if label in seen]
    side = 1.5 + 0.55 * max(len(labels), 2)
    columns = min(len(levels), 2)
    lines = -(-len(levels) // columns)
    figure = new_figure(theme, width=side * columns, height=(side + 0.3) * lines)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    words = "number of changes; the shade is their share of all changes from that expression"
    figure.supxlabel(words, size=9, color=theme.muted)
    for axes in panels[len(levels) :]:
        axes.set_axis_off()
    for axes, level, title in zip(panels, levels, _panels(levels, column, study.rows), strict=False):
        counts = np.zeros((len(labels), len(labels)))
        for row in _of(study.changes, column, level):
            counts[labels.index(row["from"]), labels.index(row["to"])] += row["n"]
        totals = counts.sum(axis=1, keepdims=True)
        rates = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
        np.fill_diagonal(rates, np.nan)
        axes.set_title(title or "Changes of expression", loc="left", size=11.5, weight="bold", color=theme.ink)
        draw_shares(axes, rates, theme)
        axes.set(aspect="equal", xlabel="to", ylabel="from" if axes.get_subplotspec().is_first_col() else "")
        _cells(axes, rates, [[f"{n:,.0f}" for n in row] for row in counts], theme)
        _name_cells(axes, [plain(label) for label in labels], [plain(label) for label in labels], theme)
    return figure


def _people(study: Study, levels: Sequence[str], column: str | None, theme: Theme) -> Figure:
    rows = [row for level in levels for row in _of(study.rows, column, level)][:_MOST_PEOPLE]
    labels = [label for label in study.labels if any(row[SHARE + label] > 0 for row in study.rows)]
    figure = new_figure(theme, width=_WIDTH, height=1.3 + 0.32 * len(rows))
    axes = figure.subplots()
    left_out = len(study.rows) - len(rows)
    more = f"; {left_out} more" if left_out else ""
    axes.set_title(f"Share of the time{more}", loc="left", size=11.5, weight="bold", color=theme.ink)
    rates = np.array([[row[SHARE + label] for label in labels] for row in rows])
    draw_shares(axes, rates, theme)
    _cells(axes, rates, [[f"{rate:.0%}" for rate in row] for row in rates], theme)
    _name_cells(axes, [plain(str(row["person"]), _LONGEST) for row in rows], [plain(label) for label in labels], theme)
    if column is not None:
        place = 0
        for level in levels:
            n = sum(str(row[column]) == level for row in rows)
            if n:
                style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "left"}
                axes.text(1.02, place + n / 2, plain(level), size=10.5, weight="bold", color=theme.ink, **style)
                place += n
                axes.axhline(place, color=theme.muted, lw=1.2 if place < len(rows) else 0)
    return figure


def _cells(axes: Axes, rates: npt.NDArray[np.float64], texts: Sequence[Sequence[str]], theme: Theme) -> None:
    for (row, place), rate in np.ndenumerate(rates):
        if np.isfinite(rate):
            style: dict[str, Any] = {"ha": "center", "va": "center", "size": 9.5, "in_layout": False}
            axes.text(place + 0.5, row + 0.5, texts[row][place], color=ink_on(float(rate), theme), **style)


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str], theme: Theme) -> None:
    turned = 90 if max(map(len, columns), default=0) > 9 else 0
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=turned, color=theme.ink)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, color=theme.ink)
    axes.tick_params(length=0, labelsize=9.5)
    axes.xaxis.label.set_color(theme.muted)
    axes.yaxis.label.set_color(theme.muted)
