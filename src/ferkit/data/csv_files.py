"""The FER-2013 CSV: one face per row, its pixels as numbers in text, parsed by operations on whole arrays.

271 MB of text hold 74 million numbers; a Python loop over rows that splits strings takes 8 to 12 seconds. Here one
thread reads and unpacks, others parse blocks of rows. Every byte becomes its digit, a space becomes a digit of no
worth. A number ends where a digit is followed by a space; its value is the digit there plus ten and a hundred times the
digits before. What is computed at all other places is thrown away, which is still far faster than to visit the numbers
one by one. Only a block in which something is out of the ordinary is gone through row by row; from the first quote on,
Python's `csv` cuts the rows.
"""

import codecs
import csv
import math
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from ferkit.data.csv_columns import (
    CSV_SUFFIXES,
    DELIMITERS,
    LONGEST_ROW_BYTES,
    Columns,
    Readable,
    Utf8,
    csv_rows,
    label_of,
    long_fields,
    split_line,
    text_of,
    usage_name,
)
from ferkit.data.names import NUMBERS
from ferkit.data.records import Batch, Broken, Faces
from ferkit.errors import DatasetError, FerkitError
from ferkit.labels import EMOTIONS
from ferkit.sources import InMemory, Picture, open_file

Positions = npt.NDArray[np.int64]

# Under exclusive or with "0" the ten digits become 0 to 9, a space becomes 16, and no other byte becomes one of these.
_ZERO, _SPACE = np.uint8(ord("0")), np.uint8(ord("0") ^ ord(" "))
# Spaces before the text, so that each digit has three bytes before it, and one behind, so that each number ends.
_BEFORE, _AFTER = 3, 1


