"""A summary of a table of faces as a report: how many, the share of each emotion, groups, errors."""

from collections.abc import Iterator

from ferkit.batch.summary import GroupSummary, Summary
from ferkit.errors import count
from ferkit.render import Block, Cell, Column, DataTable, Document, Row, Section, Text, percent
from ferkit.sources import printable_name

_MOST_GROUPS = 40
_MOST_LABELS = 3
_FINE = 1000  # faces from which a tenth of a percent means anything


def share_text(share: float, faces: int) -> str:
    """A share of so many faces, in no more digits than they bear.

    >>> share_text(0.3333, 12), share_text(0.3333, 12_000)
    ('33%', '33.3%')
    """
    return percent(share, 1 if faces >= _FINE else 0)


def summary_document(summary: Summary) -> Document:
    """What there is, the share of each emotion, the groups, and the most frequent errors."""
    total = summary.total
    said = []
    if summary.parts_planned is not None and summary.parts < summary.parts_planned:
        said.append(Text(f"not finished: {summary.parts:,} of {summary.parts_planned:,} parts are done"))
    if summary.first and summary.last:
        undated = f"; {summary.undated:,} pictures without a date" if summary.undated else ""
        said.append(Text(f"taken from {summary.first[:10]} to {summary.last[:10]}{undated}"))
    sections = [Section("", tuple(said))]
    if total.faces:
        sections.append(Section("", (_labels(total),)))
    if summary.groups:
        sections.append(Section("", tuple(_groups(summary))))
    if summary.messages:
        others = total.errors - sum(n for _, n in summary.messages)
        rows = [(printable_name(message), f"{n:,}") for message, n in summary.messages]
        rows += [("others", f"{others:,}")] if others else []
        sections.append(Section(f"errors: {total.errors:,}", (DataTable(("message", "pictures"), tuple(rows)),)))
    return Document(printable_name(summary.source), ", ".join(_amounts(total)), tuple(sections), summary.to_dict())


def _amounts(group: GroupSummary) -> list[str]:
    amounts = [count(group.pictures, "picture"), count(group.faces, "face")]
    if group.without_face:
        amounts.append(f"{count(group.without_face, 'picture')} without a face")
    if group.errors:
        amounts.append(count(group.errors, "error"))
    return amounts


def _labels(total: GroupSummary) -> DataTable:
    rows: list[Row] = []
    for label, seen in sorted(total.labels.items(), key=lambda item: -item[1].faces):
        share = total.share(label) or 0.0
        confidence = "" if seen.mean_confidence is None else f"{seen.mean_confidence:.2f}"
        bar = Cell("", bar=(share, label))
        rows.append((printable_name(label), f"{seen.faces:,}", share_text(share, total.faces), confidence, bar))
    return DataTable(("perceived", "faces", "share", "mean confidence", Column("", left=True)), tuple(rows))


def _groups(summary: Summary) -> Iterator[Block]:
    shown = summary.groups[:_MOST_GROUPS]
    errors = any(group.errors for group in shown)
    rows: list[Row] = []
    for group in shown:
        numbers = (group.pictures, group.faces, *((group.errors,) if errors else ()))
        name = printable_name(group.name) if group.name else f"no {summary.by}"
        rows.append((name, *(f"{n:,}" for n in numbers), _emotions(group)))
    if summary.root:
        yield Text(f"folders below {printable_name(summary.root)}")
    columns = (summary.by, "pictures", "faces", *(("errors",) if errors else ()), Column("perceived", left=True))
    yield DataTable(columns, tuple(rows))
    more = len(summary.groups) + summary.groups_left_out - len(shown)
    if more:
        yield Text(f"and {more:,} more (--csv has all)")


def _emotions(group: GroupSummary) -> str:
    ranked = sorted(group.labels.items(), key=lambda item: -item[1].faces)[:_MOST_LABELS]
    return "  ".join(
        f"{printable_name(label)} {share_text(group.share(label) or 0, group.faces)}" for label, _ in ranked
    )
