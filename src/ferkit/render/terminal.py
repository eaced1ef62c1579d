"""A report on a terminal: its texts, metrics and tables; and faces as the rows of one table while they are found.

Plots and pictures are for pages.

Lines are as wide as the terminal where words can be wrapped. A number is never cut: a table that is too wide runs over.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import singledispatch
from itertools import zip_longest

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text as Line

from ferkit.labels import color_of
from ferkit.render.document import (
    Block,
    Bullets,
    Cell,
    ClassName,
    CodeBlock,
    Column,
    DataTable,
    Document,
    Heading,
    Inline,
    Metrics,
    Row,
    Text,
    flat,
    plain_text,
)
from ferkit.results import PictureResult
from ferkit.sources import printable_name

_NARROWEST = 24  # columns of words are not wrapped below this
_BAR = 24  # letters of a full bar
_FACE_BAR = 12
_GAP = "  "
_EIGHTHS = " ▏▎▍▌▋▊▉"
# Where the encoding has no such letters.
_ASCII = str.maketrans(
    {"\N{FULL BLOCK}": "#", "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-", **dict.fromkeys(_EIGHTHS[1:], "")}
)


class Terminal:
    """A document as Rich prints it. Print it with `soft_wrap=True`, or tables wider than the terminal are cut."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return (_drawn(line, options.encoding) for line in _lines(self.document, options.max_width))


class Printed(ABC):
    """A result that prints as its document, as text and on a terminal."""

    @abstractmethod
    def document(self) -> Document:
        """The result as sections."""

    def __str__(self) -> str:
        return to_text(self.document())

    def __rich__(self) -> Terminal:
        return Terminal(self.document())


class FaceTable:
    """Prints the faces of one picture after another as the rows of one table, before the others are known.

    Args:
        console: Where to print.
        sources: All pictures to come: the width of a column follows from their names.
        classes: Those of the model.
        top: Only that many classes of each face.
    """

    def __init__(self, console: Console, sources: Sequence[object], classes: Sequence[str], top: int | None) -> None:
        self._console, self._top = console, top
        names = max(map(cell_len, classes))
        # Label and confidence, then of each class its name, its probability as a number, and as a bar.
        self._widths = [0, 4, max(names, len("uncertain")), len("confidence"), max(names, len("probabilities")), 6, 0]
        longest = max([len("source"), *(cell_len(printable_name(source)) for source in sources)])
        # A person sees the end of a long path; a pipe gets all of it.
        free = console.width - sum(self._widths) - _FACE_BAR - len(_GAP) * (len(self._widths) - 1)
        self._cut = console.is_terminal
        self._widths[0] = min(longest, max(16, free)) if self._cut else longest
        left = (
            Column("emotion", left=True),
            "confidence",
            Column("probabilities", left=True),
            "",
            Column("", left=True),
        )
        self._table = DataTable(("source", "face", *left), ())
        self._begun = False

    def __call__(self, result: PictureResult) -> None:
        """Print the rows of a picture; nothing for one that could not be read."""
        if result.error is not None:
            return
        if not self._begun:
            self._print(self._table.heads)
            self._begun = True
        source = self._shortened(printable_name(result.source))
        if not result.faces:
            self._print((source, "-", "no face", "", "", "", ""))
        for number, face in enumerate(result, start=1):
            head = (source if number == 1 else "", str(number), face.label, f"{face.confidence:.1%}")
            for name, p in face.top(self._top):
                self._print((*head, name, f"{p:.1%}", Cell("", bar=(p, name))))
                head = ("", "", "", "")

    def _print(self, row: Row | Sequence[str]) -> None:
        cells = [_cell(cell, _FACE_BAR)[0] for cell in row]
        self._console.print(_drawn(_joined(cells, self._widths, self._table), self._console.encoding), soft_wrap=True)

    def _shortened(self, source: str) -> str:
        width = self._widths[0]
        if not self._cut or cell_len(source) <= width:
            return source
        return "\N{HORIZONTAL ELLIPSIS}" + chop_cells(source[::-1], width - 1)[0][::-1]


def to_text(document: Document, width: int = 100) -> str:
    """The same as plain text, for `str` and logs."""
    return "\n".join(line.plain.rstrip() for line in _lines(document, width))


def _lines(document: Document, width: int) -> Iterator[Line]:
    if document.title:
        about = plain_text(document.about)
        yield from _wrapped(f"{document.title}: {about}" if about else document.title, width, "bold")
    begun = bool(document.title)
    for section in document.sections:
        shown = [(block, lines) for block in flat(section.blocks) if (lines := list(_shown(block, width)))]
        if not shown:
            continue
        if begun:
            yield Line("")
        begun = True
        if section.title:
            yield Line(section.title, "bold")
        above: Block | None = None
        for block, lines in shown:
            if above is not None and not isinstance(above, Heading):
                yield Line("")
            yield from lines
            above = block


