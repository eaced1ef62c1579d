"""What the stress tests found, as tables: on the terminal, in results.json, and from there in RESULTS.md."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferkit._support.files import write_atomically
from ferkit.models.model_folder import git_commit

if TYPE_CHECKING:
    from kill import Kill

_HERE = Path(__file__).parent
_DATA, _PAGE, _TEXT = _HERE / "results.json", _HERE / "RESULTS.md", _HERE / "TEXT.md"

Table = Mapping[str, Mapping[str, Any]]


def kill_row(kills: "Sequence[Kill]") -> dict[str, Any]:
    """The kills of a command in one row."""
    nexts = [one.next_start for one in kills]
    return {
        "kills": sum(one.killed for one in kills),
        "over before": sum(not one.killed for one in kills),
        "in the middle of a write": sum(one.half_written for one in kills),
        "next start": ", ".join(f"{nexts.count(name)} {name}" for name in dict.fromkeys(nexts)),
        "drafts left": sum(one.left_over for one in kills),
        "amiss": sum(bool(one.problems) for one in kills),
    }


def show_kills(found: "Mapping[str, Sequence[Kill]]") -> None:
    print("\n".join(table("command", {name: kill_row(kills) for name, kills in found.items()})))


def table(first: str, rows: Table) -> list[str]:
    """Rows by their names, as Markdown."""
    columns = list(next(iter(rows.values()), {}))
    lines = [f"| {' | '.join([first, *columns])} |", f"|{'---|' * (len(columns) + 1)}"]
    return lines + [
        f"| {' | '.join([name, *(str(row.get(column, '')) for column in columns)])} |" for name, row in rows.items()
    ]


def keep(part: str, rows: Table, seed: int | None = None) -> None:
    """Put the rows of a part beside those that are kept already, and write the page anew."""
    known = json.loads(_DATA.read_text(encoding="utf-8")) if _DATA.is_file() else {}
    entry = known.setdefault(part, {"rows": {}})
    entry["rows"] |= {name: dict(row) for name, row in rows.items()}
    entry["about"] = {
        "on": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **({} if seed is None else {"seed": seed}),
    }
    with write_atomically(_DATA) as draft:
        draft.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    with write_atomically(_PAGE) as draft:
        draft.write_text(page(known), encoding="utf-8")


_FIRST = {"kill": "command", "full_disk": "command", "soak": "what"}


def page(known: Mapping[str, Any]) -> str:
    """TEXT.md with each line `{part}` replaced by the table of that part."""
    text = _TEXT.read_text(encoding="utf-8")
    for part, first in _FIRST.items():
        body = "Not run yet."
        if part in known:
            about = ", ".join(f"{name} {value}" for name, value in known[part]["about"].items() if value is not None)
            body = "\n".join([*table(first, known[part]["rows"]), "", f"({about})"])
        text = text.replace(f"{{{part}}}", body)
    return text


if __name__ == "__main__":
    with write_atomically(_PAGE) as _draft:
        _draft.write_text(page(json.loads(_DATA.read_text(encoding="utf-8"))), encoding="utf-8")
