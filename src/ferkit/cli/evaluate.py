"""`ferkit evaluate`: how good models are on labelled faces."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.audits import Audits
from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.measured_faces import MeasuredFaces, SkipBroken, Split, Truth, Votes
from ferkit.cli.training_data import FORMATS
from ferkit.errors import UsageError
from ferkit.tta import TTA, help_text
from ferkit.wording import count

if TYPE_CHECKING:
    from ferkit.evaluation import Addition, Report

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
    """Measure models on labelled faces: accuracy, calibration, what they confuse.

    Several models are compared or, with --ensemble, measured as one.

    Example: ferkit evaluate default fer2013.csv --split PublicTest --report report/
    """
    from ferkit import evaluation
    from ferkit.audit import crossing
    from ferkit.audit.label_map import read_label_map
    from ferkit.classifier import EmotionClassifier
    from ferkit.datasets import load_dataset
    from ferkit.ensemble import Ensemble

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
        from ferkit.report import read_history, write_report

        # A run's folder is a model folder too, and knows how it was trained.
        epochs = Path(names[0]) / "history.csv"
        history = read_history(epochs) if epochs.is_file() and not ensemble else None
        card = None if ensemble else classifiers[0].card
        page = write_report(results[0], report, history=history, card=card, additions=additions[0])
        notes.print(f"Report: {page}", markup=False)


def _check(names: Sequence[str], data: str, tta: str | None, truth: str, votes: Path | None) -> None:
    """Say what is wrong with the words before minutes of loading."""
    from ferkit.datasets.records import TRUTHS

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
        from ferkit.report_tables import compared

        output.print(first if len(results) == 1 else compared(results))
        for one in chain.from_iterable(additions):
            output.print("", one)
