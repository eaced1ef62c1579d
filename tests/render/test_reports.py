"""One report, four renderings: each shows what it can, escapes what is hostile, and loses no number."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ferkit.data import FaceSet
from ferkit.evaluation import Comparison, write_comparison, write_report
from ferkit.evaluation.group_table import GroupTable
from ferkit.evaluation.groups import group_report
from ferkit.evaluation.report import measure
from ferkit.render import (
    Beside,
    Bullets,
    Cell,
    ClassName,
    Code,
    CodeBlock,
    Column,
    DataTable,
    Document,
    FaceGallery,
    FaceTile,
    Figure,
    Heading,
    Metric,
    Metrics,
    Section,
    Text,
    new_figure,
    save,
    to_json,
    to_markdown,
    to_text,
    write_page,
)
from ferkit.training import confident_learning
from ferkit.training import write_page as write_issues
from pages import HOSTILE, Page


def draw(path, theme):
    save(new_figure(theme, height=1), path)


def document(said="fine"):
    table = DataTable(
        ("Class", "Faces", Column("Most confused with", left=True)),
        ((ClassName(said), Cell("1,234", said), said), ("happy", Cell("5", strong=True), Cell("", bar=(0.5, said)))),
    )
    tile = FaceTile(np.zeros((4, 4, 1), np.uint8), (said,), said, (said, said), said)
    blocks = (
        Text((said, Code(said), ".")),
        Text(said, quiet=True),
        Text(said, quote=True),
        Heading(said),
        Bullets((said, (said, Code(said)))),
        CodeBlock(said, "python"),
        Metrics((Metric(said, "70.7%", said),)),
        Beside((Figure("plot", draw, said),), (table,)),
        DataTable((), ((said, said),), folded=said),
        FaceGallery((tile,), "faces"),
    )
    section = Section(said, blocks, wide=True, notice=True, key="part", data={"n": 1234})
    return Document(said, (said, Code(said)), (section,), {"model": said})


def test_a_page_escapes_everything_and_asks_nobody(tmp_path):
    written = write_page(document(HOSTILE), tmp_path / "new", data="numbers.json")
    page = Page(written.read_text(encoding="utf-8"))
    page.check_harmless()
    # Title twice, about twice, and all of the section.
    assert page.text.count(HOSTILE) >= 20
    assert json.loads((tmp_path / "new" / "numbers.json").read_text()) == {"model": HOSTILE, "part": {"n": 1234}}
    assert {one.name for one in (tmp_path / "new" / "figures").iterdir()} == {
        "plot.png", "plot-dark.png", "faces.png"
    }  # fmt: skip


def measured(shift=0):
    """A report in which every name comes from an attacker."""
    labels = np.arange(40) % 2
    faces = FaceSet(np.zeros((40, 4, 4, 1), np.uint8), labels, (HOSTILE, f"b{HOSTILE}"), HOSTILE)
    probabilities = np.full((40, 2), 0.2, np.float32)
    probabilities[np.arange(40), np.where(np.arange(40) % 5 == shift, 1 - labels, labels)] = 0.8
    return replace(measure(probabilities, faces, model=HOSTILE, seconds=1), card={HOSTILE: {HOSTILE: [HOSTILE]}})


def with_groups(report):
    table = GroupTable({HOSTILE: (HOSTILE, f"b{HOSTILE}") * 20}, HOSTILE)
    return replace(report, parts=(group_report(report, table),))


REPORTS = {
    "evaluation": lambda folder: write_report(with_groups(measured()), folder),
    "comparison": lambda folder: write_comparison(Comparison(measured(), measured(1)), folder),
    "label issues": lambda folder: write_issues(
        confident_learning(measured().faces, measured().probabilities, [HOSTILE] * 40, HOSTILE), folder
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_page_escapes_names_and_asks_nobody(name, tmp_path):
    written = REPORTS[name](tmp_path)
    page = Page(written.read_text(encoding="utf-8"))
    page.check_harmless()
    assert page.text.count("<script>alert(1)</script>") >= 10
    (policy,) = (one["content"] for one in page.all("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")
    json.loads(next(tmp_path.glob("*.json")).read_text(encoding="utf-8"))


def test_markdown_has_no_markup_of_others():
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(document(HOSTILE)))
    kinds = {part.type for token in tokens for part in token.children or ()} | {token.type for token in tokens}
    assert not {"html_inline", "html_block", "link_open", "em_open"} & kinds
    assert {"heading_open", "blockquote_open", "bullet_list_open", "fence", "table_open"} <= kinds


def test_a_terminal_shows_texts_and_tables_as_they_are():
    lines = to_text(document("[red]x"), 60).splitlines()
    assert lines[0] == "[red]x: [red]x[red]x"
    assert "Class    Faces  Most confused with" in lines
    assert "[red]x   1,234  [red]x" in lines
    assert "        [red]x" in lines, "the note of a cell"
    assert "happy        5  ████████████" in lines
    assert "- [red]x" in lines


def test_words_are_wrapped_and_numbers_are_not_cut():
    words = "word " * 30
    table = DataTable(("Name", "Number"), ((words.strip(), "1,234,567"),))
    lines = to_text(Document("t", "", (Section("", (table, Text(words, detail=True))),)), 50).splitlines()
    assert max(map(len, lines)) <= 50
    assert sum(line.count("word") for line in lines) == 30, "the detail is for pages"
    assert any(line.endswith("1,234,567") for line in lines)


@pytest.mark.parametrize("rows", [pytest.param((("a",),), id="fewer"), pytest.param((("a", "b", "c"),), id="more")])
def test_a_row_has_as_many_cells_as_there_are_columns(rows):
    with pytest.raises(ValueError, match="needs 2 cells"):
        DataTable(("Name", "Number"), rows)


def test_json_has_the_entries_of_the_report_then_those_of_its_sections():
    assert list(to_json(document())) == ["model", "part"]
