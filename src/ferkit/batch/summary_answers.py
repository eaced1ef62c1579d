"""Answers from counts: a summary, its CSV, and its report."""

import os
from collections.abc import Iterator
from os.path import commonprefix
from pathlib import Path

from ferkit._support.registry import unknown
from ferkit.batch.people import write_csv
from ferkit.batch.summary import GROUPINGS, Grouping, GroupSummary, LabelCount, Summary
from ferkit.batch.summary_scan import Counts, OpenTables, Outs, Progress, counted, name, open_tables, quoted
from ferkit.errors import DatasetError, UsageError, count
from ferkit.render import (
    Block,
    Cell,
    Column,
    CsvTable,
    DataTable,
    Document,
    Row,
    Section,
    Text,
    check_ending,
    percent,
)
from ferkit.sources import printable_name

# ruff: noqa: S608 - what comes from data goes into SQL through `quoted` and `name`


# More than people read; the CSV has all.
MOST_GROUPS = 10_000
_MOST_LABELS = 1000
_ROWS_AT_ONCE = 10_000
_MOST_MESSAGES = 10
_FACES = "coalesce(sum(n) FILTER (label IS NOT NULL), 0)::BIGINT"
_WITHOUT_FACE = "coalesce(sum(n) FILTER (label IS NULL AND message IS NULL), 0)::BIGINT"
_ERRORS = "coalesce(sum(n) FILTER (message IS NOT NULL), 0)::BIGINT"
_SHOWN_GROUPS = 40
_SHOWN_LABELS = 3
_FINE = 1000  # faces from which a tenth of a percent means anything


