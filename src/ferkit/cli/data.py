"""`ferkit data`: what is in a data set, before anything is trained on it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import no_native_chatter, output, print_json, say
from ferkit.cli.options import AsJson, Data, DropDuplicates, Raw, Split
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferkit.data import Dataset
    from ferkit.training import LabelIssues


_SHOWN = 20
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class _Wanted:
    """The options as they were given.

    issues: how many, or a CSV for all. predictions: models that have not seen the faces; without them folds are
        trained.
    among: a split; None is all faces, or with predictions all but those of the training split.
    folds_in: None names the folder after the data.
    """

    issues: str | None
    predictions: Sequence[str] = ()
    among: str | None = None
    folds_in: Path | None = None
    folds: int | None = None
    epochs: int | None = None
    report: Path | None = None
    raw: bool = False

    @property
    def table(self) -> Path | None:
        """The CSV that was asked for, if one was."""
        return Path(self.issues) if self.issues and not _WHOLE_NUMBER.fullmatch(self.issues) else None

    @property
    def count(self) -> int:
        return int(self.issues) if self.issues and self.table is None else _SHOWN

    def check(self) -> None:
        """Say what is wrong with the words before minutes of loading and hours of training."""
        if self.issues is None:
            others = {
                "--predictions": self.predictions,
                "--among": self.among,
                "--folds-in": self.folds_in,
                "--folds": self.folds,
                "--epochs": self.epochs,
                "--report": self.report,
                "--raw": self.raw,
            }
            for name, value in others.items():
                if value:
                    raise UsageError(f"{name} is for label issues: add --label-issues N or --label-issues FILE.csv.")
            return
        if self.table is not None and self.table.suffix.lower() != ".csv":
            raise UsageError(f"--label-issues takes how many to list, or a file .csv for all. Received: {self.issues}.")
        if self.count < 1:
            raise UsageError(f"--label-issues must be at least 1. Received: {self.issues}.")
        if self.predictions and (self.folds_in or self.folds or self.epochs):
            raise UsageError("With --predictions nothing is trained: leave --folds-in, --folds and --epochs out.")
        if not self.predictions:
            from ferkit.training import FoldPlan

            FoldPlan(self.folds, self.epochs)


def data(
    source: Data,
    split: Split = "official",
    votes: Annotated[Path | None, typer.Option(help="FER+ votes (CSV) to join to a FER-2013 CSV.")] = None,
    drop_duplicates: DropDuplicates = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Report invalid rows, but exit with code 0.")
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
    as_json: AsJson = False,
) -> None:
    """Inspect a dataset: class counts, duplicates, label issues.

    Also reports label conflicts and invalid rows, and draws a contact sheet.

    If rows are invalid, the exit code is 1 unless you use --skip-broken. --label-issues
    trains three networks, each on two thirds of the faces, and reuses them the next time; with --predictions it
    trains none.

    Example: ferkit data fer2013.csv --sheet faces.png

    Example: ferkit data fer2013.csv --label-issues 50 --report issues/
    """
    from ferkit.cli.console import reading_bar
    from ferkit.data import broken_error, check_target, load_dataset, overview, write_contact_sheet
    from ferkit.render import Terminal, to_json

    issues = suspects if label_issues is None else label_issues
    wanted = _Wanted(issues, predictions or (), among, folds_in, folds, epochs, report, raw)
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
        _show(found, wanted.count)
    say(f"Contact sheet: {sheet}")
    if unusable:
        raise broken_error(source, dataset.broken)
    if found is not None:
        _write(found, wanted)


def _label_issues(wanted: _Wanted, dataset: "Dataset", load: "Callable[..., Dataset]") -> "LabelIssues":
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


def _show(found: "LabelIssues", most: int) -> None:
    """The label issues on standard output, the first of them in a table."""
    from ferkit.render import Terminal
    from ferkit.training import issues_document

    output.print("", Terminal(issues_document(found, most)), sep="\n", soft_wrap=True)


def _write(found: "LabelIssues", wanted: _Wanted) -> None:
    """The table and the page, where they were asked for."""
    if wanted.table is not None:
        from ferkit.training import write_table

        write_table(found, wanted.table, raw=wanted.raw)
        say(f"Label issues: {wanted.table}")
    if wanted.report is not None:
        from ferkit.training import write_page

        say(f"Report: {write_page(found, wanted.report)}")
