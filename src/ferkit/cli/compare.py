"""`ferkit compare`: two models on the same faces."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json, reading_bar
from ferkit.cli.options import FORMATS, EvaluatedSplit, EvaluatedVotes, SkipBroken, Truth
from ferkit.models import help_text


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Model folder or file, or 'default'.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Model to compare with A.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help=FORMATS)],
    split: EvaluatedSplit = "test",
    tta: Annotated[str | None, typer.Option(help=help_text())] = None,
    votes: EvaluatedVotes = None,
    truth: Truth = "labels",
    skip_broken: SkipBroken = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for a page with metrics, plots and faces.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Compare two models with a paired significance test.

    Differences are B minus A. The models must know the same classes; their order and the size of faces may differ.

    Example: ferkit compare default runs/mine fer2013.csv --split PublicTest --report comparison/
    """
    from ferkit.evaluation import check_options, write_comparison
    from ferkit.evaluation import compare as compare_models
    from ferkit.models import EmotionClassifier

    check_options(tta=tta, truth=truth, votes=votes)
    with no_native_chatter():
        first, second = EmotionClassifier.load(a), EmotionClassifier.load(b)
    options = {"split": split, "tta": tta, "truth": truth, "votes": votes, "skip_broken": skip_broken}
    with reading_bar() as progress:
        found = compare_models(first, second, data, progress=progress, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(found.to_dict())
    else:
        output.print(found, soft_wrap=True)
    # After the results, so that a folder that cannot be written does not cost them.
    if report is not None:
        notes.print(f"Report: {write_comparison(found, report)}", markup=False)
