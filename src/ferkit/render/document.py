"""A report as data: sections of text, metrics, tables, figures and faces that know nothing of how they are shown.

A feature builds one `Document`. `render.terminal` prints it, `render.page` writes it as one HTML page,
`render.markdown` as Markdown, and `to_json` gives its numbers. Text is plain text everywhere: each renderer escapes
what its format needs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ferkit._support.registry import Listed

if TYPE_CHECKING:  # Matplotlib, which a table need not wait for
    from ferkit.render.style import Theme


class Code(str):
    """Words in fixed-width type: a command, a file name, a value."""

    __slots__ = ()


class ClassName(str):
    """The name of a class; a page puts a dot of the class's colour before it."""

    __slots__ = ()


class Source(str):
    """The name of a picture: a page shows the end of a long one, apart from the direction in which its letters run."""

    __slots__ = ()


# Plain text, `Code`, `ClassName` or `Source`; or several of them, one after the other.
Inline = str | tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A paragraph. quiet: a remark below what it is about. quote: words that others are to use as they are.

    detail: explains what regular readers know; left out on a terminal.
    """

    content: Inline
    quiet: bool = False
    quote: bool = False
    detail: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    content: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[Inline, ...]


@dataclass(frozen=True)
class CodeBlock:
    """Lines of code. language: as Markdown names it."""

    content: str
    language: str = ""


@dataclass(frozen=True)
class Metric:
    """One number that sums up much, such as an accuracy. about: a sentence on what it means."""

    name: str
    value: str
    about: str = ""


@dataclass(frozen=True)
class Metrics:
    """The numbers that a reader looks for first."""

    items: tuple[Metric, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table. left: its cells are words and stand at the left, not numbers at the right.

    most: as wide as it may be on a terminal, in letters, where it holds words.
    """

    name: str
    left: bool = False
    most: int | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of a table with more than its text.

    note: small print below it. bar: a share, 0 to 1, and the class in whose colour it is drawn. face: uint8 (H, W, 3),
    which a page shows before the text.
    """

    text: Inline
    note: str = ""
    strong: bool = False
    bar: tuple[float, str] | None = None
    face: npt.NDArray[np.uint8] | None = field(default=None, compare=False)


Row = tuple[str | Cell, ...]


@dataclass(frozen=True)
class DataTable:
    """Rows of cells. The first column names the row and is at the left; other columns given by a string hold numbers.

    columns: empty for a table without a head. folded: the line under which a page hides the table until it is opened.
    detail: left out on a terminal.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """

    columns: tuple[str | Column, ...]
    rows: tuple[Row, ...]
    folded: str = ""
    detail: bool = False

    def __post_init__(self) -> None:
        wanted = len(self.columns) or (len(self.rows[0]) if self.rows else 0)
        if odd := [row for row in self.rows if len(row) != wanted]:
            raise ValueError(f"Every row needs {wanted} cells. Received: {len(odd[0])} cells, {odd[0]!r}.")

    def is_left(self, index: int) -> bool:
        """Whether a column holds words."""
        column = self.columns[index] if self.columns else ""
        return index == 0 or not self.columns or (isinstance(column, Column) and column.left)

    @property
    def heads(self) -> list[str]:
        """Names of the columns."""
        return [column.name if isinstance(column, Column) else column for column in self.columns]


@dataclass(frozen=True)
class Figure:
    """A plot. name: its file without suffix. draw: draws it into a file, in a theme. alt: what it shows, in words."""

    name: str
    draw: "Callable[[Path, Theme], None]"
    alt: str


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture, uint8 (H, W, 3). alt: what it shows, in words."""

    pixels: npt.NDArray[np.uint8]
    alt: str


@dataclass(frozen=True, eq=False)
class FaceTile:
    """A face over a strip in the colours of `answers`, with a caption and smaller lines below it.

    face: uint8 (H, W, 1 or 3). alt: the same in words.
    """

    face: npt.NDArray[np.uint8]
    answers: tuple[str, ...]
    caption: str
    below: tuple[str, ...]
    alt: str


@dataclass(frozen=True)
class FaceGallery:
    """A gallery of faces. name: of the picture beside the page that shows the first `in_picture` of them; empty for none."""

    tiles: tuple[FaceTile, ...]
    name: str = ""
    in_picture: int = 24


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where there is room: a plot and its table. even: both sides are equally wide."""

    left: "tuple[Block, ...]"
    right: "tuple[Block, ...]"
    even: bool = False


Block = Text | Heading | Bullets | CodeBlock | Metrics | DataTable | Figure | Photo | FaceGallery | Beside


@dataclass(frozen=True)
class Section:
    """A titled part of a report. wide: takes the whole width of a page. notice: what nobody should overlook.

    key, data: what it adds to the JSON document; an empty key adds nothing.
    """

    title: str
    blocks: tuple[Block, ...]
    wide: bool = False
    notice: bool = False
    key: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A whole report. about: what it is about, in a line. data: its own entries of the JSON document.

    A list that needs no heading has an empty title, on a terminal only.
    """

    title: str
    about: Inline
    sections: tuple[Section, ...]
    data: Mapping[str, Any] = field(default_factory=dict)


def list_document(groups: Mapping[str, Sequence[Listed]]) -> Document:
    """Lists of choices under their titles: the name of each, what it is, and below that its facts."""
    columns = (Column("", left=True, most=24), Column("", left=True))
    return Document(
        "",
        "",
        tuple(
            Section(title, (DataTable(columns, tuple((Cell(one.name, strong=True), _facts(one)) for one in listed)),))
            for title, listed in groups.items()
        ),
    )


def _facts(one: Listed) -> Cell:
    return Cell(one.about, note="\n".join(one.facts))


def to_json(document: Document) -> dict[str, Any]:
    """The numbers of a report as one JSON document: its own entries, then those of its sections by their keys."""
    return {**document.data, **{one.key: one.data for one in document.sections if one.key}}


def flat(blocks: tuple[Block, ...]) -> Iterator[Block]:
    """The blocks one below the other, for formats that put nothing side by side."""
    for block in blocks:
        if isinstance(block, Beside):
            yield from flat(block.left)
            yield from flat(block.right)
        else:
            yield block


def plain_text(content: Inline) -> str:
    """The words alone."""
    return content if isinstance(content, str) else "".join(content)
