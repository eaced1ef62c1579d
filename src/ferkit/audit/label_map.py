"""Which class of the data is which class of a model, as a person writes it down."""

import json
from pathlib import Path

from ferkit.errors import DatasetError, UsageError
from ferkit.labels import canonical

# Stands for every class that the map does not name.
OTHERS = "*"


def read_label_map(text: str) -> dict[str, str]:
    """Class of the data -> class of the model, "" to leave it out, from `anger=angry,contempt=` or from a file.

    A file holds a JSON object (null leaves a class out) or one `name=class` a line; `#` begins a remark. The name `*`
    stands for all that are not named. Names are in lower case and aliases of emotions taken for these.
    Raises `UsageError` for other text, `DatasetError` for a file that cannot be read.

    >>> read_label_map("Anger=angry, contempt=")
    {'angry': 'angry', 'contempt': ''}
    """
    path = Path(text).expanduser()
    if "=" not in text and path.is_file():
        pairs = _read_file(path)
    else:
        pairs = [_pair(part, text) for part in text.split(",") if part.strip()]
    found: dict[str, str] = {}
    for name, target in pairs:
        key, value = canonical(name), canonical(target) if target.strip() else ""
        if found.setdefault(key, value) != value:
            raise UsageError(f"The label map sends {key} to {found[key]!r} and to {value!r}. Expected one of them.")
    if not found:
        raise UsageError(f"A label map is a file, or like anger=angry,contempt=. Received: {text!r}.")
    return found


def _read_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("{"):
            lines = (line.split("#")[0].strip() for line in text.splitlines())
            return [_pair(line, str(path)) for line in lines if line]
        pairs = json.loads(text)
        if not all(isinstance(value, str | None) for value in pairs.values()):
            raise ValueError("a class is a name or null")
        return [(name, value or "") for name, value in pairs.items()]
    except (OSError, ValueError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise DatasetError(
            f"{path} is no label map ({problem}). Expected a JSON object or lines like anger=angry."
        ) from problem


def _pair(part: str, text: str) -> tuple[str, str]:
    name, equals, target = part.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"A label map is a file, or like anger=angry,contempt=. Received: {text!r}.")
    return name, target
