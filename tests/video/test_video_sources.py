import socket
import time
import weakref

import cv2
import numpy as np
import PIL.Image
import pytest

pytest.importorskip("av")

from clips import counted, gray, packet_places, turn, write_clip
from ferkit.errors import MissingDependencyError, UsageError, VideoError
from ferkit.video import frames as stream
from ferkit.video import sources
from ferkit.video.frames import Every, RisingClock
from ferkit.video.sources import open_video
from pictures import many_scans


def read(source, **options):
    with open_video(source, **options) as frames:
        found = list(frames)
    return frames, found


def levels(found):
    return [round(float(frame.pixels.mean())) for frame in found]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        pytest.param("clip.mp4", "libx264", id="mp4"),
        pytest.param("clip.mov", "libx264", id="mov"),
        pytest.param("clip.avi", "mpeg4", id="avi"),
        pytest.param("clip.mkv", "libx264", id="mkv"),
        pytest.param("clip.webm", "libvpx", id="webm"),
        pytest.param("time: 10:30 [a].mp4", "libx264", id="name-like-an-address"),
    ],
)
def test_formats(tmp_path, name, codec):
    clip = write_clip(tmp_path / name, counted(8), codec=codec)
    frames, found = read(clip)
    assert [frame.number for frame in found] == list(range(8))
    assert [frame.time_s for frame in found] == pytest.approx([place / 10 for place in range(8)], abs=2e-3)
    assert levels(found) == pytest.approx(levels_of(counted(8)), abs=6)
    assert {(frame.pixels.shape, frame.pixels.dtype.name) for frame in found} == {((48, 64, 3), "uint8")}
    assert (frames.broken, frames.problem, frames.live) == (0, None, False)
    assert frames.duration_s == pytest.approx(0.8, abs=0.11)
    assert frames.name == str(clip)


def levels_of(pictures):
    return [round(float(picture.mean())) for picture in pictures]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_variable_frame_rate_keeps_its_times(tmp_path, name):
    times = [0.0, 0.04, 0.5, 0.54, 0.58, 2.0, 2.01]
    _, found = read(write_clip(tmp_path / name, counted(7), times=times))
    assert [frame.time_s for frame in found] == pytest.approx(times, abs=1e-3)


def test_a_stream_that_does_not_begin_at_zero(tmp_path):
    clip = write_clip(tmp_path / "clip.ts", counted(5), times=[7 + place / 10 for place in range(5)], form="mpegts")
    _, found = read(clip)
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=2e-3)


def test_a_stream_without_times(tmp_path):
    _, found = read(write_clip(tmp_path / "clip.h264", counted(5), form="h264"))
    steps = np.diff([frame.time_s for frame in found])
    assert len(found) == 5
    assert (steps > 0).all()
    assert steps == pytest.approx([steps[0]] * 4)


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        pytest.param([5.0, 5.1, 5.2], [0, 0.1, 0.2], id="from-the-first"),
        pytest.param([0.0, None, None, 0.4], [0, 0.1, 0.2, 0.4], id="missing"),
        pytest.param([None, None, 1.0], [0, 0.1, 0.2], id="none-at-first"),
        pytest.param([0.0, 0.5, 0.5, 0.6], [0, 0.5, 0.501, 0.6], id="twice"),
        pytest.param([100.0, 100.1, 2.0, 2.1], [0, 0.1, 0.2, 0.3], id="begins-anew"),
        pytest.param([0.0, float("nan"), 0.3], [0, 0.1, 0.3], id="nan"),
    ],
)
def test_times_rise(stamps, times):
    clock = RisingClock(None, 0.1)
    assert [clock(stamp) for stamp in stamps] == pytest.approx(times)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_frames_are_upright(tmp_path, degrees, corner):
    """The bright corner is at the bottom left of a frame that was turned by 90 degrees clockwise to be shown."""
    stored = np.full((48, 64, 3), 30, np.uint8)
    upright = np.full((64, 48, 3) if degrees != 180 else (48, 64, 3), 30, np.uint8)
    rows, columns = (slice(0, 16) if place == 0 else slice(-16, None) for place in corner)
    upright[rows, columns] = 220
    stored[:] = np.rot90(upright, degrees // 90)
    _, (frame, *_) = read(turn(write_clip(tmp_path / "clip.mp4", [stored] * 2), degrees))
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 6
    assert frame.pixels[rows, columns].mean() > 200


def test_pixels_are_square(tmp_path):
    import av

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for picture in gray(100, 100, width=48, height=64):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    assert {frame.pixels.shape for frame in read(clip)[1]} == {(64, 96, 3)}


def test_broken_frames_are_left_out_and_counted(tmp_path):
    clip = write_clip(tmp_path / "clip.mov", counted(6), codec="png")
    data = bytearray(clip.read_bytes())
    for place in (1, 4):
        start, size = packet_places(clip)[place]
        data[start : start + size] = bytes(size)
    clip.write_bytes(data)
    frames, found = read(clip)
    assert [frame.number for frame in found] == [0, 2, 3, 5]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.2, 0.3, 0.5])
    assert (frames.broken, frames.problem) == (2, None)


