"""What `ferkit evaluate` measures besides the figures where it is asked to: groups of people, degraded pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferkit.cli.console import notes
from ferkit.cli.progress import reading_bar
from ferkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferkit.audit.group_table import GroupTable
    from ferkit.datasets import FaceSet
    from ferkit.evaluation import Addition, Classifier, Report


@dataclass(frozen=True)
class Audits:
    """The options as they were given. data: where the faces came from."""

    data: str
    groups: Path | None
    columns: Sequence[str]
    person_column: str | None
    robustness: bool
    limit: int | None

    def check(self) -> None:
        """Say what is wrong with the words before minutes of loading, and whether there is a table."""
        from ferkit.datasets.sources import is_there, missing

        if self.columns and self.groups is None:
            raise UsageError("--group-column names a column of --groups: add --groups FILE.")
        if self.person_column is not None and self.groups is None:
            raise UsageError("--person-column names a column of --groups: add --groups FILE.")
        if self.limit is not None and not self.robustness:
            raise UsageError(
                "--limit is for --robustness, which looks at every face dozens of times: add --robustness."
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1 face. Received: {self.limit}.")
        if self.groups is not None and not is_there(self.groups):
            raise missing(self.groups)

    def join(self, faces: "FaceSet", kept: "npt.NDArray[np.bool_]") -> "GroupTable | None":
        """The groups of those faces that are kept, before a model looks at them: an error should not cost that time."""
        if self.groups is None:
            return None
        from ferkit.audit.group_table import join_groups

        return join_groups(self.groups, faces, self.data, self.columns, self.person_column).select(kept)

    def of(
        self, classifier: "Classifier", report: "Report", table: "GroupTable | None", tta: str | None
    ) -> "Iterator[Addition]":
        """What was asked for about one model, one after the other. table: from `join`."""
        if table is not None:
            from ferkit.audit.groups import group_report

            with notes.status("Comparing groups"):
                yield group_report(report, table)
        if self.robustness:
            from ferkit.audit.robustness import measure_robustness

            with reading_bar() as progress:
                yield measure_robustness(
                    classifier,
                    report.faces,
                    tta=tta,
                    limit=self.limit,
                    progress=lambda done, total: progress("Degrading faces", done, total),
                )
