"""Galleries of faces as pictures: the mistakes a model was surest of, and the faces it hesitated over most."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle

from ferkit import metrics
from ferkit.datasets.records import FaceSet
from ferkit.palette import color_of
from ferkit.plots.style import LIGHT, Theme, new_figure, plain, save, show_face

_COLUMNS = 6
# Classes whose colours make the strip, from the left; the caption; the line below it.
Words = tuple[Sequence[str], str, str]


def mistakes_gallery(
    faces: FaceSet, probabilities: metrics.Probabilities, path: Path, *, count: int = 24, theme: Theme = LIGHT
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
    faces: FaceSet, probabilities: metrics.Probabilities, path: Path, *, count: int = 24, theme: Theme = LIGHT
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
    probabilities: metrics.Probabilities,
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
