"""How numbers are written in reports, tables and cards, and cells in CSV files."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 as a percentage; `-` for none.

    >>> percent(0.707), percent(0.5, 0), percent(None)
    ('70.7%', '50%', '-')
    """
    return "-" if share is None else f"{share:.{digits}%}"


def number(value: float | None) -> str:
    """A score with three decimals; `-` for none."""
    return "-" if value is None else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> points(0.0123)
    '+1.2'
    """
    return f"{100 * difference:+.1f}"


def interval(low_high: Sequence[float] | None, digits: int = 1) -> str:
    """An interval of shares; `-` for none.

    >>> interval((0.678, 0.738)), interval((0.65, 0.76), 0)
    ('67.8% to 73.8%', '65% to 76%')
    """
    return "-" if low_high is None else f"{low_high[0]:.{digits}%} to {low_high[1]:.{digits}%}"


def point_interval(low_high: Sequence[float]) -> str:
    """An interval of a difference, in percentage points.

    >>> point_interval((-0.138, -0.083))
    '-13.8 to -8.3'
    """
    return f"{points(low_high[0])} to {points(low_high[1])}"


def p_value(p: float) -> str:
    """A p-value in as many digits as keep it apart from 0.05 and 0.01.

    >>> p_value(0.00001), p_value(0.0099), p_value(0.0499), p_value(0.19)
    ('< 0.0001', '0.0099', '0.050', '0.19')
    """
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_equals(p: float) -> str:
    """`p = 0.012`, or `p < 0.0001`."""
    said = p_value(p)
    return f"p {said}" if said.startswith("<") else f"p = {said}"


def duration(seconds: float) -> str:
    """A time for people: two units are enough.

    >>> duration(3534.5)
    '58 min 54 s'
    >>> duration(26 * 3600), duration(200_000)
    ('26 h 0 min', '2 d 7 h')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def joined(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> joined(["fear"]), joined(["fear", "sad", "disgust"])
    ('fear', 'fear, sad and disgust')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


# What a spreadsheet takes for a formula, and the wide forms of East Asian keyboards, which it takes as well.
_FORMULA = re.compile(r"[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf", re.ASCII)


def csv_cell(value: Any, *, raw: bool = False) -> Any:
    r"""What a CSV file says in place of a value, so that no spreadsheet runs it and no terminal obeys it.

    Text that begins as a formula gets a quotation mark in front, as OWASP advises ("CSV injection"); control characters
    are written as in Python. Numbers stay as they are, and with `raw` all does.

    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5), csv_cell("a\x1b\r.png")
    ("'=1+1", '-0.5', -0.5, 'a\\x1b\\r.png')
    """
    if raw or not isinstance(value, str):
        return value
    if not value.isprintable():
        value = "".join(ascii(one)[1:-1] if unicodedata.category(one) == "Cc" else one for one in value)
    return f"'{value}" if _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value
