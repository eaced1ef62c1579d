"""What a table of faces says: pictures, faces, errors, and the share of each perceived emotion, by folder or time."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ferkit.errors import UsageError
from ferkit.summaries.groupings import GROUPINGS as GROUPINGS
from ferkit.summaries.records import GroupSummary as GroupSummary
from ferkit.summaries.records import LabelCount as LabelCount
from ferkit.summaries.records import Summary as Summary

if TYPE_CHECKING:
    from ferkit.summaries.scan import Progress


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
    from ferkit.sinks import CsvTable, check_ending
    from ferkit.summaries.answers import answered
    from ferkit.summaries.scan import counted

    if csv is not None:
        check_ending(Path(csv), CsvTable)

    with counted(
        out, key=grouping.key, dated=grouping.timed, min_confidence=float(min_confidence), progress=progress
    ) as counts:
        return answered(counts, by, depth=depth, csv=csv)
