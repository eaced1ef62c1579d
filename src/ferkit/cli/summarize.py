"""`ferkit summarize`: emotion shares of a table of faces."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.batch import GROUPINGS
from ferkit.cli.console import notes, output, print_json, said_once
from ferkit.cli.options import Raw
from ferkit.errors import UsageError


@said_once()  # tables may be read twice
def summarize(
    out: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE...",
            help="Folders of ferkit batch, .parquet, .csv or .jsonl tables, s3://..., or exports of py-feat, iMotions, deepface or fer.",
        ),
    ],
    by: Annotated[str, typer.Option(help=f"Group by: {', '.join(GROUPINGS)}, or a column of --conditions.")] = "label",
    conditions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .csv or .parquet table that says more of each `source`, `track`, or both."
        ),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="With --by folder: folder depth below the common parent. [default: 1]")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Below this probability a face counts as 'uncertain'.")
    ] = 0.0,
    people: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a tidy table with a row per person, .csv or .parquet.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="What a person is: track, source, or a column of --conditions. [default: person, track or source]",
            show_default=False,
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV table with a row per group.")] = None,
    raw: Raw = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot the shares: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Summarize results: emotion shares by folder, time or person.

    Example: ferkit summarize out/ --by month --plot months.png
    """
    from ferkit.batch import check_people, summarize, summary_document
    from ferkit.batch import people as find_people
    from ferkit.cli.console import reading_bar
    from ferkit.render import Terminal, check_plot

    if depth is not None and by != "folder":
        raise UsageError(f"--depth needs --by folder. Received: --by {by}. Add --by folder, or omit --depth.")
    if plot is not None:
        check_plot(plot)
    if csv is not None and str(csv) == "-":
        raise UsageError("--csv writes a file. For standard output use --json.")
    if people is not None:
        check_people(people)
    elif unit is not None:
        raise UsageError("--unit needs --people. Add one, or omit --unit.")
    with reading_bar() as progress:
        summary = summarize(
            out,
            conditions=conditions,
            by=by,
            depth=depth or 1,
            min_confidence=min_confidence,
            csv=csv,
            raw=raw,
            progress=progress,
        )
    if people is not None:
        with reading_bar() as progress:
            study = find_people(out, conditions=conditions, unit=unit, min_confidence=min_confidence, progress=progress)
        study.write(people, raw=raw)
    if as_json:
        print_json(summary.to_dict())
    else:
        output.print(Terminal(summary_document(summary)), soft_wrap=True)
    if plot is not None:
        from ferkit.batch import plot_summary  # brings Matplotlib

        plot_summary(summary, plot)
    for written in (people, csv, plot):
        if written is not None:
            notes.print(f"Wrote {written}", markup=False)
