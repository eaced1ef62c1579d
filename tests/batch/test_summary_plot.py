"""Plots of summaries: every grouping, what is put together and left out so that it can be read."""

from datetime import date, timedelta

import PIL.Image
import pytest

from ferkit.batch.summary import GroupSummary, LabelCount, Summary
from ferkit.batch.summary_plot import periods_of, plot_summary
from ferkit.errors import UsageError
from ferkit.labels import EMOTIONS


def group(name: str, **faces: int) -> GroupSummary:
    labels = {label: LabelCount(n, 0.8) for label, n in faces.items()}
    return GroupSummary(name, sum(faces.values()), 0, 0, labels)


def days(first: str, n: int, faces: int = 40) -> list[GroupSummary]:
    start = date.fromisoformat(first)
    return [group(str(start + timedelta(days=day)), happy=faces, sad=1) for day in range(n)]


def summary_of(groups: list[GroupSummary], by: str, **others: str) -> Summary:
    labels: dict[str, LabelCount] = {}
    for one in groups:
        for label, count in one.labels.items():
            labels[label] = LabelCount(count.faces + (labels[label].faces if label in labels else 0), 0.8)
    total = GroupSummary("", 1, 0, 0, labels)
    shown = () if by == "label" else tuple(groups)
    return Summary("out", 1, None, EMOTIONS, 0.0, total, None, None, 0, (), by, **others, groups=shown)  # type: ignore[arg-type]


def texts_of(figure):
    all_axes = [one for axes in figure.axes for one in (axes, *axes.child_axes)]
    found = [text.get_text() for axes in all_axes for text in (*axes.texts, *axes.get_yticklabels())]
    titles = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "right")]
    legends = [text.get_text() for legend in figure.legends for text in (legend.get_title(), *legend.get_texts())]
    return [text for text in [*found, *titles, *legends, *(text.get_text() for text in figure.texts)] if text]


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        pytest.param(
            summary_of([group("a", happy=3, sad=1)], "label"),
            ["Perceived emotion of 4 faces", "75%  (3)", "25%  (1)", "happy"],
            id="label",
        ),
        pytest.param(
            summary_of([group("x/$y$", happy=1234), group("z", bored=1)], "folder", root="/photos"),
            ["1,234", r"x/\$y\$", "below /photos; pale: fewer than 30 faces", "bored"],
            id="folder",
        ),
        pytest.param(
            summary_of([group(f"f{n}", happy=99 - n) for n in range(27)], "folder"),
            ["f0", "f24", "2 more with fewer faces"],
            id="many-folders",
        ),
        pytest.param(
            summary_of([group("2024-01", happy=50, uncertain=3), group("", sad=2)], "month"),
            ["Perceived emotion by month", "2024-01", "faces not drawn: 2 without a date", "uncertain"],
            id="month",
        ),
        pytest.param(
            summary_of(days("2024-01-01", 5), "day"),
            ["Perceived emotion by day", "2024-01-01 to 2024-01-05"],
            id="day",
        ),
        pytest.param(summary_of([group("", happy=1)], "day"), ["No image has a capture time."], id="undated"),
        pytest.param(summary_of([], "folder"), ["No faces to draw."], id="no-faces"),
    ],
)
def test_says_what_it_shows(tmp_path, monkeypatch, summary, expected):
    drawn = []
    monkeypatch.setattr("ferkit.batch.summary_plot.save", lambda figure, path, look: drawn.append(figure))
    plot_summary(summary, tmp_path / "plot.png")
    texts = texts_of(drawn[0])
    assert set(expected) <= set(texts)
    assert "f25" not in texts


@pytest.mark.parametrize("name", ["plot.png", "plot.svg", "plot.pdf"])
def test_files(tmp_path, name):
    plot_summary(summary_of(days("2024-01-01", 3), "day"), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    if name.endswith("png"):
        assert PIL.Image.open(tmp_path / name).width == 1600


@pytest.mark.parametrize("name", ["plot.txt", "plot", "folder.png"])
def test_no_file_for_a_plot(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError):
        plot_summary(summary_of([], "label"), tmp_path / name)


@pytest.mark.parametrize(
    ("groups", "unit", "expected", "notes"),
    [
        pytest.param(
            days("2024-02-27", 4), "day", ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"], [], id="few"
        ),
        pytest.param(days("2024-01-01", 201), "day", [f"2024-{m:02}" for m in range(1, 8)], [], id="days-to-months"),
        pytest.param(
            [*days("2012-12-06", 1), *days("2016-01-02", 1)],
            "day",
            ["2012-12", "2016-01"],
            [],
            id="far-apart-to-months",
        ),
        pytest.param(days("2000-01-01", 12_500), "day", [str(y) for y in range(2000, 2035)], [], id="days-to-years"),
        pytest.param(
            [group("1970-01", happy=1), *(group(f"2024-{m:02}", happy=300) for m in range(1, 4))],
            "month",
            ["2024-01", "2024-02", "2024-03"],
            ["faces not drawn: 1 before or after"],
            id="a-stray",
        ),
        pytest.param(
            [group("1970-01", happy=9), group("2024-01", happy=300)], "month", ["1970", "2024"], [], id="no-stray"
        ),
    ],
)
def test_periods(groups, unit, expected, notes):
    drawn = periods_of(groups, unit)
    assert [one.name for one in drawn.groups] == expected
    assert drawn.notes == notes
    assert all(before[1] <= after[0] for before, after in zip(drawn.spans, drawn.spans[1:], strict=False))
    if not notes:
        assert sum(one.faces for one in drawn.groups) == sum(one.faces for one in groups)


@pytest.mark.parametrize(
    ("name", "unit", "days"), [("2024-12", "month", 31), ("2023-02", "month", 28), ("2024-12-31", "day", 1)]
)
def test_spans(name, unit, days):
    ((start, end),) = periods_of([group(name, happy=1)], unit).spans
    assert (end - start).days == days
