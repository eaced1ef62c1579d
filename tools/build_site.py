"""Build the documentation as a site: from the Markdown of the repository, offline, into build/site.

    python tools/build_site.py

The Markdown is written for a code host, where links go from file to file all over the repository. A site has one folder
of pages, so they are gathered in build/docs first, their links bent to match. A link to nowhere ends the build, as does
an anchor that does not exist (Zensical's strict mode).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "docs"
SITE = ROOT / "build" / "site"
# What lies outside of docs/, and where the site has it.
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
FENCE = re.compile(r"^\s*(```|~~~)")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
# Tables that site.css lays out in two equal halves.
SIDE_BY_SIDE = re.compile(r"^(\| the tutorial \| ferkit \|\n(?:\|.*(?:\n|$))+)", re.MULTILINE)
API = re.compile(r"^<!-- api: ([\w.]+) -->$", re.MULTILINE)
# Where a page leads to the one that recognises in the browser, which is no Markdown.
TRY = re.compile(r"^<!-- try: (.+) -->$", re.MULTILINE)
UNBUILT = (
    "This copy of the documentation was built without npm, so the page is missing. <code>make web</code> builds it."
)


class BrokenLinkError(Exception):
    """A link in the Markdown that leads to no file."""


def main() -> int:
    try:
        gather(PAGES)
    except BrokenLinkError as problem:
        print(problem, file=sys.stderr)
        return 1
    shutil.rmtree(SITE, ignore_errors=True)
    code = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=ROOT).returncode
    if not code:
        _build_try()
        place = SITE.relative_to(ROOT)
        print(f"Open {place}/index.html, or, for the search too: python -m http.server -b 127.0.0.1 -d {place}")
    return code


def _build_try() -> None:
    """The page that recognises faces in the browser; a line in its place where there is no npm."""
    if subprocess.run([sys.executable, "tools/build_web.py"], cwd=ROOT).returncode:
        page = _parents(SITE / "try" / "index.html")
        page.write_text(f"<!doctype html><title>ferkit</title><p>{UNBUILT}</p>", encoding="utf-8")


def gather(target: Path) -> None:
    """Write every page that the site has below `target`, and the files that they show or link to."""
    shutil.rmtree(target, ignore_errors=True)
    places = dict(sources())
    waiting = list(places)
    while waiting:
        source = waiting.pop()
        place = target / places[source]
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix not in (".md", ".ipynb"):
            shutil.copyfile(source, place)
            continue
        for linked in links(source):
            if linked not in places:
                places[linked] = f"files/{linked.relative_to(ROOT)}"
                waiting.append(linked)
        text = as_markdown(source) if source.suffix == ".ipynb" else source.read_text(encoding="utf-8")
        place.write_text(bent(text, source, places), encoding="utf-8")


def sources() -> Iterator[tuple[Path, str]]:
    """The files that make the site, and the place of each in it."""
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.is_file():
            yield path, str(path.relative_to(ROOT / "docs"))
    for path in sorted((ROOT / "benchmarks").glob("*.md")):
        yield path, str(path.relative_to(ROOT))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        yield path, str(path.relative_to(ROOT).with_suffix(".md"))
    for name, place in ELSEWHERE.items():
        yield ROOT / name, place
    if (ROOT / "SECURITY.md").exists():
        yield ROOT / "SECURITY.md", "security.md"


def as_markdown(notebook: Path) -> str:
    """A notebook's text and code, without outputs: none are committed."""
    parts = [f"This page is the notebook [{notebook.name}](./{notebook.name}) without its outputs: run it to see them."]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    # The title stays the first line of the page.
    return "\n\n".join([parts[1], parts[0], *parts[2:]]) + "\n"


def links(source: Path) -> list[Path]:
    """The files of the repository that a page links to."""
    found: list[Path] = []
    text = as_markdown(source) if source.suffix == ".ipynb" else source.read_text(encoding="utf-8")
    on_links(text, lambda target: _note(found, source, target))
    return found


def _note(found: list[Path], source: Path, target: str) -> str:
    path = resolve(source, target)
    if path is not None:
        found.append(path)
    return target


def resolve(source: Path, target: str) -> Path | None:
    """The file that a link means; None for addresses and for anchors of the page itself."""
    name = target.partition("#")[0]
    if not name or re.match(r"[a-z]+:", name):
        return None
    path = (source.parent / name).resolve()
    if path.is_dir() and (path / "README.md").exists():
        path = path / "README.md"
    if not path.is_file() or not path.is_relative_to(ROOT):
        raise BrokenLinkError(f"{source.relative_to(ROOT)} links to {target}, which is no file of the repository.")
    return path


def bent(text: str, source: Path, places: dict[Path, str]) -> str:
    """The text with its links as the site needs them, and with the documentation of the code where it asks for it."""

    def bend(target: str) -> str:
        path = resolve(source, target)
        if path is None:
            return target
        anchor = target.partition("#")[1] + target.partition("#")[2]
        # A notebook links to itself as a file, all other pages to its page.
        place = f"files/notebooks/{path.name}" if target.startswith("./") and path == source else places[path]
        if place.startswith("files/") and path == source:
            shutil.copyfile(path, _parents(PAGES / place))
        return os.path.relpath(place, Path(places[source]).parent) + anchor

    text = SIDE_BY_SIDE.sub(r'<div class="side-by-side" markdown>\n\n\1\n</div>\n', on_links(text, bend))
    way = os.path.relpath("try/index.html", Path(places[source]).parent)
    return TRY.sub(rf'<a href="{way}">\1</a>', API.sub(r"::: \1", text))


def _parents(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def on_links(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to the target of each link and picture that is not inside a code block."""
    lines, code = [], False
    for line in text.split("\n"):
        if FENCE.match(line):
            code = not code
        lines.append(line if code else LINK.sub(lambda found: found[1] + change(found[2]) + found[3], line))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
