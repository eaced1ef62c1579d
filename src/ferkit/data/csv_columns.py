"""How a CSV of faces is written: its encoding, its delimiter, its header or the columns by their content."""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from ferkit.data.names import split_of
from ferkit.data.records import SPLIT_ALIASES
from ferkit.labels import WITH_CONTEMPT, canonical

# A row of 2048 x 2048 pixels is shorter; a "row" beyond it is no row, and must not fill the memory.
LONGEST_ROW_BYTES = 1 << 24
DELIMITERS = ",;\t|"
CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".tsv", ".tsv.gz")
# What Excel writes, and reads, in front of a file to name its delimiter.
_EXCEL = re.compile(rb'"?sep=.?"?\r?\n', re.IGNORECASE)
_LABELS = ("emotion", "label", "labels", "class", "expression")
_SPLITS = ("usage", "split")
# Columns of a file without a header are told by what stands in these many rows of its head.
_SAMPLED_ROWS = 20
_PIXELS = re.compile(r"\s*\d{1,3}(\s+\d{1,3}){15,}\s*", re.ASCII)
# 0 to 7, and what counts otherwise (it is refused with the reason); a data frame makes 3.0 of 3 where one is missing.
_NUMBER = re.compile(r"0*(\d)(?:\.0*)?", re.ASCII)


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


class Utf8:
    """The bytes of a text file in UTF-8 with line feeds, whichever byte order mark and line ends it has.

    head: its beginning, which `read` gives once more.
    """

    HEAD = 1 << 18  # more than a row of 224 x 224 pixels
    _MARKS = (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16 does
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    )

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        head = stream.read(self.HEAD)
        mark, encoding = next(((mark, name) for mark, name in self._MARKS if head.startswith(mark)), (b"", "utf-8"))
        # Bytes of UTF-8 stay as they are: what is wrong in them breaks its row only.
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
        head = self._recoded(head[len(mark) :])
        head = head[match.end() :] if (match := _EXCEL.match(head)) else head
        self._old_mac = b"\r" in head and b"\n" not in head
        self.head = self._ahead = head.replace(b"\r", b"\n") if self._old_mac else head

    def read(self, size: int, /) -> bytes:
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(taken) == size:
            return taken
        read = b""
        while not read and (data := self._stream.read(size - len(taken))):
            read = self._recoded(data)
        if self._old_mac:
            read = read.replace(b"\r", b"\n")
        return taken + read if taken else read

    def _recoded(self, data: bytes) -> bytes:
        return data if self._decoder is None else self._decoder.decode(data).encode()

    def skip(self, size: int) -> None:
        """Leave out bytes of the head."""
        self._ahead = self._ahead[size:]


@dataclass(frozen=True)
class Columns:
    """Where the columns stand in a row; `usage` is None in a file without splits.

    header: whether the first line names them. numbered: whether labels are numbers. found: what they were told by
        where no header names them, for a note.
    """

    count: int
    emotion: int
    pixels: int
    usage: int | None
    delimiter: str = ","
    header: bool = True
    numbered: bool = True
    found: str = ""


def find_columns(head: bytes) -> Columns | str | None:
    """The columns of a CSV of faces by its first lines: by its header, else by content.

    The reason as a text if it is one but cannot be read; None if it is another file.
    """
    lines = head.split(b"\n")[: _SAMPLED_ROWS + 2]
    sampled = lines[1:-1] if len(lines) > 2 else lines[1:]
    if (columns := parse_header(lines[0])) is not None:
        first = next((split_line(line, columns.delimiter) for line in sampled if line.strip()), [])
        numbered = len(first) != columns.count or bool(_NUMBER.fullmatch(text_of(first[columns.emotion])))
        return _with_splits(replace(columns, numbered=numbered), [line for line in sampled if line.strip()])
    if b"\0" in head:
        return None
    for header, rows in ((False, lines[:-1] if len(lines) > 1 else lines), (True, sampled)):
        for delimiter in DELIMITERS:
            found = _by_content([split_line(line, delimiter) for line in rows if line.strip()], header, delimiter)
            if found is not None:
                return found
    return None