class _Scratch(threading.local):
    """Memory for results in between, one per thread: fresh memory for each step would cost more than the step."""

    def __init__(self) -> None:
        self.rows = np.empty((5, 0), np.uint8)

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """Five arrays of that many bytes, their content undefined."""
        if self.rows.shape[1] < count:
            self.rows = np.empty((5, count + count // 8), np.uint8)
        return self.rows[:, :count]


_scratch = _Scratch()


def decode_pixels(texts: Sequence[bytes], pixels: int) -> Faces | None:
    """Turn rows of numbers into uint8 (len(texts), pixels), or None if any row is not exactly that.

    Takes digits with single or repeated spaces between, at most three digits to a number.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    return decode_spans(b" ".join(texts), ends - lengths, ends, pixels)


def decode_spans(text: bytes, starts: Positions, ends: Positions, pixels: int) -> Faces | None:
    """As `decode_pixels`, for the rows text[starts[i]:ends[i]], in order; what stands between them is ignored.

    There is at least one byte between two rows.
    """
    if not len(starts):
        return np.zeros((0, pixels), np.uint8)
    size = len(text) + _BEFORE + _AFTER
    code, digit, value, hundreds, flags = _scratch.take(size)
    is_digit, flag = flags.view(bool), hundreds.view(bool)

    code[:_BEFORE] = code[-_AFTER:] = _SPACE
    np.bitwise_xor(np.frombuffer(text, np.uint8), _ZERO, out=code[_BEFORE:-_AFTER])
    bounds = np.concatenate([[-_BEFORE], np.column_stack([starts, ends]).ravel(), [len(text)]]) + _BEFORE
    for end, start in bounds.reshape(-1, 2).tolist():
        code[end:start] = _SPACE
    np.bitwise_and(code, np.uint8(15), out=digit)
    # Above 16 or from 10 to 15 it was neither a digit nor a space.
    if code.max() > _SPACE or digit.max() > 9:
        return None
    np.less(code, _SPACE, out=is_digit)

    # From here on, position i stands for byte i + 3 of `code`, and `before[k]` for k bytes before it.
    count = len(text)
    before = [digit[_BEFORE - k : _BEFORE - k + count] for k in range(3)]
    pair = np.logical_and(is_digit[1:], is_digit[:-1], out=code[1:].view(bool))
    # Four digits in a row: two pairs, two apart.
    if np.logical_and(pair[2:], pair[:-2], out=flag[:-3]).any():
        return None
    value, hundreds, flag = value[:count], hundreds[:count], flag[:count]
    np.multiply(before[2], pair[_BEFORE - 1 : _BEFORE - 1 + count].view(np.uint8), out=hundreds)
    if count and hundreds.max() > 2:
        return None
    np.multiply(hundreds, np.uint8(100), out=hundreds)
    np.multiply(before[1], np.uint8(10), out=value)
    np.add(value, before[0], out=value)
    # Tens and ones are below 100, hundreds at most 200: beyond 255 the sum wraps to less than the hundreds.
    np.add(value, hundreds, out=value)
    if np.less(value, hundreds, out=flag).any():
        return None
    at = np.flatnonzero(np.greater(is_digit[_BEFORE:-_AFTER], is_digit[_BEFORE + _AFTER :], out=flag))
    # The right total is not enough: one row may lack what another has over.
    if len(at) != len(starts) * pixels:
        return None
    if pixels and not ((at[::pixels] >= starts).all() and (at[pixels - 1 :: pixels] < ends).all()):
        return None
    # Picking by position takes a seventh of the time of value[flag].
    faces: Faces = value.take(at).reshape(-1, pixels)
    return faces


def decode_row(text: bytes, pixels: int) -> npt.NDArray[np.uint8] | str:
    """The pixels of one row, uint8 (pixels,), or the reason why it has none.

    Takes any white space between numbers, and zeros in front of them.
    """
    quick = decode_pixels([text], pixels)
    if quick is not None:
        face: npt.NDArray[np.uint8] = quick[0]
        return face
    tokens = text.decode("utf-8", "replace").split()
    for position, token in enumerate(tokens, 1):
        if not re.fullmatch(r"0*[0-9]{1,3}", token, re.ASCII) or int(token) > 255:
            return f"pixel {position} is {token[:20]!r}, expected a whole number from 0 to 255"
    if len(tokens) != pixels:
        side = math.isqrt(pixels)
        return f"{len(tokens):,} pixels, expected {pixels:,} ({side} x {side})"
    return np.array([int(token) for token in tokens], np.uint8)


def is_face_table(source: object) -> bool:
    """Whether a source is a CSV of faces as pixels, with labels or without (`test.csv` of FER-2013)."""
    if not isinstance(source, str | os.PathLike) or not os.fsdecode(source).lower().endswith(CSV_SUFFIXES):
        return False
    try:
        with open_file(os.fsdecode(source)) as (stream, _):
            return _pixel_column(stream.readline(Utf8.HEAD)) is not None
    except (FerkitError, OSError):
        return False  # whoever reads it as a picture says why


def read_faces(source: str | os.PathLike[str]) -> Iterator[Picture]:
    """The faces of a CSV that `is_face_table` knows, as pictures that were cut before; labels are not looked at."""
    path = os.fsdecode(source)
    with open_file(path) as (stream, _):
        column, delimiter = _pixel_column(stream.readline(Utf8.HEAD)) or (0, ",")
        for number, line in enumerate(filter(bytes.strip, iter(lambda: stream.readline(LONGEST_ROW_BYTES), b""))):
            fields, name = split_line(line.strip(), delimiter), f"{path}::{number}"
            text = fields[column] if len(fields) > column else b""
            side = max(math.isqrt(len(text.split())), 1)
            face = decode_row(text.strip(b'" '), side * side)
            if isinstance(face, str):
                yield Picture(name, None, f"Cannot read {name}: {face}.", cut=True)
            else:
                yield Picture(name, InMemory(b"P5 %d %d 255\n" % (side, side) + face.tobytes(), name), cut=True)


def _pixel_column(header: bytes) -> tuple[int, str] | None:
    """Where the pixels stand in a row, and what stands between its fields."""
    for delimiter in DELIMITERS:
        names = [text_of(name).lower() for name in split_line(header.removeprefix(codecs.BOM_UTF8).strip(), delimiter)]
        if names.count("pixels") == 1:
            return names.index("pixels"), delimiter
    return None


FER_PIXELS = 48 * 48
# What stands around and between the numbers of a printed list, and behind whole ones.
_SIGNS = bytes.maketrans(b",;[]()'\"\r\t\n", b" " * 11)
_NO_FRACTION = re.compile(rb"\.0*(?= |$)")
# Smaller blocks fit the cache better, but then threads wait for the interpreter's lock more often than they compute.
BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 4
_QUOTED_ROWS = 128
PARSERS = 2


def read_batches(stream: Readable, columns: Columns, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Batch]:
    """Parse the rows after the header; `stream` stands behind it; `name` is for errors. `Batch.done` is left 0.

    Faces are square; their side is what most of the first block's rows have, 48 if none of them is square.
    """
    line_number, row = 1 + columns.header, 0
    for parsed in _parsed_blocks(stream, columns, name, block_bytes):
        yield Batch(
            images=parsed.images,
            labels=parsed.labels,
            splits=parsed.splits,
            rows=parsed.rows + row,
            broken=[Broken(f"row {line_number + line}", reason) for line, reason in parsed.broken],
        )
        line_number += parsed.lines
        row += len(parsed.images) + len(parsed.broken)


def _parsed_blocks(stream: Readable, columns: Columns, name: str, block_bytes: int) -> Iterator["_Parsed"]:
    """Parse several blocks at a time, give them in order; those waiting are few, so memory stays flat."""
    waiting: deque[Future[_Parsed]] = deque()
    with ThreadPoolExecutor(PARSERS, "ferkit-parse") as parsers:
        for job in _jobs(_blocks_of_rows(stream, name, block_bytes), columns, name):
            waiting.append(parsers.submit(job))
            if len(waiting) > 2 * PARSERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _jobs(blocks: Iterator[bytes], columns: Columns, name: str) -> Iterator[Callable[[], "_Parsed"]]:
    """What parses each part of a file."""
    pixels = 0
    for block in blocks:
        pixels = pixels or _usual_pixel_count(block.split(b"\n"), columns)
        if b'"' in block:  # a quoted field may hold delimiters and line ends, so rows cannot be cut at those
            for rows, lines in _quoted_rows(chain([block], blocks), columns.delimiter, name):
                yield partial(_parse_rows, rows, lines, columns, pixels)
            return
        yield partial(_parse, block, columns, pixels)


def _quoted_rows(
    blocks: Iterator[bytes], delimiter: str, name: str
) -> Iterator[tuple[list[tuple[int, list[bytes]]], int]]:
    """Some rows at a time by the rules of CSV, each with its line counted from the first of them; and their lines."""
    end = "\0end"  # what a quote that is never closed would swallow
    lines = chain((line for block in blocks for line in block.decode("utf-8", "replace").split("\n")), [end])
    reader = csv_rows(lines, delimiter)
    rows: list[tuple[int, list[bytes]]] = []
    start = line = 0
    fields: list[str] = []
    while True:
        with long_fields():
            try:
                fields = next(reader)
            except csv.Error as problem:
                raise DatasetError(
                    f"{name} is not a valid CSV of faces ({problem}); is a quote never closed?"
                ) from None
        if fields == [end]:
            yield rows, line - start
            return
        if fields and fields[-1].endswith(f"{end}\n"):
            begins = ",".join(fields)[:30]
            raise DatasetError(f"{name} has a quote that is never closed, in the row that begins with {begins!r}.")
        rows.append((line - start, [field.encode() for field in fields]))
        line = reader.line_num
        if len(rows) == _QUOTED_ROWS:
            yield rows, line - start
            rows, start = [], line


def _blocks_of_rows(stream: Readable, name: str, block_bytes: int) -> Iterator[bytes]:
    """Cut the stream at line ends; no block keeps its last newline, so that splitting it gives its lines."""
    pieces: list[bytes] = []
    for piece in _read_ahead(stream, block_bytes):
        cut = piece.rfind(b"\n")
        if cut < 0:
            pieces.append(piece)
            if sum(map(len, pieces)) > LONGEST_ROW_BYTES:
                raise DatasetError(
                    f"{name} has a row longer than {LONGEST_ROW_BYTES:,} bytes, so it is not a CSV of faces. "
                    "Expected rows like '0,70 80 82 ...,Training'."
                )
            continue
        yield b"".join([*pieces, memoryview(piece)[:cut]])
        pieces = [piece[cut + 1 :]]
    if rest := b"".join(pieces):
        yield rest


def _read_ahead(stream: Readable, size: int) -> Iterator[bytes]:
    """Pieces of a stream, read (and unpacked) by another thread while the last ones are worked on."""
    with ThreadPoolExecutor(1, "ferkit-read") as reader:
        ahead = deque(reader.submit(stream.read, size) for _ in range(_BLOCKS_AHEAD))
        while piece := ahead.popleft().result():
            ahead.append(reader.submit(stream.read, size))
            yield piece


def _usual_pixel_count(lines: Sequence[bytes], columns: Columns) -> int:
    counts: Counter[int] = Counter()
    for line in lines:
        fields = split_line(line, columns.delimiter)
        if len(fields) == columns.count:
            counts[len(_plain(fields[columns.pixels]).split())] += 1
    squares = [count for count, _ in counts.most_common() if count > 1 and math.isqrt(count) ** 2 == count]
    return squares[0] if squares else FER_PIXELS


@dataclass(frozen=True)
class _Parsed:
    """One block: as `Batch`, but rows and the lines of broken rows are counted from the start of the block."""

    images: Faces
    labels: npt.NDArray[np.int64]
    splits: Sequence[str]
    rows: npt.NDArray[np.int64]
    broken: Sequence[tuple[int, str]]
    lines: int


def _parse(block: bytes, columns: Columns, pixels: int) -> _Parsed:
    return _parse_regular(block, columns, pixels) or _parse_lines(block.split(b"\n"), columns, pixels)


def _parse_regular(block: bytes, columns: Columns, pixels: int) -> _Parsed | None:
    """A block in which all rows are as they should be, else None. Pixels are not looked at row by row."""
    edges = _edges(block, columns)
    labels = [label_of(block[row[columns.emotion] + 1 : row[columns.emotion + 1]]) for row in edges]
    splits = [""] * len(edges)
    if columns.usage is not None:
        splits = [_split(block[row[columns.usage] + 1 : row[columns.usage + 1]]) for row in edges]
    if not edges or None in labels or (columns.usage is not None and "" in splits):
        return None
    starts, ends = np.array(edges, np.int64)[:, columns.pixels : columns.pixels + 2].T
    if columns.pixels == columns.count - 1:  # lines may end as on Windows
        ends = ends - (np.frombuffer(block, np.uint8)[ends - 1] == ord("\r"))
    faces = decode_spans(block, starts + 1, ends, pixels)
    if faces is None:
        return None
    side = math.isqrt(pixels)
    images = faces.reshape(-1, side, side, 1)
    return _Parsed(images, np.array(labels, np.int64), splits, np.arange(len(edges)), (), len(edges))


def _edges(block: bytes, columns: Columns) -> list[list[int]]:
    """For each row, what surrounds its fields: field f stands between edges f and f + 1. Empty if a row lacks a field.

    `bytes.find` jumps from comma to comma, which takes half the time of comparing each byte with a comma. A line end or
    comma inside a field (a row with too few or too many) is not seen here, but no label, split or pixels hold one.
    """
    if columns.count != 2 + (columns.usage is not None):
        return []  # columns of unknown content might hold one
    find, edges, edge, delimiter = block.find, [], -1, columns.delimiter.encode()
    while edge < len(block):
        row = [edge]
        for _ in range(columns.count - 1):
            edge = find(delimiter, edge + 1)
            if edge < 0:
                return []
            row.append(edge)
        edge = find(b"\n", edge + 1)
        edge = len(block) if edge < 0 else edge
        row.append(edge)
        edges.append(row)
    return edges


def _parse_lines(lines: Sequence[bytes], columns: Columns, pixels: int) -> _Parsed:
    """Any block without quotes, row by row."""
    delimiter = columns.delimiter.encode()
    return _parse_rows([(n, line.split(delimiter)) for n, line in enumerate(lines)], len(lines), columns, pixels)


def _parse_rows(parsed: Sequence[tuple[int, Sequence[bytes]]], lines: int, columns: Columns, pixels: int) -> _Parsed:
    """Rows as lists of fields: broken rows are named, blank lines skipped."""
    filled = [(number, fields) for number, fields in parsed if any(field.strip() for field in fields)]
    rows = [(row, number, *_fields(fields, columns)) for row, (number, fields) in enumerate(filled)]
    broken = [(number, reason) for _, number, *_, reason in rows if reason]
    rows = [row for row in rows if not row[-1]]
    texts = [text for *_, text, _ in rows]
    faces: Sequence[Faces | str] | Faces | None = decode_pixels(texts, pixels)
    if faces is None:
        faces = [decode_row(text, pixels) for text in texts]
        broken += [(row[1], face) for row, face in zip(rows, faces, strict=True) if isinstance(face, str)]
        rows = [row for row, face in zip(rows, faces, strict=True) if not isinstance(face, str)]
        faces = np.array([face for face in faces if not isinstance(face, str)], np.uint8)
    side = math.isqrt(pixels)
    return _Parsed(
        images=np.asarray(faces).reshape(-1, side, side, 1),
        labels=np.array([label for _, _, label, *_ in rows], np.int64),
        splits=[split for _, _, _, split, *_ in rows],
        rows=np.array([row for row, *_ in rows], np.int64),
        broken=sorted(broken),
        lines=lines,
    )


def _fields(fields: Sequence[bytes], columns: Columns) -> tuple[int, str, bytes, str]:
    """Label, split and pixel text of a row; the last item is the reason if the row is broken."""
    if len(fields) != columns.count:
        return 0, "", b"", f"{len(fields)} columns, expected {columns.count}"
    label = label_of(fields[columns.emotion])
    if label is None:
        came = text_of(fields[columns.emotion])
        return 0, "", b"", f"label {came!r}, expected 0 to {len(EMOTIONS) - 1} ({NUMBERS}) or 7 (contempt)"
    split = ""
    if columns.usage is not None:
        split = _split(fields[columns.usage])
        if not split:
            came = text_of(fields[columns.usage])
            return 0, "", b"", f"Usage {came!r}, expected Training, PublicTest or PrivateTest"
    return label, split, _plain(fields[columns.pixels]), ""


def _plain(pixels: bytes) -> bytes:
    """Numbers with spaces between, of pixels as programs print a list of them: `[70, 80.0, 82]`."""
    pixels = pixels.translate(_SIGNS).strip()
    return _NO_FRACTION.sub(b"", pixels) if b"." in pixels else pixels


# The same few labels and splits stand in every row, so what they mean is looked up once.
@lru_cache(maxsize=256)
def _split(field: bytes) -> str:
    return "" if b"\n" in field else usage_name(text_of(field))
