import numpy as np
import pytest

pytest.importorskip("av")

from clips import counted, gray, streams_of, write_clip
from ferkit.errors import UsageError, VideoError
from ferkit.video import clip as clips
from ferkit.video.clip import ClipWriter
from ferkit.video.sources import open_video
from full_disk import no_room_beyond


def rewrite(source, target, **options):
    with open_video(source) as frames, ClipWriter(target, rate=frames.rate, sound=frames.sound, **options) as clip:
        for frame in frames:
            clip.write(frame.pixels, frame.time_s)
    return streams_of(target)


def test_a_clip_that_browsers_play(tmp_path):
    with ClipWriter(tmp_path / "clip.mp4", rate=10) as clip:
        for place, pixels in enumerate(counted(12, width=65, height=49)):
            clip.write(pixels, place / 10)
    found = streams_of(tmp_path / "clip.mp4")
    assert list(found) == ["video"]
    assert (found["video"]["codec"], found["video"]["form"]) == ("h264", "yuv420p")
    assert found["video"]["times"] == pytest.approx([place / 10 for place in range(12)], abs=1e-4)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with open_video(tmp_path / "clip.mp4") as frames:
        shown = [frame.pixels for frame in frames]
    assert shown[0].shape == (50, 66, 3)
    assert [round(float(one.mean())) for one in shown] == pytest.approx([20 + 210 / 11 * n for n in range(12)], abs=4)


def test_colours_stay(tmp_path):
    colours = [(220, 30, 30), (30, 200, 60), (40, 60, 220)]
    with ClipWriter(tmp_path / "clip.mp4") as clip:
        for place, colour in enumerate(colours):
            clip.write(np.full((64, 64, 3), colour, np.uint8), place / 25)
    with open_video(tmp_path / "clip.mp4") as frames:
        for frame, colour in zip(frames, colours, strict=True):
            assert frame.pixels.mean(axis=(0, 1)) == pytest.approx(colour, abs=4)


def test_a_variable_frame_rate_stays(tmp_path):
    times = [0.5, 0.54, 0.6, 2.0, 2.04, 5.0]
    found = rewrite(write_clip(tmp_path / "a.mkv", counted(6), times=times), tmp_path / "b.mp4")
    assert np.diff(found["video"]["times"]) == pytest.approx(np.diff(times), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "sound", "copied"),
    [
        pytest.param("a.mp4", "aac", True, id="aac-is-copied"),
        pytest.param("a.mkv", "pcm_s16le", False, id="pcm"),
        pytest.param("a.mov", "mp3", False, id="mp3"),
        pytest.param("a.ts", "aac", False, id="broadcast"),
    ],
)
def test_sound_is_kept(tmp_path, name, sound, copied):
    source = write_clip(tmp_path / name, counted(20), sound=sound)
    found = rewrite(source, tmp_path / "b.mp4")["audio"]
    before = streams_of(source)["audio"]
    assert found["codec"] == "aac"
    assert (found["bytes"][:20] == before["bytes"][:20]) == copied
    length = found["times"][-1] - found["times"][0]
    assert length == pytest.approx(before["times"][-1] - before["times"][0], abs=0.1)


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_sound_stays_in_step(tmp_path, sound):
    """It begins a second after the pictures, in a file whose clock begins at 4 seconds."""
    times = [4 + place / 10 for place in range(30)]
    source = write_clip(tmp_path / "a.mkv", counted(30), times=times, sound=sound, sound_start=5.0)
    found = rewrite(source, tmp_path / "b.mp4")
    assert found["video"]["times"][0] == pytest.approx(0, abs=0.03)
    assert found["audio"]["times"][0] - found["video"]["times"][0] == pytest.approx(1.0, abs=0.05)


def test_sound_ends_where_the_pictures_end(tmp_path):
    source = write_clip(tmp_path / "a.mkv", counted(40), sound="aac")
    with open_video(source) as frames, ClipWriter(tmp_path / "b.mp4", rate=10, sound=frames.sound) as clip:
        for frame in frames:
            clip.write(frame.pixels, frame.time_s)
            if frame.number == 9:
                break
    found = streams_of(tmp_path / "b.mp4")
    assert len(found["video"]["times"]) == 10
    assert found["audio"]["times"][-1] == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("sound", ["aac", "mp2"])
