"""A summary as a plot: the share of each perceived emotion, in all pictures, by folder, or over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ferkit.batch.summary import GROUPINGS, PALE, Drawn, GroupSummary, Summary, periods_of
from ferkit.errors import UsageError
from ferkit.labels import color_of
from ferkit.render import LIGHT, Theme, legend_style, new_figure, percent_tick, plain, save, style_axes
from ferkit.results import UNCERTAIN

_FORMATS = (".png", ".svg", ".pdf")
_GROUND = "neutral"  # at the bottom: what is not neutral rises from what is
_UNCERTAIN = "#D3D8E0"
_MOST_FOLDERS = 25
_LONGEST = 26  # letters of a folder's name
_WIDTH = 8.0


def check_target(path: Path) -> None:
    """Raise `UsageError` for a file that no plot can be written to."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"Plots cannot be written as {path}. Expected a name that ends in {', '.join(_FORMATS)}.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Expected a file to write.")


def plot_summary(summary: Summary, path: Path, *, theme: Theme = LIGHT) -> None:
    """Draw the shares: bars of each emotion, of each folder, or along time, with the number of faces beside them.

    path: .png, .svg or .pdf. Of folders the 25 with most faces are drawn. Days that are too many are put together to
    months, and months to years. What stands on fewer than 30 faces is pale.
    """
    check_target(path)
    groups = [group for group in summary.groups if group.faces]
    if not summary.total.faces or (summary.by != "label" and not any(group.name for group in groups)):
        figure = new_figure(theme, width=_WIDTH, height=2.2)
        words = "No faces to draw." if not summary.total.faces else "No picture says when it was taken."
        figure.text(0.5, 0.5, words, ha="center", va="center", color=theme.muted, size=12)
    elif summary.by == "label":
        figure = _labels(summary, theme)
    elif GROUPINGS[summary.by].timed:
        figure = _time_line(summary, periods_of(groups, summary.by), theme)
    else:
        figure = _folders(summary, groups, theme)
    save(figure, path)


def _labels(summary: Summary, theme: Theme) -> Figure:
    total = summary.total
    ranked = sorted(total.labels.items(), key=lambda item: item[1].faces)
    figure = new_figure(theme, width=_WIDTH, height=1.1 + 0.42 * len(ranked))
    axes = figure.subplots()
    style_axes(axes, theme, f"Perceived emotion of {_faces(total.faces)}")
    shares = [count.faces / total.faces for _, count in ranked]
    bars = axes.barh(range(len(ranked)), shares, height=0.72, color=[_color(label) for label, _ in ranked])
    texts = [f"{share:.0%}  ({count.faces:,})" for share, (_, count) in zip(shares, ranked, strict=True)]
    axes.bar_label(bars, texts, padding=5, color=theme.ink, size=10.5)
    axes.set_yticks(range(len(ranked)), [plain(label) for label, _ in ranked], color=theme.ink)
    axes.set_xlim(0, max(shares) * 1.22)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    return figure


def _folders(summary: Summary, groups: Sequence[GroupSummary], theme: Theme) -> Figure:
    shown = groups[:_MOST_FOLDERS]
    left_out = len(groups) - len(shown) + summary.groups_left_out
    figure = new_figure(theme, width=_WIDTH, height=1.75 + 0.34 * len(shown))
    axes = figure.subplots()
    style_axes(axes, theme, "Perceived emotion by folder")
    places = np.arange(len(shown))[::-1].astype(float)
    starts = np.zeros(len(shown))
    order = _stacked(summary)
    for label in order:
        shares = np.array([group.share(label) or 0.0 for group in shown])
        bars = axes.barh(places, shares, left=starts, height=0.8, color=_color(label), ec=theme.paper, lw=0.5)
        for bar, group in zip(bars, shown, strict=True):
            bar.set_alpha(_alpha(group.faces))
        starts += shares
    axes.set_yticks(places, [plain(_end(group.name, _LONGEST), _LONGEST) for group in shown], color=theme.ink)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(places, [f"{group.faces:,}" for group in shown])
    beside.tick_params(length=0, colors=theme.muted, labelsize=10)
    beside.spines[:].set_visible(False)
    top, color = len(shown) - 0.25, theme.muted
    axes.text(1.012, top, "faces", transform=axes.get_yaxis_transform(), va="center", size=10, color=color)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    notes = [f"below {plain(_end(summary.root, 50), 50)}"] if summary.root else []
    notes += [f"{left_out:,} more with fewer faces"] if left_out > 0 else []
    _legend(figure, order, [*notes, *_pale(shown)], theme)
    return figure


def _time_line(summary: Summary, drawn: Drawn, theme: Theme) -> Figure:
    figure = new_figure(theme, width=_WIDTH, height=5.0)
    shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.3))
    style_axes(shares, theme, f"Perceived emotion by {drawn.unit}")
    shares.set_title(drawn.between, loc="right", size=10, color=theme.muted)
    starts = np.array([date2num(start) for start, _ in drawn.spans])  # type: ignore[no-untyped-call]
    widths = np.array([date2num(end) for _, end in drawn.spans]) - starts  # type: ignore[no-untyped-call]
    floor = np.zeros(len(starts))
    order = _stacked(summary)
    # Hair lines between bars where there is room for them.
    line = 0.4 if len(starts) <= 60 else 0
    for label in order:
        parts = np.array([group.share(label) or 0.0 for group in drawn.groups])
        bars = shares.bar(
            starts, parts, widths, bottom=floor, align="edge", color=_color(label), ec=theme.paper, lw=line
        )
        for bar, group in zip(bars, drawn.groups, strict=True):
            bar.set_alpha(_alpha(group.faces))
        floor += parts
    shares.set_ylim(0, 1)
    shares.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    shares.grid(visible=False)
    style_axes(counts, theme, "Faces")
    numbers = [group.faces for group in drawn.groups]
    counts.bar(starts, numbers, widths, align="edge", color=theme.muted, ec=theme.paper, lw=line)
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value else ""))
    counts.set_ylim(bottom=0)
    _dates(counts, starts[0], starts[-1] + widths[-1])
    _legend(figure, order, [*drawn.notes, *_pale(drawn.groups)], theme)
    return figure


def _dates(axes: Axes, low: float, high: float) -> None:
    axes.set_xlim(low, high)
    axes.tick_params(axis="x", pad=6)
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]


def _legend(figure: Figure, order: Sequence[str], notes: Sequence[str], theme: Theme) -> None:
    handles = [Patch(color=_color(label), label=plain(label)) for label in order]
    found = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        columnspacing=1.4,
        title="; ".join(notes) or None,
        title_fontsize=9,
        alignment="center",
        **legend_style(theme),
    )
    found.get_title().set_color(theme.muted)


def _stacked(summary: Summary) -> list[str]:
    """Labels that occur, from the bottom up; what is uncertain on top of all."""
    return sorted(summary.total.labels, key=lambda label: (label == UNCERTAIN, label != _GROUND))


def _color(label: str) -> str:
    return _UNCERTAIN if label == UNCERTAIN else color_of(label)


def _alpha(faces: int) -> float:
    return 1.0 if faces >= PALE else 0.45


def _pale(groups: Sequence[GroupSummary]) -> list[str]:
    return [f"pale: fewer than {PALE} faces"] if any(0 < group.faces < PALE for group in groups) else []


def _end(name: str, longest: int) -> str:
    """The end of a long path says more than its beginning."""
    return name if len(name) <= longest else "\N{HORIZONTAL ELLIPSIS}" + name[-(longest - 1) :]


def _faces(n: int) -> str:
    return f"{n:,} face{'' if n == 1 else 's'}"
