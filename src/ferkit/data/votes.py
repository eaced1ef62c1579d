"""FER+ votes joined to FER-2013: what ten people saw in each face, as soft targets.

Barsoum, Zhang, Ferrer and Zhang 2016, "Training deep networks for facial expression recognition with crowd-sourced
label distribution". Their CSV has one row per row of the FER-2013 CSV, in the same order: eight emotions, "unknown" and
"NF" (not a face). Joined to FER-2013's own labels, its seven emotions are kept and each row is divided by its sum;
contempt, unknown and NF are left out, having no place among the seven classes.

In the literature FER+ is a data set of its own: eight classes, contempt among them, labelled by the majority.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data.csv_columns import usage_name
from ferkit.data.records import FaceTable
from ferkit.errors import DatasetError
from ferkit.labels import WITH_CONTEMPT, canonical
from ferkit.sources import is_there, missing, open_file


@dataclass(frozen=True)
class Votes:
    """What people saw in the faces of a table.

    targets: float32 (N, classes), rows sum to 1. given: bool (N,), False where nobody voted for any of the classes and
    the row is the label.
    """

    targets: npt.NDArray[np.float32]
    given: npt.NDArray[np.bool_]


_EXPECTED = (
    "Expected FER+ votes: Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def join_votes(table: FaceTable, path: Path, source: str) -> tuple[Votes, str]:
    """The votes on the faces of a table, as soft targets, and a note about them.

    A face without a vote for any of its classes keeps its label, as 1 for it and 0 for the others.
    Raises `DatasetError` when the votes are not those of this set: other classes, another number of rows, or a row
    whose Usage differs.
    """
    counts = _counts(table, path, source, table.classes)
    total = counts.sum(axis=1, keepdims=True)
    without = total[:, 0] == 0
    votes = counts / np.maximum(total, 1)
    votes[without, table.labels[without]] = 1
    agree = float((votes.argmax(axis=1) == table.labels)[~without].mean()) if not without.all() else 0.0
    note = (
        "FER+ votes joined: contempt, unknown and 'no face' left out, rows divided by their sum. "
        f"{int(without.sum()):,} faces have no vote for any of the {len(table.classes)} classes and keep their label. "
        f"The label is the FER+ majority label on {agree:.0%} of the others."
    )
    return Votes(votes.astype(np.float32), ~without), note


# The columns of published votes, in their order.
VOTED = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "nf")


def majority(counts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What most voters said, and whether it counts, by the authors' code (microsoft/FERPlus, mode "majority").

    Single votes do not count. The label is what more than half of the other votes are for, those for unknown and "not a
    face" among them; it counts if it is an emotion. counts: (N, 10), the last two columns unknown and not a face.
    """
    counts = np.where(counts > 1, counts, 0)
    most = counts.argmax(axis=1)
    return most, (counts.max(axis=1) > counts.sum(axis=1) / 2) & (most < len(WITH_CONTEMPT))


def relabelled(table: FaceTable, path: Path, source: str) -> tuple[FaceTable, Votes, str]:
    """The faces with FER+'s eight classes as the literature has them, the votes as soft targets, and a note.

    The label is what `majority` says; faces without one are left out. Raises `DatasetError` as `join_votes`.
    """
    counts = _counts(table, path, source, (*WITH_CONTEMPT, "unknown", "nf"))
    most, kept = majority(counts)
    votes = np.where(counts > 1, counts, 0)[kept, : len(WITH_CONTEMPT)]
    note = (
        f"Labels are FER+'s: {', '.join(WITH_CONTEMPT)}, by the majority of votes. {int((~kept).sum()):,} of {len(kept):,} faces "
        "without a majority, or whose majority says unknown or no face, are left out."
    )
    chosen = replace(
        table,
        images=table.images[kept],
        labels=most[kept].astype(np.int64),
        splits=table.splits[kept],
        rows=table.rows[kept],
        prints=table.prints[kept],
        together=table.together[kept],
        classes=WITH_CONTEMPT,
    )
    shares = (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
    return chosen, Votes(shares, np.ones(len(shares), np.bool_)), note


def _counts(table: FaceTable, path: Path, source: str, classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Votes for each class on each face of a table, (N, classes), after the checks that `join_votes` tells of."""
    if not is_there(path):
        raise missing(path)
    if table.form != "csv":
        raise DatasetError(
            f"FER+ votes are joined by row to the FER-2013 CSV, whose order they have. {source} is of the form "
            f"{table.form}; give the CSV."
        )
    counts, usages = _read(path, classes)
    rows = len(table.images) + len(table.broken)
    # Many copies of FER-2013 end before PrivateTest, while FER+ has votes for it: that surplus does no harm. Any other
    # difference means rows that were moved, and faces that would get others' votes.
    surplus = set(usages[rows:])
    if len(counts) < rows or (surplus and ("" in surplus or surplus & set(table.split_names))):
        raise DatasetError(
            f"{path} has {len(counts):,} rows of votes, {source} has {rows:,} faces. Expected one row per row of the "
            "CSV, in the same order."
        )
    for position, row in enumerate(table.rows):
        published = table.split_names[table.splits[position]]
        if published and usages[row] and usages[row] != published:
            raise DatasetError(
                f"{path}, row {row + 2}: Usage is {usages[row]}, but the face of {source} is of {published}. Expected "
                "the same order in both."
            )
    return counts[table.rows]


def _rows(lines: Sequence[str], path: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines)
    except csv.Error as problem:  # a field without an end, for instance
        raise DatasetError(f"{path} is not a table of votes ({problem}). {_EXPECTED}.") from problem


def _read(path: Path, classes: Sequence[str]) -> tuple[npt.NDArray[np.float64], list[str]]:
    with open_file(path) as (stream, _):
        lines = stream.read(1 << 28).decode("utf-8-sig", "replace").splitlines()
    rows = _rows(lines, path)
    header = [canonical(name) for name in next(rows, [])]
    absent = [name for name in classes if name not in header]
    if absent:
        raise DatasetError(f"{path} has no column for {', '.join(absent)}. {_EXPECTED}.")
    columns = [header.index(name) for name in classes]
    usage = header.index("usage") if "usage" in header else None
    counts: list[list[float]] = []
    usages: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            counts.append([float(row[column]) for column in columns])
            usages.append(usage_name(row[usage]) if usage is not None else "")
        except (ValueError, IndexError):
            raise DatasetError(
                f"{path}, row {number}: {','.join(row)[:60]!r} is not a row of votes. {_EXPECTED}."
            ) from None
    array = np.array(counts, np.float64).reshape(-1, len(classes))
    if not np.isfinite(array).all() or (array < 0).any():
        bad = int(np.flatnonzero(~(np.isfinite(array) & (array >= 0)).all(axis=1))[0])
        raise DatasetError(f"{path}, row {bad + 2}: votes must be numbers from 0 up. Received: {array[bad].tolist()}.")
    return array, usages
