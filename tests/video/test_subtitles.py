"""Subtitles of a timeline, read by FFmpeg and the standard library's XML: what is tested has no part in it."""

from xml.etree import ElementTree

import pytest
from test_video_timeline import PIXELS, face

from ferkit.errors import UsageError
from ferkit.labels import EMOTIONS
from ferkit.video import FrameFaces, Timeline, write_subtitles
from ferkit.video.frames import Frame

# Two people; the first breaks off for a frame, which begins a new segment.
FRAMES = ["1 happy", "1 happy, 2 sad", "2 sad", "1 happy", "1 neutral"]
EXPECTED = [(1, "happy", 0, 500), (2, "sad", 250, 750), (1, "happy", 750, 1000), (1, "neutral", 1000, 1250)]


@pytest.fixture
def timeline():
    timeline = Timeline("a clip & more.mp4", EMOTIONS, keep_stretches=True)
    for number, words in enumerate(FRAMES):
        faces = [face(int(word[0]), word[2:]) for word in words.split(", ")]
        timeline.add(FrameFaces(Frame(number, number / 4, PIXELS), tuple(faces)))
    timeline.finish()
    return timeline


@pytest.mark.parametrize("suffix", [".vtt", ".srt"])
def test_ffmpeg_reads_them(timeline, tmp_path, suffix):
    av = pytest.importorskip("av")
    path = tmp_path / f"clip{suffix}"
    write_subtitles(timeline, path)
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux() if packet.pts is not None]
        found = [
            (bytes(packet).decode(), *(int(1000 * float(t * packet.time_base)) for t in (packet.pts, packet.duration)))
            for packet in packets
        ]
    assert found == [
        (f"Person {track}: {label} ({(end - start) / 1000:.1f} s)", start, end - start)
        for track, label, start, end in EXPECTED
    ]


def test_elan(timeline, tmp_path):
    write_subtitles(timeline, tmp_path / "clip.eaf")
    document = ElementTree.parse(tmp_path / "clip.eaf").getroot()  # noqa: S314 - our own file
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in document.iter("TIME_SLOT")}
    found = [
        (tier.get("TIER_ID"), one.findtext("ANNOTATION_VALUE"), *(times[one.get(f"TIME_SLOT_REF{n}")] for n in (1, 2)))
        for tier in document.iter("TIER")
        for one in tier.iter("ALIGNABLE_ANNOTATION")
    ]
    assert found == sorted((f"person {track}", *rest) for track, *rest in EXPECTED)
    assert document.find("HEADER/MEDIA_DESCRIPTOR").get("MEDIA_URL").endswith("/a%20clip%20%26%20more.mp4")


def test_markup_in_a_class_is_text(tmp_path):
    timeline = Timeline("clip.mp4", ("<b>&-->\n",), keep_stretches=True)
    timeline.stretches = {(1, 0.0): type("Stretch", (), {"label": "<b>&-->\n", "start_s": 0, "end_s": 1, "seconds": 1})}
    write_subtitles(timeline, tmp_path / "clip.vtt")
    assert (
        tmp_path / "clip.vtt"
    ).read_text() == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n&lt;b&gt;&amp;--&gt;\\n (1.0 s)\n"


def test_another_ending(timeline, tmp_path):
    with pytest.raises(UsageError, match=r"Expected a name that ends in \.vtt, \.srt, \.eaf"):
        write_subtitles(timeline, tmp_path / "clip.sub")
