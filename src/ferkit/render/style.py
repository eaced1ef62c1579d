"""What all plots share: sizes, the two themes, axes without clutter, names that fit; and a gallery of faces."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from ferkit._support.files import write_encoded
from ferkit.errors import UsageError
from ferkit.labels import color_of
from ferkit.render.document import FaceTile

_DPI = 200  # sharp on a display with two pixels per point, at the widths below
_LONGEST = 14  # letters of a class name; the whole name stands in tables
WIDTH = 6.0  # inches; narrow, so that text stays readable when a phone shrinks the picture
# Fonts with letters that Matplotlib's own lacks, as systems come with them.
_FURTHER = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Nirmala UI", "Noto Sans Thai", "Leelawadee UI"),
    *("Noto Sans Ethiopic", "Arial Unicode MS"),
)


@dataclass(frozen=True)
class Theme:
    """Colours of everything that is not an emotion, as `#RRGGBB`."""

    paper: str
    ink: str
    muted: str
    faint: str
    accent: str


@dataclass(frozen=True)
class Look:
    """What users choose of a figure. size: width and height in inches. font_size: of an axis in points; titles follow."""

    size: tuple[float, float] | None = None
    font_size: float | None = None

    @classmethod
    def of(cls, size: str | None, font_size: float | None) -> "Look":
        """From words such as `7x4`, inches; `UsageError` for others."""
        if size is None:
            return cls(None, font_size)
        found = re.fullmatch(r"(\d+\.?\d*)x(\d+\.?\d*)", size)
        inches = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
        if not all(1 <= inch <= 60 for inch in inches):
            raise UsageError(f"A figure's size is width x height in inches, 1 to 60 each, as in 7x4. Received: {size}.")
        return cls(inches, font_size)


AS_DRAWN = Look()
_AXIS_SIZE = 10.5  # points of the text along an axis

LIGHT = Theme(paper="#FFFFFF", ink="#1B1F27", muted="#667085", faint="#E4E7EC", accent="#4A3AA7")
DARK = Theme(paper="#181B22", ink="#E9ECF2", muted="#9AA4B5", faint="#323845", accent="#A99BF5")


def new_figure(theme: Theme, *, width: float = WIDTH, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=theme.paper)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12, wspace=0, hspace=0)
    return figure


def legend_style(theme: Theme) -> dict[str, Any]:
    """Arguments of `Figure.legend` for a row of colours below a plot; its place and spacing are the plot's own."""
    return {"frameon": False, "labelcolor": theme.ink, "fontsize": 10, "handlelength": 1.0, "handleheight": 1.0}


def save(figure: Figure, path: Path, look: Look = AS_DRAWN) -> None:
    if look.size is not None:
        figure.set_size_inches(*look.size)
    if look.font_size is not None:
        for text in figure.findobj(Text):
            text.set_fontsize(float(text.get_fontsize()) * look.font_size / _AXIS_SIZE)
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            # Another size may have more ticks, which are made while it is drawn.
            if ticks := axis.get_major_ticks():
                axis.set_tick_params(labelsize=ticks[0].label1.get_fontsize())
    for text in figure.findobj(Text):
        text.set_fontfamily([*text.get_fontfamily(), *_further_fonts()])
    form = Path(path).suffix[1:] or None
    # Text stays text: searchable, and editable in what journals set their pages with.
    with _no_word_of_weights(), mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        write_encoded(path, lambda stream: figure.savefig(stream, format=form, facecolor=figure.get_facecolor()))


def style_axes(axes: Axes, theme: Theme, title: str) -> None:
    """Horizontal hair lines, no box, the quantity's name above its axis where it is read first."""
    axes.set_facecolor(theme.paper)
    axes.set_title(title, loc="left", size=11.5, weight="bold", color=theme.ink)
    axes.grid(axis="y", color=theme.faint, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=theme.faint)
    axes.tick_params(length=0, colors=theme.muted, labelsize=10.5)
    axes.xaxis.label.set_color(theme.muted)


def legend(axes: Axes, theme: Theme, place: Literal["upper left", "best"]) -> None:
    axes.legend(loc=place, frameon=False, labelcolor=theme.ink, fontsize=10.5)


def percent_tick(value: float, _: object = None) -> str:
    """As many digits as the ticks need: 60%, or 62.5% where the range is narrow."""
    return f"{100 * value:.3g}%"


def show_face(axes: Axes, face: npt.NDArray[np.uint8], theme: Theme) -> None:
    gray = face.ndim == 2 or face.shape[2] == 1
    axes.imshow(
        face.squeeze() if gray else face, cmap="gray" if gray else None, vmin=0, vmax=255, interpolation="bicubic"
    )
    axes.set_axis_off()


_GALLERY_COLUMNS = 6
_LONGEST_CAPTION = 22  # letters below a face


def draw_gallery(tiles: Sequence[FaceTile], path: Path, *, theme: Theme = LIGHT) -> None:
    """Draw the faces in rows of six; the suffix of the path chooses the format."""
    rows = max(1, -(-len(tiles) // _GALLERY_COLUMNS))
    figure = new_figure(theme, width=8.4, height=1.86 * rows)
    grid = figure.subplots(rows, _GALLERY_COLUMNS, squeeze=False)
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
        caption, below = (
            plain(tile.caption, _LONGEST_CAPTION),
            plain(tile.below[0] if tile.below else "", _LONGEST_CAPTION),
        )
        axes.text(0.5, -0.08, caption, transform=axes.transAxes, ha="center", va="top", size=9, color=theme.ink)
        axes.text(0.5, -0.23, below, transform=axes.transAxes, ha="center", va="top", size=8.5, color=theme.muted)
    if not tiles:
        grid[0, 0].text(0, 0.5, "None.", color=theme.ink)
    save(figure, path)


def plain(name: str, longest: int = _LONGEST) -> str:
    """A name from the data, short enough for an axis.

    Nothing in it is typeset as a formula; for each letter that no font here has stands a square.
    """
    short = name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    drawn = "".join(letter if is_drawable(letter) else "\N{WHITE SQUARE}" for letter in short)
    return drawn.replace("$", r"\$")


def is_drawable(name: str) -> bool:
    """Whether some font here has every letter."""
    return name.isascii() or {ord(letter) for letter in name} <= _letters(
        (*mpl.rcParams["font.family"], *_further_fonts())
    )


@cache
def _further_fonts() -> tuple[str, ...]:
    there = set(font_manager.get_font_names())
    return tuple(name for name in _FURTHER if name in there)


@cache
def _letters(families: tuple[str, ...]) -> frozenset[int]:
    found = (font_manager.findfont(font_manager.FontProperties(family=[family])) for family in families)
    with _no_word_of_weights():
        return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in found))


@contextmanager
def _no_word_of_weights() -> Iterator[None]:
    """Fonts for other scripts often come in one weight, of which Matplotlib would warn."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
