"""How the card writes numbers and words: plain Markdown, whatever stands in the card."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Entries = Mapping[str, Any]


def entries(card: Entries, name: str) -> Entries:
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join((lines[0], f"|{'---|' * len(heads)}", *lines[1:]))


def split(measured: Entries) -> str:
    """What it was measured on, and against whom, if not the labels."""
    split = plain(measured.get("split", "held-out faces"))
    return f"{split} (by most voters' choice)" if measured.get("truth") == "votes" else split


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def points(share: float) -> str:
    return f"{100 * share:.1f} points"


def interval(low_high: Sequence[float] | None) -> str:
    return "" if low_high is None else f" (95 % interval {100 * low_high[0]:.1f} to {100 * low_high[1]:.1f})"


def listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names))


def joined(parts: Iterator[str] | list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def plain(value: Any) -> str:
    """Text from the data, such as a class name, with nothing in it that Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(value).split()))


def code(value: Any) -> str:
    """The same for what stands between backticks, where nothing can be escaped."""
    return re.sub(r"[`|]", "'", " ".join(str(value).split()))
