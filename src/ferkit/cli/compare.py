"""`ferkit compare`: two models on the same faces, or two recipes on the same folds."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, output, print_json, reading_bar, say
from ferkit.cli.options import (
    FORMATS,
    AsJson,
    Classes,
    EvaluatedSplit,
    EvaluatedVotes,
    LabelMap,
    PixelScaleOption,
    ReportFolder,
    SkipBroken,
    TrainingData,
    Truth,
    Tta,
    epochs_are_kept,
)
from ferkit.errors import UsageError


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Model folder or file, or 'default'; with --folds a recipe: 'strong mixup=0.4'."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Model to compare with A.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help=FORMATS)],
    split: EvaluatedSplit = "test",
    tta: Tta = None,
    votes: EvaluatedVotes = None,
    truth: Truth = "labels",
    skip_broken: SkipBroken = False,
    label_map: LabelMap = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Compare recipes: train both on K folds of the training split, and compare the out-of-fold predictions.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --folds: folder of the runs. [default: runs/compare]")
    ] = None,
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare two models or recipes with a paired test.

    Differences are B minus A. The models must have the same classes; their order and the size of faces may differ.

    With --folds, A and B are recipes with changed values. Both are cross-validated: every training face is predicted by a
    network that was trained neither on it nor on a copy of it. After an interruption, the same command resumes.

    Examples: ferkit compare default runs/mine fer2013.csv --split PublicTest --report comparison/

    ferkit compare "strong epochs=30" "strong epochs=30 mixup=0.4" fer2013.csv --folds 3 --out runs/mixup
    """
    from ferkit.evaluation import check_options, read_label_map, write_comparison
    from ferkit.evaluation import compare as compare_models
    from ferkit.models import open_classifiers
    from ferkit.training import compare_recipes

    check_options(tta=tta, truth=truth, votes=votes)
    if folds is not None:
        if split not in ("test", "train", "Training") or tta is not None:
            raise UsageError("--folds compares on the training split, in one view. Leave --split and --tta out.")
        if classes is not None or pixel_scale is not None or label_map is not None:
            raise UsageError(
                "--folds trains its models. --classes, --pixel-scale and --label-map are for models that exist: leave "
                "them out."
            )
        given = TrainingData(data, "official", drop_duplicates=False, skip_broken=skip_broken, votes=votes)
        if truth == "ferplus":
            given = replace(given, truth=truth)
        with epochs_are_kept("Run the same command again to continue."):
            found = compare_recipes(a, b, given.load, folds, out=out or "runs/compare", truth=truth, say=say)
    elif out is not None:
        raise UsageError("--out is for the runs of --folds. Add --folds K, or leave it out; --report writes a page.")
    else:
        with no_native_chatter():
            first, second = open_classifiers([a, b], classes=classes, pixel_scale=pixel_scale)
        mapping = None if label_map is None else read_label_map(label_map)
        options = {
            "label_map": mapping,
            "split": split,
            "tta": tta,
            "truth": truth,
            "votes": votes,
            "skip_broken": skip_broken,
        }
        with reading_bar() as progress:
            found = compare_models(first, second, data, progress=progress, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(found.to_dict())
    else:
        output.print(found, soft_wrap=True)
    # After the results, so that a folder that cannot be written does not cost them.
    if report is not None:
        say(f"Report: {write_comparison(found, report)}")
