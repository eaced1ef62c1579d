"""What `ferkit evaluate` measures besides the figures where it is asked to: groups of people, degraded pictures.

`ferkit evaluate`: how good models are on labelled faces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json, reading_bar
from ferkit.cli.measured_faces import MeasuredFaces, SkipBroken, Split, Truth, Votes
from ferkit.cli.options import FORMATS
from ferkit.errors import UsageError, count
from ferkit.models import TTA, help_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferkit.data import FaceSet
    from ferkit.evaluation import Addition, GroupTable, Report
    from ferkit.models import Classifier


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
        from ferkit.sources import is_there, missing

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
        from ferkit.evaluation import join_groups

        return join_groups(self.groups, faces, self.data, self.columns, self.person_column).select(kept)

    def of(
        self, classifier: "Classifier", report: "Report", table: "GroupTable | None", tta: str | None
    ) -> "Iterator[Addition]":
        """What was asked for about one model, one after the other. table: from `join`."""
        if table is not None:
            from ferkit.evaluation import group_report

            with notes.status("Comparing groups"):
                yield group_report(report, table)
        if self.robustness:
            from ferkit.evaluation import measure_robustness

            with reading_bar() as progress:
                yield measure_robustness(
                    classifier,
                    report.faces,
                    tta=tta,
                    limit=self.limit,
                    progress=lambda done, total: progress("Degrading faces", done, total),
                )


_MODELS = f"Model folders or files, or 'default'; then the data: {FORMATS}"


def evaluate(
    models_and_data: Annotated[list[str], typer.Argument(metavar="MODEL... DATA", help=_MODELS)],
    split: Split = "test",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the mean of the models' answers, as one model.")
    ] = False,
    tta: Annotated[str | None, typer.Option(help=help_text())] = None,
    votes: Votes = None,
    truth: Truth = "labels",
    skip_broken: SkipBroken = False,
    label_map: Annotated[
        str | None,
        typer.Option(
            help="Which class of the data is which of the model, as in anger=angry,contempt= or a file of such lines."
        ),
    ] = None,
    groups: Annotated[Path | None, typer.Option(help="Table of who is in which group: a figure for each.")] = None,
    group_column: Annotated[
        list[str] | None, typer.Option(help="Column of that table with groups; may be repeated. [default: all]")
    ] = None,
    person_column: Annotated[
        str | None, typer.Option(help="Column of that table that says who it is, where people have several faces.")
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also on blurred, noisy, small, dark, tilted, covered faces.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Faces that --robustness looks at, drawn at random.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for a page with figures and plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document; of several models, a list.")] = False,
) -> None:
    """Evaluate models: accuracy, calibration, confusion matrix.

    Several models are compared or, with --ensemble, measured as one.

    Example: ferkit evaluate default fer2013.csv --split PublicTest --report report/
    """
    from ferkit.data import load_dataset
    from ferkit.evaluation import cross_dataset as crossing
    from ferkit.evaluation import read_label_map
    from ferkit.evaluation import report as evaluation
    from ferkit.models import EmotionClassifier, Ensemble

    *names, data = models_and_data
    _check(names, data, tta, truth, votes)
    audits = Audits(data, groups, group_column or (), person_column, robustness, limit)
    audits.check()
    mapping = None if label_map is None else read_label_map(label_map)
    if len(names) > 1 and report is not None and not ensemble:
        raise UsageError("--report writes the page of one model. Name one, or take --ensemble.")
    with no_native_chatter():
        classifiers = [EmotionClassifier.load(name) for name in names]
        wanted: list[EmotionClassifier | Ensemble] = [Ensemble(classifiers)] if ensemble else [*classifiers]
    source = MeasuredFaces(data, split, truth, partial(load_dataset, data, votes=votes, skip_broken=skip_broken))
    results: list[Report] = []
    additions: list[list[Addition]] = []
    said: set[str] = set()
    for classifier in wanted:
        (read,), messages = source.faces_for(classifier)
        faces, matched = crossing.match_classes(classifier.classes, read, mapping, model=f"The model {classifier.name}")
        if matched.note:
            messages.append(f"Note: {matched.note}")
        for message in messages:
            if message not in said:
                notes.print(message, markup=False)
        said.update(messages)
        # Against the faces as they were read: a table knows the classes of the data, not those of the model.
        table = audits.join(read, matched.keeps(read))
        with notes.status(f"Looking at {count(len(faces), 'face')}"):
            results.append(evaluation.evaluate(classifier, faces, tta=tta))
        shared = [] if matched.same else [crossing.crossing(results[-1], matched)]
        additions.append([*shared, *audits.of(classifier, results[-1], table, tta)])
    _print(results, additions, as_json)
    # After the figures, so that a folder that cannot be written does not cost them.
    if report is not None:
        from ferkit.evaluation import read_history, write_report

        # A run's folder is a model folder too, and knows how it was trained.
        epochs = Path(names[0]) / "history.csv"
        history = read_history(epochs) if epochs.is_file() and not ensemble else None
        card = None if ensemble else classifiers[0].card
        page = write_report(results[0], report, history=history, card=card, additions=additions[0])
        notes.print(f"Report: {page}", markup=False)


def _check(names: Sequence[str], data: str, tta: str | None, truth: str, votes: Path | None) -> None:
    """Say what is wrong with the words before minutes of loading."""
    from ferkit.data import TRUTHS

    if not names:
        raise UsageError(f"Expected MODEL... DATA. Received: {data}. Name at least one model, then the data.")
    if tta is not None:
        TTA[tta]
    if truth not in TRUTHS:
        raise UsageError(f"Unknown truth {truth!r}. Choices: {', '.join(TRUTHS)}.")
    if truth == "votes" and votes is None:
        raise UsageError("--truth votes needs the votes: add --votes FILE.")


def _print(results: "Sequence[Report]", additions: "Sequence[Sequence[Addition]]", as_json: bool) -> None:
    first = results[0]
    for note in dict.fromkeys(one.note for one in results if one.note and (as_json or len(results) > 1)):
        notes.print(f"Note: {note}", markup=False)
    alike = [one for one in results if one.faces.classes == first.faces.classes]
    if any(one.faces.labels.tolist() != first.faces.labels.tolist() for one in alike):
        notes.print("Warning: the models were trained on different splits, so they are measured on different faces.")
    if as_json:
        from ferkit.evaluation import to_document

        documents = [to_document(one, others) for one, others in zip(results, additions, strict=True)]
        print_json(documents if len(documents) > 1 else documents[0])
    else:
        from ferkit.evaluation import compared

        output.print(first if len(results) == 1 else compared(results))
        for one in chain.from_iterable(additions):
            output.print("", one)
