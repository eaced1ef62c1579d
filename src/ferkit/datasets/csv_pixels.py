"""Numbers in text to pixels, by operations on whole arrays: no loop over numbers, none over rows.

Every byte becomes its digit, a space becomes a digit of no worth. A number ends where a digit is followed by a space;
its value is the digit there plus ten and a hundred times the digits before. What is computed at all other places is
thrown away, which is still far faster than to visit the numbers one by one.
"""

import math
import re
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import Faces

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
