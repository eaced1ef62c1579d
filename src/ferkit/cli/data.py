"""`ferkit data`: what is in a data set, before anything is trained on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.label_issues import Wanted, show, write
from ferkit.cli.options import Data, DropDuplicates, Raw, Split, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferkit.data import Dataset
    from ferkit.training import LabelIssues


def data(
    source: Data,
    split: Split = "official",
    votes: Annotated[Path | None, typer.Option(help="FER+ votes (CSV) to join to a FER-2013 CSV.")] = None,
    drop_duplicates: DropDuplicates = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Invalid rows are reported but are no failure.")
    ] = False,
    sheet: Annotated[Path, typer.Option(help="Where to draw the contact sheet: some faces of every class.")] = Path(
        "contact_sheet.png"
    ),
    label_issues: Annotated[
        str | None,
        typer.Option(
            "--label-issues",
            metavar="N|FILE.csv",
            help="Find likely label errors (confident learning): list N, or write all to a CSV.",
        ),
    ] = None,
    suspects: Annotated[str | None, typer.Option(hidden=True, help="An earlier name of --label-issues.")] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="With --label-issues: use this model's predictions instead of training; it must not have been trained on the faces. Repeatable.",
        ),
    ] = None,
    among: Annotated[
        str | None,
        typer.Option(
            help="With --label-issues: split to check, or all. [default: all; with --predictions: not training]"
        ),
    ] = None,
    folds_in: Annotated[
        Path | None, typer.Option(help="With --label-issues: folder of the trained networks. [default: in runs/]")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="With --label-issues: number of cross-validation folds.")] = None,
    epochs: Annotated[int | None, typer.Option(help="With --label-issues: epochs per fold.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="With --label-issues: folder for a report page with the faces.")
    ] = None,
    raw: Raw = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Inspect a dataset: class counts, duplicates, label issues.

    Also reports label conflicts and invalid rows, and draws a contact sheet.

    With invalid rows the whole report is printed and the exit code is 1, unless --skip-broken is given. --label-issues
    trains three networks, each on two thirds of the faces, and keeps them for the next time; with --predictions it
    trains none.

    Example: ferkit data fer2013.csv --sheet faces.png

    Example: ferkit data fer2013.csv --label-issues 50 --report issues/
    """
    from ferkit.cli.console import reading_bar
    from ferkit.data import broken_error, check_target, load_dataset, overview, write_contact_sheet
    from ferkit.render import Terminal, to_json

    issues = suspects if label_issues is None else label_issues
    wanted = Wanted(issues, predictions or (), among, folds_in, folds, epochs, report, raw)
    wanted.check()
    check_target(sheet)
    with reading_bar() as progress:
        load = partial(
            load_dataset,
            source,
            split=split,
            votes=votes,
            drop_duplicates=drop_duplicates,
            skip_broken=True,
            progress=progress,
        )
        dataset = load()
    about = overview(dataset)
    if not as_json:
        output.print(Terminal(about), soft_wrap=True)
    write_contact_sheet(dataset, sheet)
    unusable = bool(dataset.broken) and not skip_broken
    found = _label_issues(wanted, dataset, load) if wanted.issues and not unusable else None
    if as_json:
        more = {} if found is None else {"suspects": found.to_dict(wanted.count)}
        print_json({**to_json(about), "contact_sheet": str(sheet), **more})
    elif found is not None:
        show(found, wanted.count)
    notes.print(f"Contact sheet: {sheet}", markup=False)
    if unusable:
        raise broken_error(source, dataset.broken)
    if found is not None:
        write(found, wanted)


def _label_issues(wanted: Wanted, dataset: "Dataset", load: "Callable[..., Dataset]") -> "LabelIssues":
    import ferkit

    with no_native_chatter():
        return ferkit.find_label_issues(
            dataset,
            wanted.predictions,
            among=wanted.among,
            out=wanted.folds_in,
            folds=wanted.folds,
            epochs=wanted.epochs,
            load=load,
            say=say,
        )
