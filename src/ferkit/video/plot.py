"""Plot a timeline: the probability of each expression over time per person, with thumbnails of the peaks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from ferkit.labels import color_of
from ferkit.render import LIGHT, Theme, legend_style, percent_tick, plain, save
from ferkit.video.peaks import Peak, Peaks
from ferkit.video.timeline import PersonTimeline, Timeline, clock

MOST_PEOPLE = 8
_BOTTOM_CLASS = "neutral"  # the class at the bottom of the stack
_MOST_PEAKS = 9

# Inches. Text on the left, the stacked area with thumbnails above it on the right.
_WIDTH, _LEFT, _RIGHT = 9.0, 2.2, 0.3
_TOP, _BOTTOM, _BLOCK = 0.66, 0.9, 1.56
_AREA, _LINES, _PICTURE = 0.78, 0.13, 0.5
_DPI = 200
# Seconds between two ticks of the time axis.
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600)


def plot_timeline(timeline: Timeline, path: Path, *, peaks: Peaks | None = None, theme: Theme = LIGHT) -> None:
    """Write a plot of a video: a stacked area of the smoothed probabilities for each person, longest seen first.

    Args:
        timeline: What was found in the video.
        path: The file: .png, .svg or .pdf.
        peaks: Thumbnails to draw above the moments that they show.
        theme: Colors.

    At most 8 people are drawn; a line says how many more there were.
    """
    people = sorted(timeline.by_presence[:MOST_PEOPLE], key=lambda person: person.track)
    height = _TOP + _BOTTOM + _BLOCK * max(len(people), 1)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor=theme.paper)
    _title(figure, timeline, theme)
    if not people:
        figure.text(0.5, 0.5, "No face was found.", ha="center", color=theme.muted, size=11)
    start, end = timeline.start_s, max(timeline.end_s, timeline.start_s + 1e-3)
    for place, person in enumerate(people):
        floor = height - _TOP - _BLOCK * (place + 1)
        axes = _axes(figure, _LEFT, floor, _WIDTH - _LEFT - _RIGHT, _AREA)
        _area(axes, person, timeline.classes, theme)
        axes.set_xlim(start, end)
        _time_axis(axes, start, end, theme, labels=place == len(people) - 1)
        _describe(figure, person, (floor + _AREA) / height, end, theme)
        _thumbnails(axes, floor, person, peaks.of(person.track) if peaks else [], (start, end))
    save(figure, path)


def _axes(figure: Figure, left: float, floor: float, width: float, height: float) -> Axes:
    whole = figure.get_size_inches()
    return figure.add_axes((left / whole[0], floor / whole[1], width / whole[0], height / whole[1]))


def _title(figure: Figure, timeline: Timeline, theme: Theme) -> None:
    height = figure.get_figheight()
    name = plain(Path(timeline.source).name or timeline.source, 60)
    title = f"{name}: perceived emotion over time"
    figure.text(0.3 / _WIDTH, 1 - 0.3 / height, title, size=13, weight="bold", color=theme.ink, va="center")
    left_out = len(timeline.people) - MOST_PEOPLE
    if left_out > 0:
        more = f"{left_out} more {'was' if left_out == 1 else 'were'} seen more briefly"
        figure.text(0.3 / _WIDTH, 1 - 0.55 / height, more, size=9, color=theme.muted, va="center")
    handles = [Patch(color=color_of(label), label=plain(label)) for label in _stacked(timeline.classes)]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.08 / height),
        ncols=min(len(handles), 8),
        columnspacing=1.6,
        **legend_style(theme),
    )


def _stacked(classes: Sequence[str]) -> list[str]:
    """Classes from the bottom up."""
    return sorted(classes, key=lambda label: label != _BOTTOM_CLASS)


def _area(axes: Axes, person: PersonTimeline, classes: Sequence[str], theme: Theme) -> None:
    axes.set_facecolor("none")
    order = [classes.index(label) for label in _stacked(classes)]
    colors = [color_of(classes[place]) for place in order]
    for times, values in person.history.runs():
        axes.stackplot(times, values[:, order].T, colors=colors, lw=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.spines[:].set_visible(False)
    # A line without an area: absent, not neutral.
    axes.axhline(0, color=theme.faint, lw=2, zorder=0)


def _describe(figure: Figure, person: PersonTimeline, top: float, end: float, theme: Theme) -> None:
    """Text about a person, beside the area."""
    row = 0.165 / figure.get_figheight()
    total = max(person.present_s, 1e-9)
    figure.text(0.3 / _WIDTH, top, f"Person {person.track}", size=11, weight="bold", color=theme.ink, va="top")
    seen = f"seen {clock(person.present_s, end)}"
    figure.text(0.3 / _WIDTH, top - 1.35 * row, seen, size=9, color=theme.muted, va="top")
    for place, (label, seconds) in enumerate(sorted(person.seconds.items(), key=lambda item: -item[1])[:3]):
        words = f"{seconds / total:.0%} {plain(label)}"
        line = top - (2.35 + place) * row
        figure.text(0.3 / _WIDTH, line, words, size=9, color=theme.ink, va="top")


def _thumbnails(
    axes: Axes, floor: float, person: PersonTimeline, peaks: Sequence[Peak], span: tuple[float, float]
) -> None:
    """Thumbnails above the moments that they show, framed in the color of the label."""
    figure, width = axes.get_figure(), _WIDTH - _LEFT - _RIGHT
    if not isinstance(figure, Figure):
        return
    most = sorted(peaks, key=lambda peak: -person.seconds.get(peak.label, 0.0))[:_MOST_PEAKS]
    shown = sorted(most, key=lambda peak: peak.time_s)
    moments = [(peak.time_s - span[0]) / (span[1] - span[0]) for peak in shown]
    middles = _apart([width * moment for moment in moments], width)
    for peak, moment, middle in zip(shown, moments, middles, strict=True):
        color = color_of(peak.label)
        above = _axes(figure, _LEFT + middle - _PICTURE / 2, floor + _AREA + _LINES, _PICTURE, _PICTURE)
        above.imshow(peak.picture, interpolation="bilinear", aspect="auto")
        above.set(xticks=[], yticks=[])
        above.spines[:].set(color=color, lw=2.2)
        line = Line2D([middle / width, moment], [1 + _LINES / _AREA, 1.01], transform=axes.transAxes, color=color)
        line.set(lw=1.6, clip_on=False)
        axes.add_line(line)
        thin = Rectangle((moment - 0.001, 0), 0.002, 1, transform=axes.transAxes, color="white", alpha=0.6, lw=0)
        axes.add_patch(thin)


def _apart(places: Sequence[float], width: float) -> list[float]:
    """Increasing positions in inches, moved as little as possible so that thumbnails do not overlap and fit the width."""
    step = _PICTURE + 0.07
    # Minus their spacing, positions must not decrease: isotonic regression by pooling adjacent violators (Ayer et al.
    # 1955).
    pools: list[tuple[float, int]] = []
    for number, place in enumerate(places):
        pools.append((place - number * step, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, few), (other, more) = pools.pop(), pools.pop()
            pools.append(((one * few + other * more) / (few + more), few + more))
    pooled = [mean for mean, count in pools for _ in range(count)]
    low, high = _PICTURE / 2, width - _PICTURE / 2 - (len(places) - 1) * step
    return [min(max(place, low), high) + number * step for number, place in enumerate(pooled)]


def _time_axis(axes: Axes, start: float, end: float, theme: Theme, *, labels: bool) -> None:
    step = next((step for step in _TICKS if (end - start) / step <= 8), 86_400)
    axes.set_xticks(np.arange(np.ceil(start / step - 1e-6) * step, end + 1e-6, step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value, end)))
    axes.tick_params(length=0, colors=theme.muted, labelsize=9, labelbottom=labels)
    axes.tick_params(axis="x", pad=7)