def test_frames_that_cannot_be_shown_are_left_out_and_counted(tmp_path, monkeypatch):
    class Odd:
        width = 64

        def to_ndarray(self, format):
            raise RuntimeError("no such pixel format")

    shown, pixels = iter([True, False, True]), stream._pixels
    monkeypatch.setattr(stream, "_pixels", lambda frame, aspect: pixels(frame if next(shown) else Odd(), aspect))
    frames, found = read(write_clip(tmp_path / "clip.mkv", counted(3)))
    assert [frame.number for frame in found] == [0, 2]
    assert (frames.broken, frames.problem) == (1, None)


@pytest.mark.parametrize(
    ("name", "sound", "start_s"),
    [
        pytest.param("clip.mov", None, 0, id="mov"),
        pytest.param("clip.mkv", None, 0, id="mkv"),
        pytest.param("clip.mkv", None, 5, id="mkv-whose-clock-starts-late"),
        pytest.param("clip.mkv", "aac", 0, id="mkv-with-sound"),
        pytest.param("clip.avi", None, 0, id="avi"),
    ],
)
def test_a_file_that_breaks_off(tmp_path, rng, name, sound, start_s):
    noise = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(40)]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    # As a recorder leaves it that wrote its table of frames first.
    options = {"movflags": "+faststart"} if name.endswith("mov") else {}
    times = [start_s + place / 10 for place in range(40)]
    clip = write_clip(tmp_path / name, noise, times=times, codec=codec, sound=sound, options=options)
    whole, found = read(clip)
    assert (whole.problem, found[0].time_s) == (None, 0)
    assert whole.duration_s == pytest.approx(4, abs=0.3)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    frames, found = read(clip)
    assert 10 <= len(found) <= 30
    assert frames.problem == f"it breaks off after {found[-1].time_s:.1f} of {frames.duration_s:.1f} seconds"


def test_a_last_frame_that_stays_is_no_break(tmp_path):
    """As in the recording of a screen on which nothing moves any more."""
    import av

    still = tmp_path / "still.mp4"
    with av.open(str(write_clip(tmp_path / "clip.mp4", counted(4)))) as before, av.open(str(still), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        packets = [packet for packet in before.demux(video=0) if packet.size]
        packets[-1].duration = round(6 / packets[-1].time_base)
        for packet in packets:
            packet.stream = stream
            after.mux(packet)
    frames, found = read(still)
    assert [round(frame.time_s, 1) for frame in found] == [0, 0.1, 0.2, 0.3]
    assert (frames.problem, frames.end_s) == (None, pytest.approx(6.3, abs=0.01))


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "libx264"), ("clip.avi", "mpeg4"), ("clip.ts", "libx264"), ("clip.webm", "libvpx")]
)
def test_the_end_of_the_last_frame(tmp_path, name, codec):
    assert read(write_clip(tmp_path / name, counted(4), codec=codec))[0].end_s == pytest.approx(0.4, abs=0.002)


@pytest.mark.parametrize(
    ("every", "numbers"),
    [
        (1, range(10)),
        ("3", [0, 3, 6, 9]),
        ("0.2s", [0, 2, 4, 6, 8]),
        ("0.25s", [0, 3, 5, 8]),
        (".3 s", [0, 3, 6, 9]),
        ("0.01s", range(10)),
        ("99s", [0]),
    ],
)
def test_every(tmp_path, every, numbers):
    _, found = read(write_clip(tmp_path / "clip.mkv", counted(10)), every=every)
    assert [frame.number for frame in found] == list(numbers)


@pytest.mark.parametrize("every", ["0", 0, "-1", "", "s", "0s", "1.5", "often", "1e3", True])
def test_wrong_every(every):
    with pytest.raises(UsageError, match="Expected every as frames"):
        Every.of(every)


B_FRAMES = {"preset": "veryfast", "bf": "3", "g": "12"}


