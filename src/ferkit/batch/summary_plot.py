"""A summary as a plot: the share of each perceived emotion, in all pictures, by folder, or over time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ferkit.batch.summary import GROUPINGS, GroupSummary, LabelCount, Summary
from ferkit.labels import color_of
from ferkit.render import (
    AS_DRAWN,
    LIGHT,
    Look,
    Theme,
    check_plot,
    legend_style,
    new_figure,
    percent_tick,
    plain,
    save,
    style_axes,
)
from ferkit.results import UNCERTAIN

_GROUND = "neutral"  # at the bottom: what is not neutral rises from what is
_UNCERTAIN = "#D3D8E0"
_MOST_FOLDERS = 25
_LONGEST_NAME = 26  # letters of a folder's name
_WIDTH = 8.0


PALE = 30  # faces; shares of fewer are mostly chance
_MOST = {"day": 200, "month": 400}  # bars that can still be told apart
_LONGEST = {"day": 366, "month": 12_000}  # days of an axis on which one of them can still be seen
_ASTRAY = 0.002  # part of the faces at either end that may be left out where they would take half of the axis


@dataclass(frozen=True)
class Drawn:
    """Groups along time. spans: their first day, and the day after their last. notes: what was left out."""

    unit: str
    groups: Sequence[GroupSummary]
    spans: Sequence[tuple[date, date]]
    notes: Sequence[str]

    @property
    def between(self) -> str:
        first, last = self.groups[0].name, self.groups[-1].name
        return first if first == last else f"{first} to {last}"


def periods_of(groups: Sequence[GroupSummary], unit: str) -> Drawn:
    """Make of days or months what can be drawn. At least one group has a date."""
    dated = [group for group in groups if group.name]
    undated = sum(group.faces for group in groups if not group.name)
    kept = _without_strays(dated, unit)
    strays = sum(group.faces for group in dated) - sum(group.faces for group in kept)
    left_out = [f"{n:,} {where}" for n, where in ((undated, "without a date"), (strays, "before or after")) if n]
    notes = [f"faces not drawn: {' and '.join(left_out)}"] if left_out else []
    for coarser, letters in (("month", 7), ("year", 4)):
        if unit in _MOST and (len(kept) > _MOST[unit] or _days(kept) > _LONGEST[unit]):
            unit, kept = coarser, _merged(kept, letters)
    return Drawn(unit, kept, [_span(group.name) for group in kept], notes)


def _days(groups: Sequence[GroupSummary]) -> int:
    return (_span(groups[-1].name)[1] - _span(groups[0].name)[0]).days


def _without_strays(groups: Sequence[GroupSummary], unit: str) -> Sequence[GroupSummary]:
    days = [_span(group.name)[0].toordinal() for group in groups]
    total = sum(group.faces for group in groups)
    so_far = list(accumulate(group.faces for group in groups))
    first = next(place for place, n in enumerate(so_far) if n > _ASTRAY * total)
    last = next(place for place, n in enumerate(so_far) if n >= (1 - _ASTRAY) * total)
    return groups[first : last + 1] if days[last] - days[first] < (days[-1] - days[0]) / 2 else groups


def _merged(groups: Iterable[GroupSummary], letters: int) -> list[GroupSummary]:
    """Groups whose names begin alike as one."""
    together: dict[str, list[GroupSummary]] = {}
    for group in groups:
        together.setdefault(group.name[:letters], []).append(group)
    return [_sum(name, members) for name, members in together.items()]


def _sum(name: str, members: Sequence[GroupSummary]) -> GroupSummary:
    counts: dict[str, LabelCount] = {}
    for member in members:
        for label, count in member.labels.items():
            counts[label] = LabelCount(count.faces + (counts[label].faces if label in counts else 0), None)
    pictures, without_face, errors = (
        sum(getattr(member, field) for member in members) for field in ("pictures", "without_face", "errors")
    )
    return GroupSummary(name, pictures, without_face, errors, counts)


def _span(name: str) -> tuple[date, date]:
    """The first day of 2026, 2026-07 or 2026-07-31, and the day after its last."""
    year, month, day = (*map(int, name.split("-")), 0, 0)[:3]
    start = date(year, month or 1, day or 1)
    if day:
        end = start.toordinal() + 1
    elif month:
        end = date(year + month // 12, month % 12 + 1, 1).toordinal()
    else:
        end = date(year + 1, 1, 1).toordinal()
    return start, date.fromordinal(end)


def plot_summary(summary: Summary, path: Path, *, theme: Theme = LIGHT, look: Look = AS_DRAWN) -> None:
    """Draw the shares: bars of each emotion, of each folder, or along time, with the number of faces beside them.

    path: .png, .svg or .pdf. Of folders the 25 with most faces are drawn. Days that are too many are put together to
    months, and months to years. What stands on fewer than 30 faces is pale.
    """
    check_plot(path)
    groups = [group for group in summary.groups if group.faces]
    if not summary.total.faces or (summary.by != "label" and not any(group.name for group in groups)):
        figure = new_figure(theme, width=_WIDTH, height=2.2)
        words = "No faces to draw." if not summary.total.faces else "No image has a capture time."
        figure.text(0.5, 0.5, words, ha="center", va="center", color=theme.muted, size=12)
    elif summary.by == "label":
        figure = _labels(summary, theme)
    elif summary.by in GROUPINGS and GROUPINGS[summary.by].timed:
        figure = _time_line(summary, periods_of(groups, summary.by), theme)
    else:
        figure = _folders(summary, groups, theme)
    save(figure, path, look)


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
    style_axes(axes, theme, f"Perceived emotion by {plain(summary.by)}")
    places = np.arange(len(shown))[::-1].astype(float)
    starts = np.zeros(len(shown))
    order = _stacked(summary)
    for label in order:
        shares = np.array([group.share(label) or 0.0 for group in shown])
        bars = axes.barh(places, shares, left=starts, height=0.8, color=_color(label), ec=theme.paper, lw=0.5)
        for bar, group in zip(bars, shown, strict=True):
            bar.set_alpha(_alpha(group.faces))
        starts += shares
    axes.set_yticks(places, [plain(_end(group.name, _LONGEST_NAME), _LONGEST_NAME) for group in shown], color=theme.ink)
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
