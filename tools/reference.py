"""Write the pages of the reference that the code itself can tell: the command line and the recipes.

    python tools/reference.py

A test fails when docs/reference/ differs from what this writes.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ferkit._support.files import write_atomically
from ferkit.cli import app
from ferkit.training.config import RECIPES

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
OWNER = "<!-- Written by tools/reference.py; change the code instead. -->"


def main() -> None:
    for name, text in pages().items():
        with write_atomically(FOLDER / name) as draft:
            draft.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page's file name and what has to be in it."""
    return {"command-line.md": command_line(), "recipes.md": recipes()}


def command_line() -> str:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [OWNER, "", "# Command line", ""]
    lines += ["What `ferkit COMMAND --help` says, on one page. See also the [environment variables and exit"]
    lines += ["codes](environment.md) and the [output formats](formats.md) of `--json` and tables.", ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`ferkit {name}`](#ferkit-{name}) | {_sentences(one)[0]} |" for name, one in commands.items()]
    for name, command in commands.items():
        lines += ["", *_command(name, command)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    first, *more = _sentences(command)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    yield f"## ferkit {name}"
    yield ""
    yield f"`{' '.join(['ferkit', name, *map(_shape, arguments), '[OPTIONS]'])}`"
    for paragraph in (first, *more):
        yield ""
        yield re.sub(r"^Example: (.+)$", r"Example: `\1`", paragraph)
    if arguments:
        yield from ("", "| argument | meaning |", "|---|---|")
        yield from (f"| `{_shape(one)}` | {_cell(one.help)} |" for one in arguments)
    if options:
        yield from ("", "| option | default | meaning |", "|---|---|---|")
        yield from (f"| `{_spelling(one)}` | {_default(one)} | {_cell(one.help)} |" for one in options)


def _sentences(command: Any) -> list[str]:
    """The paragraphs of a command's help, each as one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", command.help or "")]


def _shape(argument: Any) -> str:
    """`DATA`, `[SOURCE]` where it may be left out, `SOURCE...` where there may be several; `MODEL... DATA` says so itself."""
    name = argument.metavar or argument.name.upper()
    shape = name if argument.required else f"[{name}]"
    return f"{shape}..." if argument.nargs == -1 and "..." not in name else shape


def _spelling(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    return f"{names} {option.metavar or option.name.split('_')[-1].upper()}"


def _default(option: Any) -> str:
    value = option.default
    if callable(value) or value is None or value is False or value in ((), []):
        return ""
    return f"`{value}`" if value is not True else "on"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def recipes() -> str:
    """The values of every recipe, a row each; what all share is left to the defaults of TrainConfig."""
    table = {name: dict(_flat(recipe.config)) for name, recipe in RECIPES.items()}
    lines = [OWNER, "", "# Recipes", ""]
    lines += ["Every value of every recipe, explained in [training](../training.md#recipes) and in"]
    lines += ["[`TrainConfig`](python.md#training); `ferkit train --set VALUE=...` changes any of them.", ""]
    lines += [f"| value | {' | '.join(f'`{name}`' for name in table)} |", f"|---|{'---|' * len(table)}"]
    for value in next(iter(table.values())):
        lines.append(f"| `{value}` | {' | '.join(_plain(one[value]) for one in table.values())} |")
    return "\n".join(lines) + "\n"


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{field.name}.")
        else:
            yield prefix + field.name, value


def _plain(value: Any) -> str:
    if value is None or value in ((), ""):
        return "none"
    return (
        {True: "yes", False: "no"}[value]
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


if __name__ == "__main__":
    main()
