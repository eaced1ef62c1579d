"""Rows of a long benchmark, kept as they are done, so that it goes on where it was stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically


class KeptRows:
    """Rows in `NAME.json` beside a benchmark, and `NAME.md` made of them, both written anew after each row.

    script: the benchmark. about: what all rows have in common; rows of another kind are refused. to_page: makes the
    page's text of {"about": about, "rows": rows}.
    """

    def __init__(self, script: str | Path, about: dict[str, Any], to_page: Callable[[dict[str, Any]], str]) -> None:
        script = Path(script)
        self._file = script.with_suffix(".json")
        self._page = script.with_name(f"{script.stem.upper()}.md")
        self._to_page = to_page
        self._stored = json.loads(self._file.read_text()) if self._file.is_file() else {"about": about, "rows": {}}
        if self._stored["about"] != about:
            raise SystemExit(
                f"{self._file.name} holds rows of another kind: {self._stored['about']}. Remove it, or use its values."
            )
        self.rows: dict[str, Any] = self._stored["rows"]

    def write(self) -> None:
        """Keep the rows as they are now, and write the page."""
        with write_atomically(self._file) as draft:
            draft.write_text(json.dumps(self._stored, indent=1) + "\n")
        with write_atomically(self._page) as draft:
            draft.write_text(self._to_page(self._stored))
