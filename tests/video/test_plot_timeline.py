import itertools

import PIL.Image
import pytest
from test_video_timeline import PIXELS, Frame, FrameFaces, face, timeline_of

from ferkit.video.peaks import Peaks
from ferkit.video.plot import _apart, plot_timeline
from ferkit.video.timeline import clock


@pytest.mark.parametrize("count", [0, 1, 8, 12])
def test_a_plot_of_so_many_people(tmp_path, monkeypatch, count):
    words = [", ".join(f"{track} {label}" for track in range(1, count + 1)) for label in ("happy", "sad", "sad")]
    timeline, peaks, drawn = timeline_of(*words, source="a/$party$.mp4"), Peaks(), []
    peaks.add(FrameFaces(Frame(0, 0.1, PIXELS), tuple(face(track, "sad") for track in range(1, count + 1))))
    monkeypatch.setattr("ferkit.video.plot.save", lambda figure, path: drawn.append(figure))
    plot_timeline(timeline, tmp_path / "plot.png", peaks=peaks)
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts[0] == r"\$party\$.mp4: perceived emotion over time"
    assert [text for text in texts if text.startswith("Person")] == [f"Person {n}" for n in range(1, min(count, 8) + 1)]
    assert ("No face was found." in texts) == (count == 0)
    assert ("4 more were seen more briefly" in texts) == (count == 12)
    assert len(drawn[0].axes) == 2 * min(count, 8)
    if count:
        assert "67% sad" in texts


@pytest.mark.parametrize("name", ["plot.png", "plot.svg", "plot.pdf"])
def test_files(tmp_path, name):
    plot_timeline(timeline_of("1 happy", "1 sad", "", "1 sad"), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    if name.endswith("png"):
        assert PIL.Image.open(tmp_path / name).width == 1800


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([], id="none"),
        pytest.param([0.0, 0.0, 0.0], id="all-at-the-start"),
        pytest.param([6.5] * 7, id="all-at-the-end"),
        pytest.param([1.0, 3.0, 5.0], id="apart-already"),
        pytest.param([0.1, 3.0, 3.1, 3.2, 6.4], id="a-cluster"),
    ],
)
def test_pictures_do_not_overlap(places):
    moved = _apart(places, 6.5)
    assert all(0.25 <= place <= 6.25 for place in moved)
    assert all(after - before > 0.5 for before, after in itertools.pairwise(moved))
    if places == [1.0, 3.0, 5.0]:
        assert moved == pytest.approx(places)


@pytest.mark.parametrize(
    ("seconds", "longest", "text"), [(0, 5, "0.0 s"), (59.96, 61, "1:00"), (3599.7, 4000, "1:00:00"), (61, 100, "1:01")]
)
def test_clock(seconds, longest, text):
    assert clock(seconds, longest) == text
