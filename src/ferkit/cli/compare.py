"""`ferkit compare`: two models on the same faces."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.measured_faces import MeasuredFaces, SkipBroken, Split, Truth, Votes
from ferkit.cli.options import FORMATS
from ferkit.errors import UsageError, count
from ferkit.models import TTA, help_text


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Model folder or file, or 'default'.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare it with.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help=FORMATS)],
    split: Split = "test",
    tta: Annotated[str | None, typer.Option(help=help_text())] = None,
    votes: Votes = None,
    truth: Truth = "labels",
    skip_broken: SkipBroken = False,
    report: Annotated[Path | None, typer.Option(help="Folder for a page with figures, plots and faces.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Compare two models with a paired significance test.

    Says whether the difference is significant, and where the two models disagree.

    Differences are B less A. The models must know the same classes; their order and the size of faces may differ.

    Example: ferkit compare default runs/mine fer2013.csv --split PublicTest --report comparison/
    """
    from ferkit.data import TRUTHS, load_dataset
    from ferkit.evaluation import check_classes, tables
    from ferkit.evaluation import compare as compare_models
    from ferkit.models import EmotionClassifier

    # What is wrong with the words is said before minutes of loading.
    if tta is not None:
        TTA[tta]
    if truth not in TRUTHS:
        raise UsageError(f"Unknown truth {truth!r}. Choices: {', '.join(TRUTHS)}.")
    if truth == "votes" and votes is None:
        raise UsageError("--truth votes needs the votes: add --votes FILE.")
    with no_native_chatter():
        first, second = EmotionClassifier.load(a), EmotionClassifier.load(b)
    check_classes(first, second)
    source = MeasuredFaces(data, split, truth, partial(load_dataset, data, votes=votes, skip_broken=skip_broken))
    (faces, faces_for_b), messages = source.faces_for(first, second)
    for message in messages:
        notes.print(message, markup=False)
    with notes.status(f"Looking at {count(len(faces), 'face')}"):
        found = compare_models(first, second, faces, faces_for_b=faces_for_b, tta=tta)
    if as_json:
        print_json(found.to_dict())
    else:
        output.print(tables(found))
    # After the figures, so that a folder that cannot be written does not cost them.
    if report is not None:
        from ferkit.evaluation import write_page

        notes.print(f"Report: {write_page(found, report)}", markup=False)