def test_sound_that_begins_to_count_anew_goes_on(tmp_path, sound):
    """Recordings that were joined byte by byte."""
    part = write_clip(tmp_path / "a.ts", counted(30), sound=sound, form="mpegts").read_bytes()
    (tmp_path / "two.ts").write_bytes(2 * part)
    found = rewrite(tmp_path / "two.ts", tmp_path / "b.mp4")
    assert len(found["video"]["times"]) == 60
    assert found["audio"]["times"][-1] == pytest.approx(found["video"]["times"][-1], abs=0.3)
    assert np.diff(found["audio"]["times"]).max() < 0.3


def test_sound_leads_nowhere_either(tmp_path, monkeypatch):
    """It is opened once more, under the same limits as the pictures."""
    import av

    opened, real = [], av.open

    def told(source, *words, **options):
        opened.append(options)
        return real(source, *words, **options)

    source = write_clip(tmp_path / "a.mp4", counted(3), sound="aac")
    monkeypatch.setattr(av, "open", told)
    rewrite(source, tmp_path / "b.mp4")
    pictures, written, sound = opened[:3]
    assert "format" in written
    assert pictures == sound
    assert sound["options"]["protocol_whitelist"] == "file"
    assert not {"concat", "hls", "dash", "image2", "sdp"} & set(sound["options"]["format_whitelist"].split(","))
    assert sound["timeout"] > 0


def test_the_last_frame_may_be_held(tmp_path):
    source = write_clip(tmp_path / "a.mkv", counted(30), sound="aac")
    with open_video(source) as frames, ClipWriter(tmp_path / "b.mp4", rate=10, sound=frames.sound) as clip:
        clip.write(next(iter(frames)).pixels, 0)
        clip.hold(2.0)
        clip.hold(2.0)
    found = streams_of(tmp_path / "b.mp4")
    assert found["video"]["times"] == pytest.approx([0, 1.9])
    assert found["audio"]["times"][-1] == pytest.approx(2.0, abs=0.06)


def test_sound_that_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "noise.aac").write_bytes(b"noise" * 100)
    with ClipWriter(tmp_path / "b.mp4", sound=str(tmp_path / "noise.aac")) as clip:
        clip.write(gray(9)[0], 0)
    assert list(streams_of(tmp_path / "b.mp4")) == ["video"]


def test_frames_of_other_sizes_are_fitted(tmp_path):
    with ClipWriter(tmp_path / "b.mp4", rate=10) as clip:
        for place, size in enumerate([(64, 48), (48, 64), (640, 100)]):
            clip.write(gray(200, width=size[0], height=size[1])[0], place / 10)
    with open_video(tmp_path / "b.mp4") as frames:
        shown = [frame.pixels for frame in frames]
    assert {one.shape for one in shown} == {(48, 64, 3)}
    assert shown[1][:, 32].mean() > 180 > 30 > shown[1][:, 2].mean()
    assert shown[2][24].mean() > 180 > 30 > shown[2][2].mean()


def test_times_that_do_not_rise_cost_nothing(tmp_path):
    with ClipWriter(tmp_path / "b.mp4") as clip:
        for pixels, time_s in zip(counted(3), (1.0, 1.0, 0.5), strict=True):
            clip.write(pixels, time_s)
    assert len(streams_of(tmp_path / "b.mp4")["video"]["times"]) == 3


def test_an_error_leaves_no_half_file(tmp_path):
    with pytest.raises(RuntimeError, match="elsewhere"), ClipWriter(tmp_path / "b.mp4") as clip:  # noqa: PT012
        clip.write(gray(9)[0], 0)
        raise RuntimeError("elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_no_frame_no_file(tmp_path):
    with pytest.raises(VideoError, match="there was no frame"), ClipWriter(tmp_path / "b.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_use(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"ends in \.mp4"):
        ClipWriter("clip.avi")
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        ClipWriter(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="is not open"):
        ClipWriter(tmp_path / "b.mp4").write(gray(9)[0], 0)
    monkeypatch.setattr(clips, "_ENCODERS", ("no_such_encoder",))
    with pytest.raises(VideoError, match=r"no H\.264 encoder"), ClipWriter(tmp_path / "b.mp4") as clip:
        clip.write(gray(9)[0], 0)


@pytest.mark.parametrize("frames", [pytest.param(3, id="found-at-the-end"), pytest.param(200, id="found-on-the-way")])
def test_a_full_disk_is_said_in_one_line(tmp_path, rng, frames):
    with (
        no_room_beyond(2_000),
        pytest.raises(VideoError, match=r"Cannot write .*b\.mp4: "),
        ClipWriter(tmp_path / "b.mp4") as clip,
    ):
        write_noise(clip, rng, frames)
    assert list(tmp_path.iterdir()) == []


def write_noise(clip, rng, frames):
    for number in range(frames):
        clip.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), number / 25)
