"""`ferkit summarize`: emotion shares of a table of faces."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from ferkit.batch import GROUPINGS
from ferkit.cli.console import notes, output, print_json, said_once
from ferkit.cli.options import Raw
from ferkit.errors import UsageError, count

# That of evaluation, whose import brings Matplotlib.
Chart: TypeAlias = Literal["shares", "timeline", "transitions", "people"]


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
    compare: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Test whether people differ between the conditions in this column."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV table with a row per group.")] = None,
    raw: Raw = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot the shares, or --chart: .png, .svg or .pdf.")
    ] = None,
    chart: Annotated[
        Chart | None,
        typer.Option(help="Plot people: shares with intervals, their timeline, transitions, or each of them."),
    ] = None,
    step: Annotated[float, typer.Option(metavar="S", min=0.01, help="Seconds per point of --chart timeline.")] = 1.0,
    figure_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Width and height of the plot in inches, such as 7x4.")
    ] = None,
    font_size: Annotated[
        float | None, typer.Option(metavar="PT", min=4, max=40, help="Size of the text in the plot in points.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Summarize results: emotion shares by folder, time or person.

    Example: ferkit summarize out/ --by month --plot months.png
    """
    from ferkit.batch import check_people, find_people, summarize, summary_document
    from ferkit.cli.console import reading_bar
    from ferkit.render import Look, Terminal, check_plot

    if depth is not None and by != "folder":
        raise UsageError(f"--depth needs --by folder. Received: --by {by}. Add --by folder, or omit --depth.")
    if compare is not None and conditions is None:
        raise UsageError("--compare needs --conditions, a table that has this column. Add one, or omit --compare.")
    if plot is not None:
        check_plot(plot)
    elif chart or figure_size or font_size:
        raise UsageError("--chart, --figure-size and --font-size need --plot. Add it, or omit them.")
    look = Look.of(figure_size, font_size)
    if csv is not None and str(csv) == "-":
        raise UsageError("--csv writes a file. For standard output use --json.")
    if people is not None:
        check_people(people)
    elif unit is not None and compare is None and chart is None:
        raise UsageError("--unit needs --people, --compare or --chart. Add one, or omit --unit.")
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
    document, comparison, study = summary_document(summary), None, None
    if people is not None or compare is not None or chart is not None:
        with reading_bar() as progress:
            study = find_people(
                out,
                conditions=conditions,
                unit=unit,
                min_confidence=min_confidence,
                step_s=step if chart == "timeline" else None,
                progress=progress,
            )
        if study.left_out:
            notes.print(f"Left out: {count(study.left_out, 'face')} of sources that {conditions} does not name.")
    if study is not None and compare is not None:
        from ferkit.evaluation import compare_conditions

        comparison = compare_conditions(study.rows, compare)
        sections = (*document.sections, *comparison.sections())
        document = replace(document, sections=sections, data={**document.data, "comparison": comparison.to_dict()})
    if study is not None and people is not None:
        study.write(people, raw=raw)
    if as_json:
        print_json(document.data)
    else:
        output.print(Terminal(document), soft_wrap=True)
    if plot is not None and chart is not None and study is not None:
        from ferkit.evaluation import plot_study  # brings Matplotlib

        plot_study(study, chart, plot, column=compare, comparison=comparison, look=look)
    elif plot is not None:
        from ferkit.batch import plot_summary

        plot_summary(summary, plot, look=look)
    for written in (people, csv, plot):
        if written is not None:
            notes.print(f"Wrote {written}", markup=False)
