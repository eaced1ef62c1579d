"""`ferkit models`, `detectors`, `recipes`: the choices there are, read from the registries."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ferkit.cli.console import output, print_json

AsJson = Annotated[bool, typer.Option("--json", help="One JSON list on standard output.")]


def models(as_json: AsJson = False) -> None:
    """List trained models for predict and evaluate, and architectures for train.

    Example: ferkit models
    """
    from ferkit.models import ARCHITECTURES
    from ferkit.registry import describe

    architectures = [
        {"name": name, "kind": "architecture", "about": describe(build)} for name, build in ARCHITECTURES.items()
    ]
    _show([*_trained(), *architectures], as_json)


def detectors(as_json: AsJson = False) -> None:
    """List face detectors, and whether each can be used here.

    Example: ferkit detectors
    """
    from ferkit.detection import DETECTORS
    from ferkit.registry import describe

    rows = [
        {"name": name, "ready": not detector.problem(), "licence": detector.licence, "about": describe(detector)}
        | {"problem": detector.problem()}
        for name, detector in DETECTORS.items()
    ]
    _show(rows, as_json)


def recipes(as_json: AsJson = False) -> None:
    """List training recipes.

    Example: ferkit recipes
    """
    from ferkit.recipes import RECIPES

    rows = []
    for name, recipe in RECIPES.items():
        shown = ("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule")
        values = {key: getattr(recipe.config, key) for key in shown}
        rows.append({"name": name, **values, "about": recipe.about})
    _show(rows, as_json)


def _trained() -> list[dict[str, Any]]:
    """The model that the package carries, described by its card."""
    from ferkit import model_folder
    from ferkit.errors import ModelError

    try:
        folder = model_folder.find(model_folder.DEFAULT)
        card = model_folder.read_card(folder)
    except ModelError:  # a checkout whose model has not been trained yet
        return []
    size = sum(file.stat().st_size for file in folder.iterdir() if file.name == model_folder.ONNX_FILE)
    takes = card["face_input"]
    about = f"{size / 1e6:.1f} MB, takes {takes['height']}x{takes['width']}x{takes['channels']}"
    metrics = card.get("metrics")
    if isinstance(metrics, dict) and "accuracy" in metrics:
        about += f", {metrics['accuracy']:.1%} of {metrics.get('split', 'its held-out faces')} right"
    return [{"name": model_folder.DEFAULT, "kind": "trained", "about": about, "classes": card["classes"]}]


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print rows as JSON, or for people: the name, what it is, and below that its facts on one line."""
    if as_json:
        print_json(rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for row in rows:
        facts = [
            f"{key.replace('_', ' ')}: {_word(value)}"
            for key, value in row.items()
            if key not in ("name", "about") and value is not None and not isinstance(value, list)
        ]
        table.add_row(row["name"], Text(str(row["about"])).append("\n" + ", ".join(facts), style="dim"))
    output.print(table)


def _word(value: object) -> str:
    """A value as people write it: flags as words."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