def _wrapped(content: Inline, width: int, style: str = "") -> Iterator[Line]:
    yield from Line(plain_text(content), style).wrap(_CONSOLE, max(width, _NARROWEST))


# Wrapping asks a console for nothing but the width of letters.
_CONSOLE = Console(file=io.StringIO())


@singledispatch
def _shown(block: Block, width: int) -> Iterator[Line]:
    """The lines of a block; none of a block that a terminal cannot show."""
    yield from ()


@_shown.register
def _text(block: Text, width: int) -> Iterator[Line]:
    if not block.detail:
        yield from _wrapped(block.content, width, "dim" if block.quiet else "")


@_shown.register
def _heading(block: Heading, width: int) -> Iterator[Line]:
    yield from _wrapped(block.content, width, "bold")


@_shown.register
def _bullets(block: Bullets, width: int) -> Iterator[Line]:
    for item in block.items:
        first, *rest = _wrapped(item, width - 2)
        yield Line("- ").append(first)
        yield from (Line("  ").append(line) for line in rest)


@_shown.register
def _code_block(block: CodeBlock, _: int) -> Iterator[Line]:
    yield from (Line(f"    {line}") for line in block.content.splitlines())


@_shown.register
def _metrics(block: Metrics, width: int) -> Iterator[Line]:
    rows = tuple((one.name, Cell(one.value, strong=True), one.about) for one in block.items)
    return _rows(DataTable(("", "", Column("", left=True)), rows), width)


@_shown.register
def _table(block: DataTable, width: int) -> Iterator[Line]:
    if block.detail:
        return
    if any(block.heads):
        widths = _widths(block, width)
        yield _joined([Line(name, "dim") for name in block.heads], widths, block)
        yield Line("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (sum(widths) + len(_GAP) * (len(widths) - 1)), "dim")
    yield from _rows(block, width)


def _rows(table: DataTable, width: int) -> Iterator[Line]:
    """A line for each row, more where cells have notes or words had to be wrapped."""
    widths = _widths(table, width)
    for row in table.rows:
        cells = [
            [part for line in _cell(cell) for part in (line.wrap(_CONSOLE, wide) if table.is_left(place) else [line])]
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        for lines in zip_longest(*cells, fillvalue=Line("")):
            yield _joined(list(lines), widths, table)


def _widths(table: DataTable, width: int) -> list[int]:
    """Of each column: that of its longest cell, less in the last column of words where the table is too wide."""
    heads = table.heads or [""] * len(table.rows[0])
    widths = [
        max(cell_len(name), *(line.cell_len for row in table.rows for line in _cell(row[place])), 0)
        for place, name in enumerate(heads)
    ]
    for place, column in enumerate(table.columns):
        if isinstance(column, Column) and column.most is not None:
            widths[place] = min(widths[place], column.most)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for place in reversed(range(len(widths))):
        if excess > 0 and table.is_left(place) and widths[place] > _NARROWEST:
            less = min(excess, widths[place] - _NARROWEST)
            widths[place] -= less
            excess -= less
    return widths


def _joined(cells: Sequence[Line], widths: Sequence[int], table: DataTable) -> Line:
    line = Line()
    for place, (cell, wide) in enumerate(zip(cells, widths, strict=True)):
        blanks = " " * (wide - cell.cell_len)
        parts = (cell, blanks) if table.is_left(place) else (blanks, cell)
        line = Line.assemble(line, _GAP if place else "", *parts)
    line.rstrip()
    return line


def _cell(cell: str | Cell, bar: int = _BAR) -> list[Line]:
    """The lines of a cell before it is wrapped. bar: letters of a full bar."""
    if isinstance(cell, str):
        return [Line(cell)]
    parts = (cell.text,) if isinstance(cell.text, str) else cell.text
    styled = ((part, color_of(part)) if isinstance(part, ClassName) else part for part in parts)
    line = Line.assemble(*styled, style="bold" if cell.strong else "")
    if cell.bar is not None:
        share, name = cell.bar
        whole, eighths = divmod(round(share * bar * 8), 8)
        line.append("\N{FULL BLOCK}" * whole + _EIGHTHS[eighths].strip(), color_of(name))
    return [line, *(Line(note, "dim") for note in cell.note.splitlines())]


def _drawn(line: Line, encoding: str) -> Line:
    """The line in letters that the encoding has."""
    if not encoding.lower().startswith("utf"):
        line.plain = line.plain.translate(_ASCII)
    line.rstrip()
    return line
