"""Write the pages of the reference that the code itself can tell: the command line and the recipes.

    python tools/reference.py

A test fails when docs/reference/ differs from what this writes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ferkit._support.files import write_atomically
from ferkit.cli import app
from ferkit.training.config import RECIPES, SPACE, TrainConfig
from ferkit.training.values import declared, get

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
    options = [
        one for one in command.params if one.param_type_name == "option" and one.name != "help" and not one.hidden
    ]
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
    """The values of every recipe, what they mean and can be, and where `ferkit tune` searches, as TrainConfig declares them."""
    values = declared(TrainConfig)
    lines = [OWNER, "", "# Recipes", ""]
    lines += [
        "Every value of every recipe. `ferkit train --set VALUE=...` changes any of them, some have an option of their own;"
    ]
    lines += [
        "in Python they are arguments of `ferkit.train` and of `ferkit.TrainConfig`. See [training](../training.md#recipes).",
        "",
    ]
    lines += [f"| value | {' | '.join(f'`{name}`' for name in RECIPES)} |", f"|---|{'---|' * len(RECIPES)}"]
    for name in values:
        lines.append(f"| `{name}` | {' | '.join(_plain(get(one.config, name)) for one in RECIPES.values())} |")
    lines += ["", "## Meaning", "", "| value | option | can be | meaning |", "|---|---|---|---|"]
    for name, one in values.items():
        options = ", ".join(f"`{option}`" for option in one.options)
        lines.append(f"| `{name}` | {options} | {one.range} | {_cell(one.value.help)} |")
    lines += [
        "",
        "## Search",
        "",
        "What `ferkit tune --search` can search, and where.",
        "",
        "| value | range |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {one} |" for name, one in SPACE.items()]
    return "\n".join(lines) + "\n"


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
