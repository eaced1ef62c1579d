"""People of a study: of each person how long they showed which emotion, as a tidy table with a row per person.

Windows over the frames of each video are computed by DuckDB in bounded memory; what comes back is a row per person.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from csv import writer
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit._support.registry import unknown
from ferkit.batch.summary_scan import OpenTables, Outs, Progress, label_sql, name, one_line, open_tables, quoted
from ferkit.errors import DatasetError, UsageError
from ferkit.render import csv_cell
from ferkit.sources import printable_name

# ruff: noqa: S608 - what comes from data goes into SQL through `quoted` and `name`

Row = Mapping[str, Any]
_KEYS = ("source", "track")
_FIXED = ("person", "videos", "frames", "faces", "coverage", "seconds", "transitions", "longest_label", "longest_s")


@dataclass(frozen=True)
class People:
    """A tidy table of people, and what figures and tests of a study need beside it.

    rows: of each person, and each combination of conditions that they are in: `person`, the conditions, `videos`,
        `frames`, `faces` (rows with the person), `coverage` (faces per frame), `seconds` seen, `transitions` between
        labels, `longest_label` and `longest_s` of the longest stretch, `share_LABEL` of the time, `mean_CLASS`
        probability. Tables without times have no seconds, transitions and longest stretch, and shares of the faces.
    unit: what a person is: `track`, `source` or a column of the conditions. conditions: columns of the rows.
    labels, classes: those of `share_` and of `mean_`.
    changes: of each row's person and conditions the number `n` of changes `from` a label `to` another.
    courses: mean probabilities by `time_s`, the beginning of an interval of `step_s`; empty where none was asked for.
    left_out: faces of sources that the conditions do not name.
    """

    rows: tuple[Row, ...]
    unit: str
    conditions: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    changes: tuple[Row, ...] = ()
    courses: tuple[Row, ...] = ()
    left_out: int = 0

    def write(self, target: Path, *, raw: bool = False) -> None:
        """Write the rows, .csv or .parquet. raw: keep text in a CSV that a spreadsheet runs as a formula."""
        check_people(target)
        if target.suffix.lower() == ".parquet":
            from ferkit._support.arrow import pa, pq

            with write_atomically(target) as draft:
                pq.write_table(pa.Table.from_pylist([dict(row) for row in self.rows]), draft)
        else:
            columns = list(self.rows[0]) if self.rows else list(_FIXED)
            cells = ([_rounded(cell) for cell in row.values()] for row in self.rows)
            write_csv(target, columns, cells, raw=raw)


def check_people(target: Path) -> None:
    """Raise `UsageError` for a file that the table of people cannot be written as."""
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(f"{target} is no table of people. Expected a name that ends in .csv or .parquet.")


def write_csv(target: Path, columns: Sequence[str], rows: Iterator[Sequence[Any]], *, raw: bool) -> None:
    """Write rows as they come; nothing that a spreadsheet would run unless `raw`."""
    with write_atomically(target) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = writer(file, lineterminator="\n")
        table.writerow(csv_cell(column, raw=raw) for column in columns)
        table.writerows([csv_cell(cell, raw=raw) for cell in row] for row in rows)


def _rounded(cell: Any) -> Any:
    return round(cell, 6) if isinstance(cell, float) else cell


def find_people(
    out: Outs,
    *,
    conditions: str | os.PathLike[str] | None = None,
    unit: str | None = None,
    min_confidence: float = 0.0,
    step_s: float | None = None,
    progress: Progress | None = None,
) -> People:
    """Sum up tables of faces person by person.

    A frame counts until the next one of its video, the last as long as the one before it.

    Args:
        out: tables of `ferkit video`, or of pictures; as for `summarize`.
        conditions: a .csv or .parquet file with a row for each `source`, `track`, or `track` of a `source`. A source is
            named as in the table, or by its file name.
        unit: what a person is: `track`, `source`, or a column of the conditions, by which several videos may show one
            person. None takes the column `person` if there is one, else `track`, else `source`.
        min_confidence: faces below it count as `uncertain`.
        step_s: seconds of the intervals of `courses`; None for none.
        progress: told what is read, how many tables are done, and of how many.

    Raises:
        UsageError: an unknown unit, or a column of the conditions with a name of ours.
        DatasetError: one is no table of faces, or two have the same source.
    """
    with open_tables(out, conditions) as opened:
        unit = _unit(opened, unit)
        held = tuple(one for one in opened.conditions if one not in (*_KEYS, unit, "person"))
        taken = [one for one in held if one in _FIXED or one.startswith(("share_", "mean_"))]
        if taken:
            raise UsageError(f"The conditions have a column {taken[0]}, which the table of people has too. Rename it.")
        _read_faces(opened, min_confidence, progress)
        with one_line(opened.tables[0], opened.errors):
            return _sum_up(opened, unit, held, step_s)


def _unit(opened: OpenTables, unit: str | None) -> str:
    choices = [*_KEYS, *(one for one in opened.conditions if one not in _KEYS)]
    if unit is None:
        unit = "person" if "person" in choices else "track" if any("track" in c for c in opened.columns) else "source"
    if unit not in choices:
        raise unknown("unit", unit, choices)
    return unit


def _read_faces(opened: OpenTables, min_confidence: float, progress: Progress | None) -> None:
    """Make the table `faces`: a row per face, or per frame without one, with the seconds `s` that it lasts."""
    means = "".join(f", {name(f'mean_{one}')} DOUBLE" for one in opened.classes)
    opened.connection.execute(
        "CREATE TABLE faces (number INTEGER, source VARCHAR, frame BIGINT, track BIGINT, time_s DOUBLE, label VARCHAR, "
        f"broken BOOLEAN, s DOUBLE{means})"
    )
    for number, (table, columns) in enumerate(zip(opened.tables, opened.columns, strict=True)):
        with one_line(table, opened.errors):
            opened.connection.execute(
                f"INSERT INTO faces BY NAME {_faces(number, columns, opened.classes, table.reader, min_confidence)}",
                {"files": list(table.files)},
            )
        if progress is not None:
            progress("Reading", number + 1, len(opened.tables))
    twice = opened.connection.execute(
        "SELECT source FROM faces GROUP BY source HAVING count(DISTINCT number) > 1 LIMIT 1"
    ).fetchone()
    if twice is not None:
        raise DatasetError(f"{printable_name(twice[0])} is in several of the tables. Expected each source in one.")


def _faces(number: int, columns: Sequence[str], classes: Sequence[str], reader: str, min_confidence: float) -> str:
    # What says that a video broke off has no frame, stands behind all of them, and ends the last.
    frame = f"coalesce(CAST(frame AS BIGINT), {2**62})" if "frame" in columns else "0"
    track = "coalesce(CAST(track AS BIGINT), 0)" if "track" in columns else "0"
    time_s = "CAST(time_s AS DOUBLE)" if "time_s" in columns else "NULL::DOUBLE"
    means = "".join(f", CAST({name(one)} AS DOUBLE) AS {name(f'mean_{one}')}" for one in classes if one in columns)
    return f"""
        SELECT * EXCLUDE (later, earlier), coalesce(later - time_s, time_s - earlier, 0) AS s FROM (
            SELECT *,
                first_value(time_s) OVER (PARTITION BY source ORDER BY frame
                    RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS later,
                last_value(time_s) OVER (PARTITION BY source ORDER BY frame
                    RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier
            FROM (
                SELECT {number} AS number, coalesce(CAST(source AS VARCHAR), '') AS source, {frame} AS frame,
                    {track} AS track, {time_s} AS time_s, {label_sql(min_confidence)} AS label,
                    nullif(CAST(error AS VARCHAR), '') IS NOT NULL AS broken{means}
                FROM {reader}))"""


def _sum_up(opened: OpenTables, unit: str, held: tuple[str, ...], step_s: float | None) -> People:
    ask, classes = opened.connection.execute, opened.classes
    means = [name(f"mean_{one}") for one in classes]
    # A stretch is a person's label without a break. Pictures have no order: one for each label.
    ask(
        "CREATE TABLE stretches AS WITH told AS ("
        "SELECT *, lag(label) OVER w AS before, lag(time_s + s) OVER w AS until FROM faces WHERE label IS NOT NULL "
        "WINDOW w AS (PARTITION BY source, track ORDER BY frame)), "
        "begun AS (SELECT *, sum(CASE WHEN time_s IS NULL OR before = label AND abs(time_s - until) < 1e-6 THEN 0 "
        "ELSE 1 END) OVER (PARTITION BY source, track ORDER BY frame) AS stretch FROM told) "
        "SELECT source, track, label, stretch, arg_min(before, frame) AS before, sum(s) AS seconds, count(*) AS faces, "
        f"count(time_s) > 0 AS timed{''.join(f', sum(s * {one}) AS s_{n}, sum({one}) AS p_{n}' for n, one in enumerate(means))} "
        "FROM begun GROUP BY source, track, label, stretch"
    )
    person = {"track": "source || CASE WHEN track > 0 THEN ' #' || track ELSE '' END", "source": "source"}.get(unit)
    columns = [f"{person or opened.condition_of(unit)} AS person"]
    columns += [f"{opened.condition_of(one)} AS {name(one)}" for one in held]
    key = next((f"{opened.condition_of(one)} IS NOT NULL" for one in _KEYS if one in opened.conditions), "true")
    named = ", ".join(["person", *map(name, held)])
    ask(
        f"CREATE TABLE all_who AS SELECT source, track, {', '.join(columns)}, {key} AS known "
        "FROM (SELECT DISTINCT source, track FROM stretches) AS told"
    )
    ask(
        f"CREATE TABLE who AS SELECT *, dense_rank() OVER (ORDER BY {named}) AS grp FROM all_who "
        "WHERE known AND person IS NOT NULL"
    )
    left_out, example = ask(
        "SELECT coalesce(sum(faces), 0)::BIGINT, min(source) FROM stretches ANTI JOIN who USING (source, track)"
    ).fetchone()
    if left_out and not ask("SELECT count(*) FROM who").fetchone()[0]:
        raise DatasetError(
            f"The conditions name no source and track of {opened.name}. Expected such as {printable_name(example)}."
        )
    found = ask("SELECT DISTINCT label FROM stretches JOIN who USING (source, track) ORDER BY 1").fetchall()
    labels = (*classes, *(label for (label,) in found if label not in classes))
    of_group = f"(SELECT DISTINCT grp, {named} FROM who)"
    rows = _rows(
        ask(
            "WITH seen AS (SELECT grp, sum(frames) AS frames, count(*) AS videos FROM (SELECT DISTINCT grp, source FROM who) "
            "JOIN (SELECT source, count(DISTINCT frame) FILTER (NOT broken) AS frames FROM faces GROUP BY source) "
            "USING (source) GROUP BY grp), "
            f"summed AS (SELECT grp, {_summed(labels, classes)} FROM stretches JOIN who USING (source, track) GROUP BY grp) "
            f"SELECT {named}, videos, frames::BIGINT AS frames, faces, least(1.0, faces / frames) AS coverage, "
            f"summed.* EXCLUDE (grp, faces) FROM summed JOIN seen USING (grp) JOIN {of_group} USING (grp) ORDER BY grp"
        )
    )
    changes = _rows(
        ask(
            f'SELECT {named}, before AS "from", label AS "to", count(*) AS n FROM stretches JOIN who USING (source, track) '
            "WHERE timed AND before <> label GROUP BY ALL ORDER BY ALL"
        )
    )
    courses: tuple[Row, ...] = ()
    if step_s is not None:
        lasting = ", ".join(f"sum({one} * greatest(s, 1e-9)) / sum(greatest(s, 1e-9)) AS {one}" for one in means)
        courses = _rows(
            ask(
                f"SELECT {named}, floor(time_s / {step_s!r} + 1e-9) * {step_s!r} AS time_s, {lasting} FROM faces "
                "JOIN who USING (source, track) WHERE label IS NOT NULL AND time_s IS NOT NULL "
                f"GROUP BY ALL ORDER BY {named}, time_s"
            )
        )
    return People(rows, unit, held, labels, classes, changes, courses, left_out)


def _summed(labels: Sequence[str], classes: Sequence[str]) -> str:
    """SQL of the columns of one person, from stretches."""
    timed = "bool_or(timed)"
    columns = [
        "sum(faces)::BIGINT AS faces",
        f"CASE WHEN {timed} THEN sum(seconds) END AS seconds",
        f"CASE WHEN {timed} THEN count(*) FILTER (before <> label) END AS transitions",
        f"CASE WHEN {timed} THEN arg_max(label, seconds) END AS longest_label",
        f"CASE WHEN {timed} THEN max(seconds) END AS longest_s",
    ]
    for label in labels:
        timed, counted = (
            f"coalesce(sum({what}) FILTER (label = {quoted(label)}), 0) / sum({what})" for what in ("seconds", "faces")
        )
        columns.append(_by_time(timed, counted, f"share_{label}"))
    for n, one in enumerate(classes):
        columns.append(_by_time(f"sum(s_{n}) / sum(seconds)", f"sum(p_{n}) / sum(faces)", f"mean_{one}"))
    return ", ".join(columns)


def _by_time(timed: str, counted: str, called: str) -> str:
    # A single frame has no duration.
    return f"CASE WHEN sum(seconds) > 0 THEN {timed} ELSE {counted} END AS {name(called)}"


def _rows(found: Any) -> tuple[Row, ...]:
    columns = [column[0] for column in found.description]
    return tuple(dict(zip(columns, row, strict=True)) for row in found.fetchall())