def _with_splits(columns: Columns, sampled: Sequence[bytes]) -> Columns:
    """The columns with that of the splits, where a column of another name holds nothing but names of splits."""
    rows = [split_line(line, columns.delimiter) for line in sampled]
    if columns.usage is not None or not rows or any(len(row) != columns.count for row in rows):
        return columns
    found = [place for place in range(columns.count) if all(usage_name(text_of(row[place])) for row in rows)]
    told = f"The CSV has no column Usage: column {found[0] + 1} as splits." if len(found) == 1 else ""
    return replace(columns, usage=found[0], found=told) if told else columns


def parse_header(line: bytes) -> Columns | None:
    """Find the columns of a FER-2013 CSV in its first line, or None if it is not one.

    >>> columns = parse_header(b"emotion; Usage; pixels")
    >>> columns.emotion, columns.pixels, columns.usage, columns.delimiter
    (0, 2, 1, ';')
    """
    for delimiter in DELIMITERS:
        names = [text_of(name).lower() for name in split_line(line.removeprefix(codecs.BOM_UTF8), delimiter)]
        labels = [name for name in _LABELS if name in names]
        if "pixels" in names and labels and names.count(labels[0]) == names.count("pixels") == 1:
            usage = next((names.index(name) for name in _SPLITS if name in names), None)
            return Columns(len(names), names.index(labels[0]), names.index("pixels"), usage, delimiter)
    return None


def _by_content(rows: Sequence[Sequence[bytes]], header: bool, delimiter: str) -> Columns | str | None:
    """The columns by what stands in some rows; the reason if that could be several; None if there are no pixels."""
    count = len(rows[0]) if rows else 0
    if count < 2 or any(len(row) != count for row in rows):
        return None
    columns = [[text_of(row[place], None) for row in rows] for place in range(count)]
    pixels = [place for place, cells in enumerate(columns) if all(map(_PIXELS.fullmatch, cells))]
    usages = [place for place, cells in enumerate(columns) if all(map(usage_name, cells))]
    labels = [
        place
        for place, cells in enumerate(columns)
        if all(_NUMBER.fullmatch(cell) or label_of(cell.encode()) is not None for cell in cells)
    ]
    if not pixels:
        return None
    for kind, found, most in (("pixels", pixels, 1), ("labels", labels, 1), ("splits", usages, 1)):
        if len(found) > most or (not found and kind != "splits"):
            came = f"columns {', '.join(str(place + 1) for place in found)} may be" if found else "no column has"
            return f"has no header that is known, and {came} {kind}. Expected a header like 'emotion,pixels,Usage'."
    usage = usages[0] if usages else None
    told = f"column {labels[0] + 1} as labels, {pixels[0] + 1} as pixels"
    return Columns(
        count,
        labels[0],
        pixels[0],
        usage,
        delimiter,
        header,
        all(map(_NUMBER.fullmatch, columns[labels[0]])),
        f"The CSV has no header that is known: {told}{'' if usage is None else f', {usage + 1} as splits'}.",
    )


def split_line(line: bytes, delimiter: str) -> list[bytes]:
    """The fields of a row that does not go on in the next line."""
    if b'"' not in line:
        return line.split(delimiter.encode())
    with long_fields(), suppress(csv.Error):
        return [field.encode() for field in next(csv_rows(iter([line.decode("utf-8", "replace")]), delimiter))]
    return [line]


def csv_rows(lines: Iterator[str], delimiter: str) -> Any:
    # A line end of an old system within a line would end the reading.
    return csv.reader((line.replace("\r", " ") + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True)


@contextmanager
def long_fields() -> Iterator[None]:
    """Pixels of a row may be longer than what `csv` takes for a field unless it is told so, for the whole process."""
    before = csv.field_size_limit(LONGEST_ROW_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def usage_name(text: str) -> str:
    """The published name of a split as a Usage column has it, "" for any other text."""
    # Of two fields the signs between them tell nothing to `split_of`.
    return "" if any(sign in text for sign in DELIMITERS) else SPLIT_ALIASES.get(split_of(text), "")


def text_of(field: bytes, longest: int | None = 40) -> str:
    return field.decode("utf-8", "replace").strip().strip('"')[:longest]


@lru_cache(maxsize=256)
def label_of(field: bytes) -> int | None:
    text = text_of(field)
    if b"\n" in field:
        return None
    if number := _NUMBER.fullmatch(text):
        return int(number[1]) if int(number[1]) < len(WITH_CONTEMPT) else None
    name = canonical(text)
    return WITH_CONTEMPT.index(name) if name in WITH_CONTEMPT else None
