"""Summaries of tables of faces: pictures, faces, errors, and the share of each perceived emotion, by folder or time."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferkit._support.registry import Registry
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from ferkit.batch.summary_scan import Progress


@dataclass(frozen=True)
class Grouping:
    """What pictures are put together by.

    key: SQL of a row's group, made of `source` and `taken`. name: SQL of what it is called, made of `grp`; `$root` and
    `$depth` stand for what is common to all folders, and for how many levels below count. timed: groups come in order
    of time; else the largest come first.
    """

    help: str
    key: str
    name: str = "grp"
    timed: bool = False


# Archives count as folders. Backslashes divide where there is no slash: a table may come from Windows.
_AS_PATH = r"CASE WHEN contains(source, '/') THEN source ELSE replace(source, '\', '/') END"
_BELOW_ROOT = "string_split(ltrim(substr(grp, length($root) + 1), '/'), '/')[:$depth]"
GROUPINGS: Registry[Grouping] = Registry.of(
    "grouping",
    {
        "label": Grouping("all pictures together", "''"),
        "folder": Grouping(
            "by folder of the source, archives included",
            f"parse_dirpath(replace({_AS_PATH}, '::', '/'))",
            f"coalesce(nullif(array_to_string({_BELOW_ROOT}, '/'), ''), '.')",
        ),
        "day": Grouping("by the day they were taken (EXIF)", "CAST(taken AS DATE)", timed=True),
        "month": Grouping(
            "by the month they were taken (EXIF)", "CAST(date_trunc('month', taken) AS DATE)", "grp[:7]", timed=True
        ),
    },
)


@dataclass(frozen=True)
class LabelCount:
    """How many faces have a label, and the mean of the confidence in it (None where no row has one)."""

    faces: int
    mean_confidence: float | None


@dataclass(frozen=True)
class GroupSummary:
    """What is in some pictures. name: the folder, day (2026-07-31) or month; "" for pictures without a date.

    labels: of those that occur, in the order of the classes.
    """

    name: str
    pictures: int
    without_face: int
    errors: int
    labels: Mapping[str, LabelCount]

    @property
    def faces(self) -> int:
        return sum(count.faces for count in self.labels.values())

    def share(self, label: str) -> float | None:
        """Part of the faces that has the label; None where there are no faces."""
        count = self.labels.get(label)
        return (count.faces if count else 0) / self.faces if self.faces else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "faces": self.faces,
            "pictures_without_face": self.without_face,
            "errors": self.errors,
            "labels": {
                label: {"faces": count.faces, "share": self.share(label), "mean_confidence": count.mean_confidence}
                for label, count in self.labels.items()
            },
        }


@dataclass(frozen=True)
class Summary:
    """Answers about a table of faces.

    source: the table. parts: its files; parts_planned: how many the batch will have, or None for other tables. classes:
    of the model, in its order. total: all of it; `total.name` is "". first, last: when the earliest and the latest
    picture was taken, as ISO 8601 without time zone, or None; undated: pictures that do not say.
    messages: the most frequent errors, without the names of the pictures. groups: at most 10,000; groups_left_out: how
    many more there are. root: what all folders have in common.
    """

    source: str
    parts: int
    parts_planned: int | None
    classes: tuple[str, ...]
    min_confidence: float
    total: GroupSummary
    first: str | None
    last: str | None
    undated: int
    messages: tuple[tuple[str, int], ...]
    by: str
    root: str = ""
    groups: tuple[GroupSummary, ...] = ()
    groups_left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What `ferkit summarize --json` prints."""
        return {
            "source": self.source,
            "parts": {"done": self.parts, "planned": self.parts_planned},
            "classes": list(self.classes),
            "min_confidence": self.min_confidence,
            **self.total.to_dict(),
            "taken": {"first": self.first, "last": self.last, "pictures_without": self.undated},
            "messages": [{"message": message, "n": n} for message, n in self.messages],
            "by": self.by,
            "root": self.root,
            "groups": [{"group": group.name, **group.to_dict()} for group in self.groups],
            "groups_left_out": self.groups_left_out,
        }


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


def summarize(
    out: str | os.PathLike[str],
    *,
    by: str = "label",
    depth: int = 1,
    min_confidence: float = 0.0,
    csv: Path | None = None,
    progress: "Progress | None" = None,
) -> Summary:
    """Count what is in a table of faces: what `ferkit batch` wrote, or a file of `ferkit predict` or `ferkit video`.

    Rows are read once and never held: memory stays flat however many there are.

    Args:
        out: a batch's folder, or a .parquet, .csv, .csv.gz or .jsonl file; local or an address such as s3://.
        by: one of `GROUPINGS`.
        depth: of folders, how many levels below what all have in common.
        min_confidence: faces below it count as `uncertain`.
        csv: where to write a row per group, all of them.
        progress: told what is read, how many files are done, and of how many.

    Raises:
        UsageError: an unknown grouping, or a value or the name of a file that makes no sense.
        DatasetError: `out` is no table of faces or cannot be read. FerkitError: the CSV cannot be written.
        MissingDependencyError: DuckDB, fsspec or what an address needs is not installed.
    """
    grouping = GROUPINGS[by]
    if depth < 1:
        raise UsageError(f"depth must be at least 1. Received: {depth}.")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"min_confidence must be from 0 to 1. Received: {min_confidence}.")
    from ferkit.batch.summary_answers import answered
    from ferkit.batch.summary_scan import counted
    from ferkit.render import CsvTable, check_ending

    if csv is not None:
        check_ending(Path(csv), CsvTable)

    with counted(
        out, key=grouping.key, dated=grouping.timed, min_confidence=float(min_confidence), progress=progress
    ) as counts:
        return answered(counts, by, depth=depth, csv=csv)
