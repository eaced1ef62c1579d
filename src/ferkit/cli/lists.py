"""`ferkit models`, `detectors`, `recipes`: the registries, with the speed on this machine."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import fail, no_native_chatter, notes, output, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferkit.detection import RegisteredDetector

AsJson = Annotated[bool, typer.Option("--json", help="One JSON list on standard output.")]

# A row of a list: what scripts get, and the lines that people read.
Row = tuple[dict[str, Any], Sequence[str]]


def models(
    others: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Your own models to list too.")] = None,
    as_json: AsJson = False,
) -> None:
    """List packaged models and trainable architectures.

    With the speed of each model on this machine. `ferkit predict` and `ferkit evaluate` take the models, `ferkit
    train` the architectures.

    If one that you name cannot be used, all are listed and the exit code is 1 at the end.

    Example: ferkit models runs/mine
    """
    from ferkit.models import model_folder

    with notes.status("Measuring"):
        packaged = [_trained(name) for name in model_folder.PACKAGED]
        own = [_trained(name) for name in others or ()]
    _show({"trained": [*packaged, *own], "architectures": _architectures()}, as_json)
    problems = [row["problem"] for row, _ in own if not row["ready"]]
    for problem in problems:
        fail(problem)
    if problems:
        raise typer.Exit(1)


def detectors(as_json: AsJson = False) -> None:
    """List face detectors and their speed on this machine.

    Example: ferkit detectors
    """
    from ferkit.detection import DETECTORS

    with notes.status("Measuring"):
        rows = [_detector(name, detector) for name, detector in DETECTORS.items()]
    _show({"": rows}, as_json)


def recipes(as_json: AsJson = False) -> None:
    """List training recipes.

    Example: ferkit recipes
    """
    from ferkit.training import RECIPES

    rows = []
    for name, recipe in RECIPES.items():
        shown = ("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule")
        values = {key: getattr(recipe.config, key) for key in shown}
        facts = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in values.items())
        rows.append(({"name": name, **values, "about": recipe.about}, [recipe.about, facts]))
    _show({"": rows}, as_json)


def _trained(name: str) -> Row:
    """A trained model as its card describes it, and its speed."""
    from ferkit.cli import speed
    from ferkit.errors import FerkitError
    from ferkit.models import EmotionClassifier, model_folder

    row: dict[str, Any] = {"name": name, "kind": "trained", "ready": True, "problem": None}
    try:
        path = model_folder.find(name)
        with no_native_chatter():
            classifier = EmotionClassifier.load(name)
            alone, batched = speed.classification_seconds(classifier)
    except FerkitError as problem:
        row |= {"ready": False, "problem": str(problem), "about": "A trained model that cannot be used."}
        return row, [row["about"], str(problem)]
    card, takes = classifier.card, classifier.face_input
    measured = card.get("metrics", {})
    row |= {
        "about": _accuracy(measured),
        "classes": list(classifier.classes),
        "takes": [takes.height, takes.width, takes.channels],
        "size_mb": _megabytes(
            path / (model_folder.serving_file(card) or model_folder.ONNX_FILE) if path.is_dir() else path
        ),
        "parameters": card.get("parameters"),
        "multiply_adds": card.get("multiply_adds"),
        "licence": card.get("licence"),
        "data": model_folder.trained_on(card).get("source"),
        "split": measured.get("split"),
        "accuracy": measured.get("accuracy"),
        "ms_per_face": round(1e3 * alone, 3),
        "faces_per_second": round(1 / batched, 1),
    }
    size = [f"takes {takes.height}x{takes.width}x{takes.channels}", *_size_of(row)]
    pace = (
        f"{_milliseconds(alone)} for one face, {1 / batched:,.0f} faces/s in batches of {speed.BATCH} on this machine"
    )
    origin = f"trained on {row['data'] or 'unknown data'}, licence: {row['licence'] or 'not stated in its card'}"
    return row, [row["about"], ", ".join(size), pace, origin]


def _accuracy(measured: Mapping[str, Any]) -> str:
    from ferkit.models import BEFORE_EXPORT

    if "accuracy" not in measured:
        return "A trained model without metrics in its card."
    said = f"Accuracy {measured['accuracy']:.1%} on {measured.get('split', 'its held-out faces')}"
    if measured.get("truth") == "votes":
        said += " (FER+ majority label)"
    low, high = measured.get("accuracy_ci95", (None, None))
    if low is not None:
        said += f", 95% CI {low:.1%} to {high:.1%}"
    return f"{said}, before it was exported" if measured.get("note") == BEFORE_EXPORT else said


def _size_of(row: Mapping[str, Any]) -> "Iterator[str]":
    if row["size_mb"] is not None:
        yield f"{row['size_mb']:.1f} MB"
    if row["parameters"] is not None:
        yield f"{row['parameters']:,} parameters"
    if row["multiply_adds"] is not None:
        yield f"{row['multiply_adds'] / 1e6:.1f} M multiply-adds"


def _architectures() -> list[Row]:
    from importlib.util import find_spec

    from ferkit._support.registry import describe
    from ferkit.models import ARCHITECTURES

    # Looked for, not imported: that takes seconds.
    ready = find_spec("keras") is not None
    problem = None if ready else "needs Keras: pip install 'ferkit[train]'"
    rows: list[Row] = []
    for name, build in ARCHITECTURES.items():
        size = next((line.strip() for line in (build.__doc__ or "").splitlines() if " parameters, " in line), "")
        row = {"name": name, "kind": "architecture", "ready": ready, "problem": problem}
        lines = [describe(build), size.removesuffix("."), *([problem] if problem else [])]
        rows.append((row | {"about": describe(build), "size": size}, lines))
    return rows


def _detector(name: str, detector: "type[RegisteredDetector]") -> Row:
    from ferkit._support.registry import describe
    from ferkit.cli import speed
    from ferkit.detection import AUTO
    from ferkit.errors import FerkitError

    problem = None
    try:
        seconds = speed.detection_seconds(detector())
    except FerkitError as trouble:
        problem, seconds = str(trouble), None
    file = detector.weights()
    row = {
        "name": name,
        "about": describe(detector),
        "ready": problem is None,
        "problem": problem,
        "licence": detector.licence,
        "size_mb": file and _megabytes(file),
        "ms_per_picture": seconds and round(1e3 * seconds, 3),
    }
    if name == "auto":
        return row | {"takes": AUTO}, [f"The default: {AUTO}."]
    facts = [problem or "available"]
    if seconds is not None:
        facts.append(f"{_milliseconds(seconds)} for the sample portrait")
    if row["size_mb"] is not None:
        facts.append(f"{row['size_mb']:.1f} MB")
    return row, [describe(detector), ", ".join([*facts, f"licence: {detector.licence}"])]


def _megabytes(file: Path) -> float | None:
    return round(file.stat().st_size / 1e6, 2) if file.is_file() else None


def _milliseconds(seconds: float) -> str:
    milliseconds = 1e3 * seconds
    return "under 0.1 ms" if milliseconds < 0.1 else f"{milliseconds:.1f} ms"


def _show(groups: Mapping[str, Iterable[Row]], as_json: bool) -> None:
    """Print rows as one JSON list, or for people: the name, what it is, and below that its facts."""
    if as_json:
        print_json([row for rows in groups.values() for row, _ in rows])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", overflow="fold", max_width=26)
    table.add_column()
    for group, rows in groups.items():
        if group:
            table.add_row(Text(group, style="underline"), "")
        for row, (about, *facts) in rows:
            # Names and cards come from outside: as Text, their brackets are no markup.
            table.add_row(Text(row["name"]), Text(about).append("".join(f"\n{fact}" for fact in facts), style="dim"))
    if output.is_terminal:
        output.print(table)
        return
    with output.capture() as printed:
        output.print(table)
    # Rich fills the last column with blanks, which files and searches need not have.
    output.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())
