"""What `ferkit data --label-issues` does: check its options, print the labels that are likely wrong, write table and page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferkit.cli.console import notes, output
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from ferkit.training import LabelIssues

_SHOWN = 20
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Wanted:
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


def show(found: "LabelIssues", most: int) -> None:
    """The label issues on standard output, the first of them in a table."""
    from ferkit.render import Terminal
    from ferkit.training import issues_document

    output.print("", Terminal(issues_document(found, most)), sep="\n", soft_wrap=True)


def write(found: "LabelIssues", wanted: Wanted) -> None:
    """The table and the page, where they were asked for."""
    if wanted.table is not None:
        from ferkit.training import write_table

        write_table(found, wanted.table, raw=wanted.raw)
        notes.print(f"Label issues: {wanted.table}", markup=False)
    if wanted.report is not None:
        from ferkit.training import write_page

        notes.print(f"Report: {write_page(found, wanted.report)}", markup=False)