@pytest.mark.parametrize(
    ("name", "codec", "encode"),
    [
        pytest.param("clip.mp4", "libx264", B_FRAMES, id="mp4"),
        pytest.param("clip.mp4", "libx264", B_FRAMES | {"x264-params": "open-gop=1"}, id="open-groups"),
        pytest.param("clip.mkv", "libx264", B_FRAMES, id="mkv"),
        pytest.param("clip.mp4", "libx264", {}, id="one-keyframe"),
        pytest.param("clip.avi", "mpeg4", {"g": "12"}, id="avi"),
        pytest.param("clip.webm", "libvpx", {"g": "12"}, id="webm"),
    ],
)
def test_a_part_of_a_video_is_that_of_the_whole(tmp_path, name, codec, encode):
    """Numbers, times and pixels, wherever the keyframes are."""
    clip = write_clip(tmp_path / name, counted(60), codec=codec, encode=encode)
    whole = read(clip)[1]
    for start, end in ((0, 0.5), (1.15, 1.6), (1.2, 2.0), (2.45, 9), (5.85, None)):
        frames, part = read(clip, start=start, end=end)
        wanted = [one for one in whole if start <= one.time_s + 1e-6 and (end is None or one.time_s < end - 1e-6)]
        assert [one[:2] for one in part] == [one[:2] for one in wanted]
        assert all((one.pixels == same.pixels).all() for one, same in zip(part, wanted, strict=True))
        assert frames.end_s == pytest.approx(min(end or 6, 6), abs=0.005)
    frames, part = read(clip, start="0:07")
    assert (part, frames.problem) == ([], "it has no frame from 7 seconds on")


@pytest.mark.parametrize(("start", "end"), [("1:2:3:4", None), ("-1", None), ("1:75.5x", None), (3, 3), ("", None)])
def test_wrong_times(start, end):
    with pytest.raises(UsageError, match=r"Expected a time as seconds|end must be after start"):
        Every().within(start, end)


def test_frames_are_not_kept(tmp_path):
    alive: set[int] = set()
    most = 0
    with open_video(write_clip(tmp_path / "clip.mp4", counted(60, width=320, height=240))) as frames:
        for frame in frames:
            alive.add(id(frame.pixels))
            weakref.finalize(frame.pixels, alive.discard, id(frame.pixels))
            most = max(most, len(alive))
    assert most <= 2


def test_a_folder_of_frames(tmp_path):
    for number, level in ((10, 200), (2, 100), (1, 50)):
        PIL.Image.new("RGB", (30, 20), (level,) * 3).save(tmp_path / f"frame{number}.png")
    (tmp_path / "frame3.png").write_bytes(b"broken")
    frames, found = read(tmp_path, fps=4)
    assert [(frame.number, frame.time_s) for frame in found] == [(0, 0), (1, 0.25), (3, 0.75)]
    assert levels(found) == [50, 100, 200]
    assert (frames.broken, frames.rate, frames.duration_s) == (1, 4, 1.0)
    assert [frame.number for frame in read(tmp_path / "*.png", every=3)[1]] == [0, 3]


