"""`ferkit models`, `detectors`, `recipes`: what there is to choose from, with its speed on this machine."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import fail, no_native_chatter, notes, output, print_json

if TYPE_CHECKING:
    from ferkit._support.registry import Listed

AsJson = Annotated[bool, typer.Option("--json", help="One JSON list on standard output.")]


def models(
    others: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Additional models to list.")] = None,
    as_json: AsJson = False,
) -> None:
    """List packaged models and trainable architectures.

    Shows the speed of each model on this machine. `ferkit predict` and `ferkit evaluate` take the models, `ferkit
    train` the architectures.

    If a model that you name cannot be used, the list is complete and the exit code is 1.

    Example: ferkit models runs/mine
    """
    from ferkit.models import list_architectures, list_models

    others = others or []
    with notes.status("Measuring"), no_native_chatter():
        trained = list_models(others)
    _show({"trained": trained, "architectures": list_architectures()}, as_json)
    problems = [one.problem for one in trained if one.name in others and one.problem is not None]
    for problem in problems:
        fail(problem)
    if problems:
        raise typer.Exit(1)


def detectors(as_json: AsJson = False) -> None:
    """List face detectors and their speed on this machine.

    Example: ferkit detectors
    """
    from ferkit.detection import list_detectors
    from ferkit.models import sample_picture
    from ferkit.sources import read_image

    with notes.status("Measuring"):
        listed = list_detectors(read_image(sample_picture()))
    _show({"": listed}, as_json)


def recipes(as_json: AsJson = False) -> None:
    """List training recipes.

    Example: ferkit recipes
    """
    from ferkit.training import list_recipes

    _show({"": list_recipes()}, as_json)


def _show(groups: "Mapping[str, Sequence[Listed]]", as_json: bool) -> None:
    from ferkit.render import Terminal, list_document

    if as_json:
        print_json([one.to_dict() for listed in groups.values() for one in listed])
    else:
        output.print(Terminal(list_document(groups)), soft_wrap=True)
