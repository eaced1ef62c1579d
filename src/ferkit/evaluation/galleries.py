"""Two models on the same faces as plots: how far each class differs, and what each calls the faces on which they differ.

Galleries of faces as pictures: the mistakes a model was surest of, and the faces it hesitated over most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ferkit.data import FaceSet
from ferkit.evaluation import metrics
from ferkit.labels import color_of
from ferkit.models import Probabilities
from ferkit.render.style import LIGHT, Theme, legend_style, new_figure, plain, save, show_face, style_axes


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
    style_axes(axes, theme, "B less A, in points")
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
    axes.set_xlabel("\N{LEFTWARDS ARROW} A finds more    |    B finds more \N{RIGHTWARDS ARROW}")
    save(figure, path)


def clashes(rows: Sequence[tuple[str, str, int, int, int]], path: Path, *, theme: Theme = LIGHT) -> None:
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
    axes.set_ylabel("A says | B says", color=theme.muted)
    figure.legend(loc="outside lower center", ncols=3, **legend_style(theme))
    save(figure, path)


_COLUMNS = 6
# Classes whose colours make the strip, from the left; the caption; the line below it.
Words = tuple[Sequence[str], str, str]


def mistakes_gallery(
    faces: FaceSet, probabilities: Probabilities, path: Path, *, count: int = 24, theme: Theme = LIGHT
) -> None:
    """The mistakes a model was surest of: each face with its label, the prediction in its colour and the confidence."""

    def words(index: int) -> Words:
        true = faces.classes[int(faces.labels[index])]
        predicted = faces.classes[int(probabilities[index].argmax())]
        caption = f"{plain(true, 8)} \N{RIGHTWARDS ARROW} {plain(predicted, 8)}"
        return [predicted], caption, f"{probabilities[index].max():.0%} sure"

    wrong = metrics.confident_mistakes(probabilities, faces.labels, count)
    _gallery(faces, wrong, words, path, theme, "No mistakes.")


def doubtful_gallery(
    faces: FaceSet, probabilities: Probabilities, path: Path, *, count: int = 24, theme: Theme = LIGHT
) -> None:
    """The faces whose first and second answer were closest: both answers in their colours, and the label."""

    def words(index: int) -> Words:
        answers = [faces.classes[k] for k in np.argsort(-probabilities[index], kind="stable")[:2]]
        true = faces.classes[int(faces.labels[index])]
        return answers, " or ".join(plain(name, 8) for name in answers), f"label: {plain(true, 9)}"

    _gallery(faces, metrics.most_doubtful(probabilities, count), words, path, theme, "No faces.")


def suspects_gallery(
    faces: FaceSet,
    indices: npt.NDArray[np.int64],
    suggested: npt.NDArray[np.int64],
    probabilities: Probabilities,
    path: Path,
    *,
    theme: Theme = LIGHT,
) -> None:
    """Faces whose labels are in doubt: each with its label, the class suggested in its colour, and both probabilities."""
    by_face = dict(zip(indices.tolist(), suggested.tolist(), strict=True))

    def words(index: int) -> Words:
        given, other = int(faces.labels[index]), by_face[index]
        names = [faces.classes[one] for one in (given, other)]
        caption = f"{plain(names[0], 8)} \N{RIGHTWARDS ARROW} {plain(names[1], 8)}"
        return names[1:], caption, f"{probabilities[index, given]:.0%} and {probabilities[index, other]:.0%}"

    _gallery(faces, indices, words, path, theme, "No suspects.")


def _gallery(
    faces: FaceSet,
    indices: npt.NDArray[np.int64],
    words: Callable[[int], Words],
    path: Path,
    theme: Theme,
    nothing: str,
) -> None:
    rows = max(1, -(-len(indices) // _COLUMNS))
    figure = new_figure(theme, width=8.4, height=1.86 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, indices, strict=False):
        show_face(axes, faces.images[index], theme)
        answers, caption, below = words(int(index))
        # A strip of the answers' colours; the words stay in ink, which is readable on any paper.
        for place, answer in enumerate(answers):
            corner, width = (place / len(answers), -0.045), 1 / len(answers)
            strip = Rectangle(corner, width, 0.045, transform=axes.transAxes, color=color_of(answer), lw=0)
            strip.set_clip_on(False)
            axes.add_patch(strip)
        axes.text(0.5, -0.08, caption, transform=axes.transAxes, ha="center", va="top", size=9, color=theme.ink)
        axes.text(0.5, -0.23, below, transform=axes.transAxes, ha="center", va="top", size=8.5, color=theme.muted)
    if not len(indices):
        grid[0, 0].text(0, 0.5, nothing, color=theme.ink)
    save(figure, path)