def test_what_is_no_video(tmp_path, monkeypatch):
    (tmp_path / "notes.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    write_clip(tmp_path / "both.mp4", counted(3), sound="aac")
    rows = [
        (tmp_path / "gone.mp4", "Video not found: .*gone.mp4"),
        (tmp_path / "notes.mp4", "Cannot read .*notes.mp4: invalid data"),
        (tmp_path / "empty", "contains no images"),
        ("-", "cannot be read from standard input"),
        ("ftp://example.org/clip.mp4", "has an unsupported URL scheme. Expected http"),
        ("concat:a.mp4|b.mp4", "Video not found"),
        (3.5, "Expected a video as a path"),
        (True, "Expected a video as a path"),
    ]
    for source, message in rows:
        with pytest.raises(VideoError, match=message):
            open_video(source)
    with pytest.raises(UsageError, match="fps must be more than 0"):
        open_video(tmp_path, fps=0)


def test_sound_alone_is_no_video(tmp_path):
    import av

    write_clip(tmp_path / "both.mkv", counted(3), sound="aac")
    with av.open(str(tmp_path / "both.mkv")) as source, av.open(str(tmp_path / "tone.mka"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match=r"contains no video stream \(it contains: audio\)"):
        open_video(tmp_path / "tone.mka")


@pytest.mark.parametrize(
    "url", ["https://example.org/clip.mp4", "http://127.0.0.1:1/clip.mp4", "rtsp://me:secret@192.168.0.7/stream"]
)
def test_offline_means_offline(url):
    with pytest.raises(VideoError, match="FERKIT_OFFLINE is set") as caught:
        open_video(url)
    assert "secret" not in str(caught.value)


NAMES_OTHERS = {
    "clip.mp4": "ffconcat version 1.0\nfile sub/other.mkv\n",
    "clip.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsub/other.mkv\n#EXT-X-ENDLIST\n",
    "web.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
    "clip.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "clip.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation id="1"><BaseURL>sub/other.mkv</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "clip.imf": ";FFMETADATA1\n",
}


@pytest.mark.parametrize("name", NAMES_OTHERS)
def test_a_file_that_names_others_leads_nowhere(name, tmp_path):
    """Neither to other files nor to addresses, whatever its name says that it is."""
    (tmp_path / "sub").mkdir()
    write_clip(tmp_path / "sub" / "other.mkv", counted(3))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        text = NAMES_OTHERS[name].replace("{address}", f"http://127.0.0.1:{port}/part.ts").replace("{port}", str(port))
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError, match=r"^Cannot read [^\n]*: (it is not a video|invalid data)"):
            open_video(tmp_path / name)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_pattern_of_pictures_is_no_video(tmp_path):
    """FFmpeg's own sequences would be other files."""
    for number in range(3):
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")
    (tmp_path / "%d.png").write_bytes((tmp_path / "0.png").read_bytes())
    with pytest.raises(VideoError, match=r"it is not a video but, by its name, an image \(use: ferkit predict\)"):
        open_video(tmp_path / "%d.png")


def test_frames_beyond_the_limit_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.video.frames._MAX_FRAME_PIXELS", 64 * 48 - 1)
    frames, found = read(write_clip(tmp_path / "clip.mkv", counted(3)))
    assert (found, frames.problem) == ([], "none of its 3 frames can be decoded")


def test_a_frame_that_takes_without_end_ends_its_video(tmp_path, monkeypatch):
    """A megabyte of it held `ferkit video` for an hour, and Ctrl-C waited for the decoder."""
    monkeypatch.setattr(stream, "_FRAME_S", 0)
    import av

    path, picture = tmp_path / "scans.mov", many_scans(640, 480, 2000)
    with av.open(str(path), "w") as container:
        track = container.add_stream("mjpeg", rate=25)
        track.width, track.height, track.pix_fmt = 640, 480, "yuvj420p"
        packet = av.Packet(picture)
        packet.stream, packet.pts, packet.dts = track, 0, 0
        container.mux(packet)
    frames, found = read(path)
    assert (found, frames.problem) == ([], "a frame takes longer than 0 seconds to decode")
    frames.close()  # without touching what the decoder works on


def test_a_file_that_takes_without_end_to_open(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_OPENING_S", 0.05)
    path = write_clip(tmp_path / "clip.mkv", counted(3))
    monkeypatch.setattr("av.open", lambda *_, **__: time.sleep(0.5))
    with pytest.raises(VideoError, match="not open after"):
        open_video(path)


def test_an_address(tmp_path, file_server):
    file_server.files["/clip.mkv"] = write_clip(tmp_path / "clip.mkv", counted(5)).read_bytes()
    frames, found = read(f"{file_server.url}/clip.mkv")
    assert len(found) == 5
    assert frames.name.endswith("/clip.mkv")


class FakeCamera:
    """Three frames, one failure, one frame, then unplugged; a clock that goes on by 0.1 seconds with each look."""

    def __init__(self, number):
        self.number, self.reads, self.released = number, iter([1, 1, 1, 0, 1]), False

    def isOpened(self):  # noqa: N802
        return self.number == 0

    def set(self, *_): ...

    def get(self, _):
        return 30.0

    def read(self):
        return (True, np.full((4, 6, 3), (10, 20, 30), np.uint8)) if next(self.reads, 0) else (False, None)

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    now = iter(np.arange(50, 100, 0.1))
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(sources.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(sources.time, "sleep", lambda _: None)


@pytest.mark.parametrize("source", [0, "0"])
def test_a_camera(camera, source):
    frames, found = read(source)
    assert [frame.number for frame in found] == [0, 1, 2, 3]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.4])
    assert found[0].pixels[0, 0].tolist() == [30, 20, 10]
    assert (frames.name, frames.live, frames.rate, frames.duration_s) == ("camera 0", True, 30, None)
    assert frames.problem == "it returned no image for 3 seconds"
    assert frames._camera.released


def test_a_camera_that_is_not_there(camera):
    with pytest.raises(VideoError, match="Cannot open camera 7"):
        open_video("7")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mkv", counted(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ferkit\[video\]'"):
        open_video(clip)
