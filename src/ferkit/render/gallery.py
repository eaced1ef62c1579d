"""A gallery of faces as one picture, for slides and papers: each face over a strip of its answers' colours."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patches import Rectangle

from ferkit.labels import color_of
from ferkit.render.document import FaceTile
from ferkit.render.style import LIGHT, Theme, new_figure, plain, save, show_face

_COLUMNS = 6
_LONGEST = 22  # letters below a face


def draw_gallery(tiles: Sequence[FaceTile], path: Path, *, theme: Theme = LIGHT) -> None:
    """Draw the faces in rows of six; the suffix of the path chooses the format."""
    rows = max(1, -(-len(tiles) // _COLUMNS))
    figure = new_figure(theme, width=8.4, height=1.86 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, tile in zip(grid.flat, tiles, strict=False):
        show_face(axes, tile.face, theme)
        # A strip of the answers' colours; the words stay in ink, which is readable on any paper.
        for place, answer in enumerate(tile.answers):
            corner, width = (place / len(tile.answers), -0.045), 1 / len(tile.answers)
            strip = Rectangle(corner, width, 0.045, transform=axes.transAxes, color=color_of(answer), lw=0)
            strip.set_clip_on(False)
            axes.add_patch(strip)
        caption, below = plain(tile.caption, _LONGEST), plain(tile.below[0] if tile.below else "", _LONGEST)
        axes.text(0.5, -0.08, caption, transform=axes.transAxes, ha="center", va="top", size=9, color=theme.ink)
        axes.text(0.5, -0.23, below, transform=axes.transAxes, ha="center", va="top", size=8.5, color=theme.muted)
    if not tiles:
        grid[0, 0].text(0, 0.5, "None.", color=theme.ink)
    save(figure, path)
