"""`ferkit evaluate`: how good models are on labelled faces."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json, reading_bar, said_once, say
from ferkit.cli.options import (
    FORMATS,
    Classes,
    EvaluatedSplit,
    EvaluatedVotes,
    LabelMap,
    PixelScaleOption,
    ReportFolder,
    Sensitivity,
    SkipBroken,
    Truth,
    Tta,
)
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferkit.evaluation import Report
    from ferkit.models import Classifier

_MODELS = f"Model folders or files, or 'default'; then the data: {FORMATS}"


def evaluate(
    models_and_data: Annotated[list[str], typer.Argument(metavar="MODEL... DATA", help=_MODELS)],
    split: EvaluatedSplit = "test",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Evaluate the mean of the models' predictions, as one model.")
    ] = False,
    tta: Tta = None,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    votes: EvaluatedVotes = None,
    truth: Truth = "labels",
    skip_broken: SkipBroken = False,
    label_map: LabelMap = None,
    groups: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV or Parquet with a group per face; report metrics per group."),
    ] = None,
    group_column: Annotated[
        list[str] | None, typer.Option(help="Column of that table with groups; may be repeated. [default: all]")
    ] = None,
    person_column: Annotated[
        str | None, typer.Option(help="Column with a person ID; people, not faces, become the sampling unit.")
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also evaluate on corrupted images (blur, noise, JPEG, low resolution, rotation, occlusion).",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Evaluate --robustness on a random sample of N faces.")] = None,
    report: ReportFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document; of several models, a list.")] = False,
) -> None:
    """Evaluate models: accuracy, calibration, confusion matrix.

    Several models are compared or, with --ensemble, evaluated as one.

    Example: ferkit evaluate default fer2013.csv --split PublicTest --report report/
    """
    from ferkit.evaluation import check_options, check_parts, read_label_map, write_report
    from ferkit.evaluation import evaluate as evaluate_model
    from ferkit.models import Ensemble, open_classifiers

    *names, data = models_and_data
    if not names:
        raise UsageError(f"Expected MODEL... DATA. Received: {data}. Name at least one model, then the data.")
    check_options(tta=tta, truth=truth, votes=votes)
    check_parts(groups, group_column or (), person_column, robustness=robustness, limit=limit)
    mapping = None if label_map is None else read_label_map(label_map)
    if len(names) > 1 and report is not None and not ensemble:
        raise UsageError("--report writes the page of one model. Name one, or use --ensemble.")
    with no_native_chatter():
        members = open_classifiers(names, sensitivity=sensitivity, classes=classes, pixel_scale=pixel_scale)
    models: list[Classifier] = [Ensemble(members)] if ensemble else [*members]
    with reading_bar() as progress, said_once():
        reports = [
            evaluate_model(
                model,
                data,
                split=split,
                tta=tta,
                truth=truth,
                votes=votes,
                skip_broken=skip_broken,
                label_map=mapping,
                groups=groups,
                group_columns=group_column or (),
                person_column=person_column,
                robustness=robustness,
                limit=limit,
                progress=progress,
            )
            for model in models
        ]
    _print(reports, as_json)
    # After the results, so that a folder that cannot be written does not cost them.
    if report is not None:
        # A run's folder is a model folder too, and knows how it was trained.
        page = write_report(reports[0], report, run=None if ensemble else Path(names[0]))
        say(f"Report: {page}")


def _print(reports: "Sequence[Report]", as_json: bool) -> None:
    from ferkit.evaluation import compared
    from ferkit.render import Terminal

    first = reports[0]
    for note in dict.fromkeys(one.note for one in reports if one.note and (as_json or len(reports) > 1)):
        say(f"Note: {note}")
    alike = [one for one in reports if one.faces.classes == first.faces.classes]
    if any(one.faces.labels.tolist() != first.faces.labels.tolist() for one in alike):
        notes.print("Warning: the models were trained on different splits, so they are evaluated on different faces.")
    if as_json:
        documents = [one.to_dict() for one in reports]
        print_json(documents if len(documents) > 1 else documents[0])
    else:
        output.print(Terminal(first.document() if len(reports) == 1 else compared(reports)), soft_wrap=True)
