"""The FER-2013 CSV: one face per row, its pixels as numbers in text. Parsed with whole-array operations.

271 MB of text hold 74 million numbers; a Python loop over rows that splits strings takes most of a minute. Here a block
of 128 KiB, which stays in the processor's cache, is turned into pixels by a dozen array operations: a number
ends where a digit is followed by something else, and its value is the digit there plus ten and a hundred times the
digits before. Only a block in which something is wrong is gone through row by row, to name the row.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import Broken, Faces
from ferkit.datasets.sources import read_ahead
from ferkit.datasets.table import Batch
from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, canonical

FER_PIXELS = 48 * 48
BLOCK_BYTES = 1 << 17
# A row of 2048 x 2048 pixels is shorter; a "row" beyond it is no row, and must not fill the memory.
LONGEST_ROW_BYTES = 1 << 24

_USAGES = {
    "training": "Training",
    "train": "Training",
    "publictest": "PublicTest",
    "validation": "PublicTest",
    "valid": "PublicTest",
    "val": "PublicTest",
    "privatetest": "PrivateTest",
    "test": "PrivateTest",
}


@dataclass(frozen=True)
class Columns:
    """Where the columns stand in a row; `usage` is None in a file without splits."""

    count: int
    emotion: int
    pixels: int
    usage: int | None


def parse_header(line: bytes) -> Columns | None:
    """Find the columns of a FER-2013 CSV in its first line, or None if it is not one.

    >>> parse_header(b"emotion, Usage, pixels")
    Columns(count=3, emotion=0, pixels=2, usage=1)
    """
    names = [name.strip().strip('"').lower() for name in line.decode("utf-8-sig", "replace").strip().split(",")]
    if "pixels" not in names or "emotion" not in names:
        return None
    usage = names.index("usage") if "usage" in names else None
    return Columns(len(names), names.index("emotion"), names.index("pixels"), usage)


def read_batches(stream: BinaryIO, columns: Columns, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Batch]:
    """Parse the rows after the header; `stream` stands behind it; `name` is for errors. `Batch.done` is left 0.

    Faces are square; their side is what most of the first block's rows have, 48 if none of them is square.
    """
    line_number, row, pixels = 2, 0, 0
    for block in _blocks_of_rows(stream, name, block_bytes):
        lines = block.split(b"\n")
        pixels = pixels or _usual_pixel_count(lines, columns)
        batch = _parse(lines, columns, pixels, line_number, row)
        line_number += len(lines)
        row += len(batch.images) + len(batch.broken)
        yield batch


def _blocks_of_rows(stream: BinaryIO, name: str, block_bytes: int) -> Iterator[bytes]:
    """Cut the stream at line ends; no block keeps its last newline, so that splitting it gives its lines."""
    pieces: list[bytes] = []
    for piece in read_ahead(stream, block_bytes):
        cut = piece.rfind(b"\n")
        if cut < 0:
            pieces.append(piece)
            if sum(map(len, pieces)) > LONGEST_ROW_BYTES:
                raise DatasetError(
                    f"{name} has a row longer than {LONGEST_ROW_BYTES:,} bytes, so it is no CSV of faces. "
                    "Expected rows like '0,70 80 82 ...,Training'."
                )
            continue
        yield b"".join([*pieces, piece[:cut]])
        pieces = [piece[cut + 1 :]]
    if rest := b"".join(pieces):
        yield rest


def _usual_pixel_count(lines: Sequence[bytes], columns: Columns) -> int:
    counts: Counter[int] = Counter()
    for line in lines:
        fields = line.split(b",")
        if len(fields) == columns.count:
            counts[len(fields[columns.pixels].split())] += 1
    squares = [count for count, _ in counts.most_common() if count > 1 and math.isqrt(count) ** 2 == count]
    return squares[0] if squares else FER_PIXELS


def _parse(lines: Sequence[bytes], columns: Columns, pixels: int, line_number: int, row: int) -> Batch:
    texts: list[bytes] = []
    labels: list[int] = []
    splits: list[str] = []
    where: list[tuple[int, int]] = []  # line as an editor numbers it, row from 0
    broken: list[tuple[int, str]] = []
    for number, line in enumerate(lines, line_number):
        if not line or line.isspace():
            continue
        label, split, text, reason = _fields(line, columns)
        if reason:
            broken.append((number, reason))
        else:
            texts.append(text)
            labels.append(label)
            splits.append(split)
            where.append((number, row))
        row += 1

    faces = decode_pixels(texts, pixels)
    if faces is None:
        good = []
        decoded = []
        for index, text in enumerate(texts):
            one = _decode_one(text, pixels)
            if isinstance(one, str):
                broken.append((where[index][0], one))
            else:
                good.append(index)
                decoded.append(one)
        faces = np.array(decoded, np.uint8).reshape(-1, pixels)
        labels, splits, where = [labels[i] for i in good], [splits[i] for i in good], [where[i] for i in good]

    side = math.isqrt(pixels)
    return Batch(
        images=faces.reshape(-1, side, side, 1),
        labels=np.array(labels, np.int64),
        splits=splits,
        rows=np.array([index for _, index in where], np.int64),
        broken=[Broken(f"row {number}", reason) for number, reason in sorted(broken)],
    )


def _fields(line: bytes, columns: Columns) -> tuple[int, str, bytes, str]:
    """Label, split and pixel text of a row; the last item is the reason if the row is broken."""
    fields = line.split(b",")
    if len(fields) != columns.count:
        return 0, "", b"", f"{len(fields)} columns, expected {columns.count}"
    label = _label(fields[columns.emotion])
    if label is None:
        names = ", ".join(f"{index} {name}" for index, name in enumerate(EMOTIONS))
        came = _text(fields[columns.emotion])
        return 0, "", b"", f"label {came!r}, expected 0 to {len(EMOTIONS) - 1} ({names})"
    split = ""
    if columns.usage is not None:
        split = _split(fields[columns.usage])
        if not split:
            came = _text(fields[columns.usage])
            return 0, "", b"", f"Usage {came!r}, expected Training, PublicTest or PrivateTest"
    return label, split, fields[columns.pixels].strip(b' "\r\t'), ""


def usage_name(text: str) -> str:
    """The published name of a split as a Usage column has it, "" for any other text."""
    return _USAGES.get(text.strip().lower(), "")


def _text(field: bytes) -> str:
    return field.decode("utf-8", "replace").strip().strip('"')[:40]


# The same few labels and splits stand in every row, so what they mean is looked up once.
@lru_cache(maxsize=256)
def _split(field: bytes) -> str:
    return usage_name(_text(field))


@lru_cache(maxsize=256)
def _label(field: bytes) -> int | None:
    text = _text(field)
    if len(text) == 1 and "0" <= text < str(len(EMOTIONS)):
        return int(text)
    name = canonical(text)
    return EMOTIONS.index(name) if name in EMOTIONS else None


def decode_pixels(texts: Sequence[bytes], pixels: int) -> Faces | None:
    """Turn rows of numbers into uint8 (len(texts), pixels), or None if any row is not exactly that.

    Takes digits with single or repeated spaces between, at most three digits to a number.
    """
    if not texts:
        return np.zeros((0, pixels), np.uint8)
    # Three spaces in front, so that every digit has three bytes before it; one behind, so that every number ends.
    text = np.frombuffer(b"   " + b" ".join(texts) + b" ", np.uint8)
    # Results go into arrays that are used again: fresh memory for every step would cost more than the steps.
    digit, value, scratch = np.empty_like(text), np.empty_like(text), np.empty_like(text)
    is_digit, flag = np.empty(text.shape, bool), np.empty(text.shape, bool)

    np.subtract(text, np.uint8(ord("0")), out=digit)
    np.less(digit, np.uint8(10), out=is_digit)
    np.equal(text, np.uint8(ord(" ")), out=flag)
    if not np.logical_or(flag, is_digit, out=flag).all():
        return None
    # Four digits in a row: two overlapping pairs, two apart.
    pair = np.logical_and(is_digit[1:], is_digit[:-1], out=flag[1:])
    if np.logical_and(pair[2:], pair[:-2], out=scratch[3:].view(bool)).any():
        return None
    np.multiply(digit, is_digit.view(np.uint8), out=digit)

    # From here on, position i stands for byte i + 3 of the text; n is where the padding begins.
    n = len(text) - 4
    if n == 0:
        return None
    value, scratch = value[:n], scratch[:n]
    tens_follow = np.logical_and(is_digit[2 : n + 2], is_digit[3 : n + 3], out=flag[:n])
    np.multiply(digit[1 : n + 1], tens_follow.view(np.uint8), out=scratch)  # hundreds
    if scratch.max() > 2:
        return None
    np.multiply(scratch, np.uint8(100), out=scratch)
    np.multiply(digit[2 : n + 2], np.uint8(10), out=value)
    np.add(value, digit[3 : n + 3], out=value)
    # Tens and ones are below 100, hundreds at most 200: beyond 255 the sum wraps to less than the hundreds.
    np.add(value, scratch, out=value)
    if np.less(value, scratch, out=flag[:n]).any():
        return None
    ends = np.greater(is_digit[3 : n + 3], is_digit[4 : n + 4], out=flag[:n])
    at = np.flatnonzero(ends)
    if not _every_row_has(at, texts, pixels):
        return None
    # Picking by position takes half the time of value[ends] when what is picked lies two or three bytes apart.
    faces: Faces = value.take(at).reshape(-1, pixels)
    return faces


def _every_row_has(at: npt.NDArray[np.int64], texts: Sequence[bytes], pixels: int) -> bool:
    """Whether each row holds that many numbers, by where numbers end.

    The right total is not enough: one row may lack what another has over.
    """
    if len(at) != len(texts) * pixels:
        return False
    row_ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    return bool((at[pixels - 1 :: pixels] < row_ends).all() and (at[pixels::pixels] > row_ends[:-1]).all())


def _decode_one(text: bytes, pixels: int) -> npt.NDArray[np.uint8] | str:
    """The pixels of one row, or the reason why it has none."""
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
