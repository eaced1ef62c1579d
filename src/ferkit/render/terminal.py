"""A report on a terminal: its texts, metrics and tables. Plots and faces are for pages.

Lines are as wide as the terminal where words can be wrapped. A number is never cut: a table that is too wide runs over.
"""

import io
from collections.abc import Iterator, Sequence
from functools import singledispatch
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text as Line

from ferkit.labels import color_of
from ferkit.render.document import (
    Block,
    Bullets,
    Cell,
    CodeBlock,
    Column,
    DataTable,
    Document,
    Heading,
    Inline,
    Metrics,
    Text,
    flat,
    plain_text,
)

_NARROWEST = 24  # columns of words are not wrapped below this
_BAR = 24  # letters of a full bar
_GAP = "  "


class Terminal:
    """A document as Rich prints it. Print it with `soft_wrap=True`, or tables wider than the terminal are cut."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = options.encoding.lower().startswith("utf")
        for line in _lines(self.document, options.max_width):
            if not drawn:
                line.plain = line.plain.replace("\N{FULL BLOCK}", "#").replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-")
            line.rstrip()
            yield line


def to_text(document: Document, width: int = 100) -> str:
    """The same as plain text, for `str` and logs."""
    return "\n".join(line.plain.rstrip() for line in _lines(document, width))


def _lines(document: Document, width: int) -> Iterator[Line]:
    about = plain_text(document.about)
    yield from _wrapped(f"{document.title}: {about}" if about else document.title, width, "bold")
    for section in document.sections:
        shown = [(block, lines) for block in flat(section.blocks) if (lines := list(_shown(block, width)))]
        if not shown:
            continue
        yield Line("")
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
    if block.columns:
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


def _cell(cell: str | Cell) -> list[Line]:
    """The lines of a cell before it is wrapped."""
    if isinstance(cell, str):
        return [Line(cell)]
    line = Line(cell.text, "bold" if cell.strong else "")
    if cell.bar is not None:
        share, name = cell.bar
        line.append("\N{FULL BLOCK}" * round(share * _BAR), color_of(name))
    return [line, Line(cell.note, "dim")] if cell.note else [line]