def summarize(
    out: Outs,
    *,
    conditions: str | os.PathLike[str] | None = None,
    by: str = "label",
    depth: int = 1,
    min_confidence: float = 0.0,
    csv: Path | None = None,
    raw: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Count what is in a table of faces: what `ferkit batch` wrote, or a file of `ferkit predict` or `ferkit video`.

    Rows are read once and never held: memory stays flat however many there are.

    Args:
        out: a batch's folder, or a .parquet, .csv, .csv.gz or .jsonl file; local or an address such as s3://; or several.
        conditions: a .csv or .parquet file with a row for each `source`, `track`, or `track` of a `source`, such as the
            condition of a study.
        by: one of `GROUPINGS`, or a column of `conditions`.
        depth: of folders, how many levels below what all have in common.
        min_confidence: faces below it count as `uncertain`.
        csv: where to write a row per group, all of them.
        raw: keep text in the CSV as it is, even what a spreadsheet runs as a formula.
        progress: told what is read, how many files are done, and of how many.

    Raises:
        UsageError: an unknown grouping, or a value or the name of a file that makes no sense.
        DatasetError: `out` is no table of faces or cannot be read. FerkitError: the CSV cannot be written.
        MissingDependencyError: DuckDB, fsspec or what an address needs is not installed.
    """
    grouping = None if conditions is not None and by not in GROUPINGS else GROUPINGS[by]
    if depth < 1:
        raise UsageError(f"depth must be at least 1. Received: {depth}.")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"min_confidence must be from 0 to 1. Received: {min_confidence}.")
    if csv is not None:
        check_ending(Path(csv), CsvTable)

    with open_tables(out, conditions) as opened:
        grouping = grouping or _condition(opened, by)
        with counted(
            opened,
            key=grouping.key,
            dated=grouping.timed,
            tracked=grouping.tracked,
            min_confidence=float(min_confidence),
            progress=progress,
        ) as counts:
            return _answered(counts, by, grouping, depth=depth, csv=csv, raw=raw)


def _condition(opened: OpenTables, column: str) -> Grouping:
    if column not in opened.conditions:
        raise unknown("grouping", column, [*GROUPINGS, *opened.conditions])
    return Grouping("by condition", opened.condition_of(column), tracked="track" in opened.conditions)


def _answered(counts: Counts, by: str, grouping: Grouping, *, depth: int, csv: Path | None, raw: bool) -> Summary:
    """Ask all questions; write the CSV where one is wanted."""
    ask, tables = counts.connection.execute, counts.opened.tables
    root = _name_groups(counts, grouping, depth)
    labels = _labels(counts)
    if csv is not None:
        _write_csv(counts, by, labels, csv, raw)
    (total,) = _groups(counts, labels, "''", "grp", 1) or [GroupSummary("", 0, 0, 0, {})]
    groups: list[GroupSummary] = []
    if by != "label":
        groups = _groups(counts, labels, "name", "faces DESC, pictures DESC, grp", MOST_GROUPS)
    if grouping.timed:
        groups.sort(key=lambda group: (not group.name, group.name))
    first, last, undated, names = ask(
        "SELECT strftime(min(first), '%Y-%m-%dT%H:%M:%S'), strftime(max(last), '%Y-%m-%dT%H:%M:%S'), "
        "coalesce(sum(undated), 0)::BIGINT, count(DISTINCT name) FROM named"
    ).fetchone()
    messages = ask(
        f"SELECT message, sum(n)::BIGINT FROM named WHERE message IS NOT NULL "
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_MOST_MESSAGES}"
    ).fetchall()
    return Summary(
        source=counts.opened.name,
        parts=sum(len(table.files) for table in tables),
        parts_planned=None
        if any(table.planned is None for table in tables)
        else sum(table.planned or 0 for table in tables),
        classes=counts.opened.classes,
        min_confidence=counts.min_confidence,
        total=total,
        first=first,
        last=last,
        undated=undated,
        messages=tuple(messages),
        by=by,
        root=root,
        groups=tuple(groups),
        groups_left_out=names - len(groups) if groups else 0,
    )


def _name_groups(counts: Counts, grouping: Grouping, depth: int) -> str:
    """Put groups of one name together, as the table `named`; return what all folders have in common."""
    ask = counts.connection.execute
    root = ""
    if "$root" in grouping.name:
        root = _common(*ask("SELECT coalesce(min(grp), ''), coalesce(max(grp), '') FROM counts").fetchone())
    shown = grouping.name.replace("$depth", str(depth)).replace("$root", quoted(root))
    ask(
        f"CREATE TABLE named AS SELECT coalesce({shown}, '') AS name, label, message, sum(n)::BIGINT AS n, "
        "sum(pictures)::BIGINT AS pictures, sum(confidence) AS confidence, min(first) AS first, max(last) AS last, "
        "sum(undated)::BIGINT AS undated FROM counts GROUP BY ALL"
    )
    return root


def _common(first: str, last: str) -> str:
    """The folder that all are in, told from the first and the last of them in alphabetical order.

    >>> _common("/photos/2024/05", "/photos/2025/01")
    '/photos'
    """
    shared = commonprefix([first, last])  # noqa: RUF071 - what follows cuts at the slash, and addresses have two
    if all(folder[len(shared) :][:1] in ("", "/") for folder in (first, last)):
        return shared
    return shared.rpartition("/")[0]


def _labels(counts: Counts) -> list[str]:
    """Those of the faces: the model's classes in its order, then what else there is."""
    select = f"SELECT DISTINCT label FROM named WHERE label IS NOT NULL ORDER BY 1 LIMIT {_MOST_LABELS + 1}"
    found = [row[0] for row in counts.connection.execute(select).fetchall()]
    if len(found) > _MOST_LABELS:
        raise DatasetError(
            f"{counts.opened.name} has more than {_MOST_LABELS:,} labels, such as "
            f"{printable_name(found[0])}. Expected emotions in the column label."
        )
    classes = counts.opened.classes
    return [*classes, *(label for label in found if label not in classes)]


def _groups(counts: Counts, labels: list[str], group: str, order: str, most: int) -> list[GroupSummary]:
    rows = counts.connection.execute(
        "WITH by_label AS ("
        f"SELECT {group} AS grp, label, sum(n)::BIGINT AS n, sum(pictures)::BIGINT AS pictures, "
        f"sum(confidence) / sum(n) AS mean, {_WITHOUT_FACE} AS without_face, {_ERRORS} AS errors "
        "FROM named GROUP BY ALL) "
        "SELECT grp, sum(pictures)::BIGINT AS pictures, sum(without_face)::BIGINT, sum(errors)::BIGINT, "
        f"list({{'label': label, 'n': n, 'mean': mean}}) FILTER (label IS NOT NULL), {_FACES} AS faces "
        f"FROM by_label GROUP BY grp ORDER BY {order} LIMIT {most}"
    ).fetchall()
    place = {label: number for number, label in enumerate(labels)}
    summaries = []
    for called, pictures, without_face, errors, found, _ in rows:
        told = sorted(found or (), key=lambda one: place[one["label"]])
        counted = {one["label"]: LabelCount(one["n"], one["mean"]) for one in told}
        summaries.append(GroupSummary(called, pictures, without_face, errors, counted))
    return summaries


def _write_csv(counts: Counts, by: str, labels: list[str], target: Path, raw: bool) -> None:
    """A row per group, all of them, as DuckDB gives them."""
    if by == "label":
        select = (
            "SELECT label, sum(n)::BIGINT AS faces, round(sum(n) / sum(sum(n)) OVER (), 6) AS share, "
            "round(sum(confidence) / sum(n), 4) AS mean_confidence FROM named WHERE label IS NOT NULL GROUP BY label ORDER BY faces DESC"
        )
    else:
        each = (f"coalesce(sum(n) FILTER (label = {quoted(label)}), 0)::BIGINT AS {name(label)}" for label in labels)
        select = (
            f"SELECT nullif(name, '') AS {name(by)}, sum(pictures)::BIGINT AS pictures, {_WITHOUT_FACE} AS pictures_without_face, "
            f"{_ERRORS} AS errors, {_FACES} AS faces, round(sum(confidence) / nullif({_FACES}, 0), 4) AS mean_confidence, "
            f"{', '.join(each)} FROM named GROUP BY named.name ORDER BY named.name"
        )
    found = counts.connection.execute(select)
    columns = [column[0] for column in found.description or ()]
    write_csv(
        target, columns, (row for rows in iter(lambda: found.fetchmany(_ROWS_AT_ONCE), []) for row in rows), raw=raw
    )


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
        sections.append(Section("", (_label_table(total),)))
    if summary.groups:
        sections.append(Section("", tuple(_group_blocks(summary))))
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


def _label_table(total: GroupSummary) -> DataTable:
    rows: list[Row] = []
    for label, seen in sorted(total.labels.items(), key=lambda item: -item[1].faces):
        share = total.share(label) or 0.0
        confidence = "" if seen.mean_confidence is None else f"{seen.mean_confidence:.2f}"
        bar = Cell("", bar=(share, label))
        rows.append((printable_name(label), f"{seen.faces:,}", share_text(share, total.faces), confidence, bar))
    return DataTable(("perceived", "faces", "share", "mean confidence", Column("", left=True)), tuple(rows))


def _group_blocks(summary: Summary) -> Iterator[Block]:
    shown = summary.groups[:_SHOWN_GROUPS]
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
    ranked = sorted(group.labels.items(), key=lambda item: -item[1].faces)[:_SHOWN_LABELS]
    return "  ".join(
        f"{printable_name(label)} {share_text(group.share(label) or 0, group.faces)}" for label, _ in ranked
    )
