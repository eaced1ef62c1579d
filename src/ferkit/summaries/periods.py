"""Days and months as a plot can show them: not too many, and without those that a broken clock says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate

from ferkit.summaries.records import GroupSummary, LabelCount

PALE = 30  # faces; shares of fewer are mostly chance
_MOST = {"day": 200, "month": 400}  # bars that can still be told apart
_LONGEST = {"day": 366, "month": 12_000}  # days of an axis on which one of them can still be seen
_ASTRAY = 0.002  # part of the faces at either end that may be left out where they would take half of the axis


@dataclass(frozen=True)
class Drawn:
    """Groups along time. spans: their first day, and the day after their last. notes: what was left out."""

    unit: str
    groups: Sequence[GroupSummary]
    spans: Sequence[tuple[date, date]]
    notes: Sequence[str]

    @property
    def between(self) -> str:
        first, last = self.groups[0].name, self.groups[-1].name
        return first if first == last else f"{first} to {last}"


def periods_of(groups: Sequence[GroupSummary], unit: str) -> Drawn:
    """Make of days or months what can be drawn. At least one group has a date."""
    dated = [group for group in groups if group.name]
    undated = sum(group.faces for group in groups if not group.name)
    kept = _without_strays(dated, unit)
    strays = sum(group.faces for group in dated) - sum(group.faces for group in kept)
    left_out = [f"{n:,} {where}" for n, where in ((undated, "without a date"), (strays, "before or after")) if n]
    notes = [f"faces not drawn: {' and '.join(left_out)}"] if left_out else []
    for coarser, letters in (("month", 7), ("year", 4)):
        if unit in _MOST and (len(kept) > _MOST[unit] or _days(kept) > _LONGEST[unit]):
            unit, kept = coarser, _merged(kept, letters)
    return Drawn(unit, kept, [_span(group.name) for group in kept], notes)


def _days(groups: Sequence[GroupSummary]) -> int:
    return (_span(groups[-1].name)[1] - _span(groups[0].name)[0]).days


def _without_strays(groups: Sequence[GroupSummary], unit: str) -> Sequence[GroupSummary]:
    days = [_span(group.name)[0].toordinal() for group in groups]
    total = sum(group.faces for group in groups)
    so_far = list(accumulate(group.faces for group in groups))
    first = next(place for place, n in enumerate(so_far) if n > _ASTRAY * total)
    last = next(place for place, n in enumerate(so_far) if n >= (1 - _ASTRAY) * total)
    return groups[first : last + 1] if days[last] - days[first] < (days[-1] - days[0]) / 2 else groups


def _merged(groups: Iterable[GroupSummary], letters: int) -> list[GroupSummary]:
    """Groups whose names begin alike as one."""
    together: dict[str, list[GroupSummary]] = {}
    for group in groups:
        together.setdefault(group.name[:letters], []).append(group)
    return [_sum(name, members) for name, members in together.items()]


def _sum(name: str, members: Sequence[GroupSummary]) -> GroupSummary:
    counts: dict[str, LabelCount] = {}
    for member in members:
        for label, count in member.labels.items():
            counts[label] = LabelCount(count.faces + (counts[label].faces if label in counts else 0), None)
    pictures, without_face, errors = (
        sum(getattr(member, field) for member in members) for field in ("pictures", "without_face", "errors")
    )
    return GroupSummary(name, pictures, without_face, errors, counts)


def _span(name: str) -> tuple[date, date]:
    """The first day of 2026, 2026-07 or 2026-07-31, and the day after its last."""
    year, month, day = (*map(int, name.split("-")), 0, 0)[:3]
    start = date(year, month or 1, day or 1)
    if day:
        end = start.toordinal() + 1
    elif month:
        end = date(year + month // 12, month % 12 + 1, 1).toordinal()
    else:
        end = date(year + 1, 1, 1).toordinal()
    return start, date.fromordinal(end)
