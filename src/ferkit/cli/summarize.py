"""A summary in tables for people. Imported when `ferkit summarize` runs, not when its help is shown.

`ferkit summarize`: what a table of faces says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.text import Text

from ferkit.batch import GROUPINGS, GroupSummary, Summary
from ferkit.cli.console import notes, output, print_json
from ferkit.errors import UsageError, count
from ferkit.labels import color_of
from ferkit.sources import printable_name

_MOST_GROUPS = 40
_MOST_LABELS = 3
_BAR = 24  # letters of a full bar
_FINE = 1000  # faces from which a tenth of a percent means anything


def print_summary(summary: Summary) -> None:
    """Print what there is, the share of each emotion, the groups, and the most frequent errors."""
    total = summary.total
    _say(f"{printable_name(summary.source)}: {', '.join(_amounts(total))}")
    if summary.parts_planned is not None and summary.parts < summary.parts_planned:
        _say(f"not finished: {summary.parts:,} of {summary.parts_planned:,} parts are done")
    if summary.first and summary.last:
        undated = f"; {summary.undated:,} pictures without a date" if summary.undated else ""
        _say(f"taken from {summary.first[:10]} to {summary.last[:10]}{undated}")
    if total.faces:
        _print_labels(summary)
    if summary.groups:
        _print_groups(summary)
    if summary.messages:
        _say(f"\nerrors: {total.errors:,}")
        wide = len(f"{summary.messages[0][1]:,}")
        for message, n in summary.messages:
            _say(f"  {n:>{wide},}  {printable_name(message)}")
        others = total.errors - sum(n for _, n in summary.messages)
        if others:
            _say(f"  {others:>{wide},}  others")


def share_text(share: float, faces: int) -> str:
    """A share of so many faces, in no more digits than they bear.

    >>> share_text(0.3333, 12), share_text(0.3333, 12_000)
    ('33%', '33.3%')
    """
    return f"{share:.1%}" if faces >= _FINE else f"{share:.0%}"


def _say(line: str) -> None:
    output.print(line, markup=False, soft_wrap=True)


def _amounts(group: GroupSummary) -> list[str]:
    amounts = [count(group.pictures, "picture"), count(group.faces, "face")]
    if group.without_face:
        amounts.append(f"{count(group.without_face, 'picture')} without a face")
    if group.errors:
        amounts.append(count(group.errors, "error"))
    return amounts


def _print_labels(summary: Summary) -> None:
    total, blocks = summary.total, output.encoding.lower().startswith("utf")
    rows: list[Sequence[str | Text]] = [("perceived", "faces", "share", "mean confidence", "")]
    for label, seen in sorted(total.labels.items(), key=lambda item: -item[1].faces):
        share = total.share(label) or 0.0
        bar = Text(("█" if blocks else "#") * round(share * _BAR), color_of(label))
        confidence = "" if seen.mean_confidence is None else f"{seen.mean_confidence:.2f}"
        rows.append((printable_name(label), f"{seen.faces:,}", share_text(share, total.faces), confidence, bar))
    output.print()
    _print_rows(rows)


def _print_groups(summary: Summary) -> None:
    shown = summary.groups[:_MOST_GROUPS]
    errors = any(group.errors for group in shown)
    header = (summary.by, "pictures", "faces", *(("errors",) if errors else ()), "perceived")
    rows: list[Sequence[str | Text]] = [header]
    for group in shown:
        numbers = (group.pictures, group.faces, *((group.errors,) if errors else ()))
        rows.append((_name(group.name, summary.by), *(f"{n:,}" for n in numbers), _emotions(group)))
    output.print()
    if summary.root:
        _say(f"folders below {printable_name(summary.root)}")
    _print_rows(rows)
    more = len(summary.groups) + summary.groups_left_out - len(shown)
    if more:
        _say(f"and {more:,} more (--csv has all)")


def _name(name: str, by: str) -> str:
    return printable_name(name) if name else f"no {by}"


def _emotions(group: GroupSummary) -> Text:
    ranked = sorted(group.labels.items(), key=lambda item: -item[1].faces)[:_MOST_LABELS]
    parts = [
        Text.assemble((printable_name(label), color_of(label)), f" {share_text(group.share(label) or 0, group.faces)}")
        for label, _ in ranked
    ]
    return Text("  ").join(parts)


def _print_rows(rows: Sequence[Sequence[str | Text]]) -> None:
    """Columns of text: the first to the left, numbers to the right, the last as it is.

    Not a table of Rich: that would cut words where the terminal is narrow, and in a pipe.
    """
    *numbers, _ = range(len(rows[0]))
    widths = [max(cell_len(str(row[place])) for row in rows) for place in numbers]
    for row in rows:
        cells = []
        for place, wide in zip(numbers, widths, strict=True):
            cell = str(row[place])
            blanks = " " * (wide - cell_len(cell))
            cells.append(cell + blanks if place == 0 else blanks + cell)
        line = Text("  ".join(cells) + "  ").append(row[-1])
        line.rstrip()
        output.print(line, soft_wrap=True)


def summarize(
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="Folder of ferkit batch, or a .parquet, .csv or .jsonl table; or s3://..."),
    ],
    by: Annotated[str, typer.Option(help=f"Of: {', '.join(GROUPINGS)}.")] = "label",
    depth: Annotated[
        int | None, typer.Option(min=1, help="Of --by folder: levels below what all have in common. [default: 1]")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Below this probability a face counts as 'uncertain'.")
    ] = 0.0,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a row per group, all of them.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the shares: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Count pictures, faces and errors in a table of faces, and the share of each perceived emotion.

    Example: ferkit summarize out/ --by month --plot months.png
    """
    from ferkit.batch import summarize
    from ferkit.cli.console import reading_bar

    if depth is not None and by != "folder":
        raise UsageError(f"--depth is about folders. Received: --by {by}. Add --by folder, or leave --depth out.")
    if plot is not None:
        from ferkit.batch import check_target, plot_summary

        check_target(plot)
    if csv is not None and str(csv) == "-":
        raise UsageError("--csv writes a file. For standard output take --json.")
    with reading_bar() as progress:
        summary = summarize(out, by=by, depth=depth or 1, min_confidence=min_confidence, csv=csv, progress=progress)
    if as_json:
        print_json(summary.to_dict())
    else:
        print_summary(summary)
    if plot is not None:
        plot_summary(summary, plot)
    for written in (csv, plot):
        if written is not None:
            notes.print(f"Wrote {written}", markup=False)
