"""The site: every page is in it, every link of it leads somewhere, and what the code can tell is told as the code has it."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import typer

import ferkit
from faces import face_set
from ferkit.labels import EMOTIONS
from ferkit.results import Box, Face, FaceEmotion, PictureResult, table_columns
from ferkit.training.label_issues import confident_learning

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def tool(name: str):
    """A script of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(path: Path) -> set[str]:
    """What stands as code in the first column of the tables of a page."""
    cells = re.findall(r"^\| (`[^|]+) \|", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("page", ["command-line.md", "recipes.md"])
def test_the_reference_is_what_the_code_says(page):
    written = (DOCS / "reference" / page).read_text(encoding="utf-8")
    assert written == tool("reference").pages()[page], "run python tools/reference.py"


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param("ferkit predict SOURCE... [OPTIONS]", id="several"),
        pytest.param("ferkit evaluate MODEL... DATA [OPTIONS]", id="several, then one"),
        pytest.param("ferkit live [SOURCE] [OPTIONS]", id="one or none"),
        pytest.param("ferkit models [MODEL]... [OPTIONS]", id="any number"),
    ],
)
def test_usages_say_how_many_words_a_command_takes(usage):
    assert f"\n`{usage}`\n" in tool("reference").command_line()


def test_the_help_says_how_many_models_it_takes(run_ferkit):
    # Typer before 0.29 leaves the dots out.
    dots = "..." if [int(part) for part in typer.__version__.split(".")[:2]] >= [0, 29] else ""
    assert f"ferkit models [OPTIONS] [MODEL]{dots}\n" in run_ferkit("models", "--help")[1]


def test_every_public_name_is_in_the_reference():
    listed = set(re.findall(r"^<!-- api: ferkit\.(\w+)", (DOCS / "reference" / "python.md").read_text(), re.MULTILINE))
    assert listed == set(ferkit.__all__) - {"__version__"}


def test_formats_names_every_key_and_column():
    face = FaceEmotion(Face(Box(0, 0, 2, 2), 0.5), "happy", 1.0, {"happy": 1.0})
    result = PictureResult("a.jpg", 4, 4, (face,)).to_dict()
    listed = rows_of(DOCS / "reference" / "formats.md")
    assert {*result, *result["faces"][0], *table_columns(EMOTIONS)} - set(EMOTIONS) <= listed


def test_formats_names_every_key_of_suspects():
    faces = face_set(21, 1, "val")
    found = confident_learning(faces, np.full((21, 7), 1 / 7, np.float32), [""] * 21, "x").to_dict()
    listed = rows_of(DOCS / "reference" / "formats.md")
    assert {"suspects", *found} <= listed


def pages_in(navigation) -> list[str]:
    if isinstance(navigation, str):
        return [navigation]
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for part in parts for page in pages_in(part)]


def test_every_page_is_in_the_navigation_once():
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    listed = pages_in(project["nav"])
    there = {place for path, place in tool("build_site").sources() if path.suffix in (".md", ".ipynb")}
    assert sorted(listed) == sorted(there)


def test_the_settings_name_the_tool_that_uses_them():
    said = (ROOT / "zensical.toml").read_text(encoding="utf-8").splitlines()[0]
    for name in re.findall(r"tools/\w+\.py", said):
        assert (ROOT / name).is_file(), name


def test_every_picture_is_shown_and_has_its_command():
    shown = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *DOCS.rglob("*.md")])
    made = (ROOT / "tools" / "figures.py").read_text(encoding="utf-8")
    for picture in (DOCS / "images").iterdir():
        assert picture.name in shown
        # Made by tools/figures.py, or by a command that the page shows.
        assert picture.name in made or f"docs/images/{picture.name}" in shown
        assert picture.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[a](../README.md#models)", "[a](index.md#models)", id="another place"),
        pytest.param("[a](data.md)", "[a](data.md)", id="beside it"),
        pytest.param("[a](#here) <https://a.b>", "[a](#here) <https://a.b>", id="no file"),
        pytest.param("[a](../LICENSE)", "[a](files/LICENSE)", id="a file of the repository"),
        pytest.param("```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```", id="code"),
        pytest.param("<!-- api: ferkit.train -->", "::: ferkit.train", id="documentation of the code"),
    ],
)
def test_links_are_bent(text, expected):
    site = tool("build_site")
    places = {**dict(site.sources()), ROOT / "LICENSE": "files/LICENSE"}
    assert site.bent(text, DOCS / "training.md", places) == expected


@pytest.mark.parametrize("target", ["gone.md", "../../secret.md", "images"])
def test_links_to_nowhere_end_the_build(target):
    site = tool("build_site")
    with pytest.raises(site.BrokenLinkError, match=re.escape(target)):
        site.bent(f"[a]({target})", DOCS / "training.md", dict(site.sources()))


def test_docstrings_become_markdown():
    # Griffe comes with the site's own packages; only its name is needed here.
    pytest.importorskip("griffe")
    as_markdown = tool("docstrings").as_markdown
    text = as_markdown("One.\n\nepochs: how many\n\n>>> 1 + 1\n2\n\nExample:\n    run = train()\n    print(run)\n")
    assert "- `epochs`: how many" in text
    assert "```python\n>>> 1 + 1\n2\n```" in text
    assert "```python\nrun = train()\nprint(run)\n```" in text


class Page(HTMLParser):
    """What a page links to and loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("script", "img", "source", "iframe") and found.get("src"):
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("rel") != "canonical" and found.get("href"):
            self.loaded.append(found["href"])


@pytest.mark.slow
def test_the_site_is_whole():
    pytest.importorskip("zensical")
    site = tool("build_site")
    assert site.main() == 0
    pages = {path: Page(path) for path in site.SITE.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 30
    broken = []
    for path, page in pages.items():
        for target in [*page.links, *page.loaded]:
            name, _, anchor = unquote(target).partition("#")
            if re.match(r"(https?:)?//|mailto:|data:", target):
                if target in page.loaded:
                    broken.append(f"{path.name} loads {target}")
                continue
            place = (path.parent / name).resolve() if name else path
            place = place / "index.html" if place.is_dir() else place
            if not place.exists() or (anchor and place in pages and anchor not in pages[place].anchors):
                broken.append(f"{path.relative_to(site.SITE)} links to {target}")
    assert not broken


@pytest.mark.slow
def test_a_missing_anchor_ends_the_build(tmp_path):
    """Zensical's strict mode does what we rely on."""
    pytest.importorskip("zensical")
    shutil.copyfile(ROOT / "zensical.toml", tmp_path / "zensical.toml")
    pages = tmp_path / "build" / "docs"
    pages.mkdir(parents=True)
    config = re.sub(
        r"^nav = \[.*?^\]$", 'nav = ["index.md"]', (tmp_path / "zensical.toml").read_text(), flags=re.M | re.S
    )
    (tmp_path / "zensical.toml").write_text(re.sub(r"\[project\.plugins.*", "", config, flags=re.S))
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    (pages / "index.md").write_text("# One\n\n[here](#one)\n")
    assert subprocess.run(build, cwd=tmp_path, capture_output=True).returncode == 0
    (pages / "index.md").write_text("# One\n\n[nowhere](#two)\n")
    assert subprocess.run(build, cwd=tmp_path, capture_output=True).returncode != 0
