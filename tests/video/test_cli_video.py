import csv
import json
import signal

import pyarrow.parquet
import pytest

pytest.importorskip("av")

from clips import counted, gray, streams_of, write_clip
from ferkit.errors import FerkitError, VideoError
from ferkit.labels import EMOTIONS
from ferkit.video import plot
from ferkit.video.clip import ClipWriter
from ferkit.video.follower import DETECT_EVERY_S, TIME_CONSTANT_S, FaceFollower
from ferkit.video.sources import open_video
from recognition import BrightnessClassifier


@pytest.fixture
def ferkit_video(stub_model, run_ferkit):
    """Run the command as the console script does, with a classifier that needs no network."""
    stub_model(BrightnessClassifier())
    return lambda *words: run_ferkit("video", *words, "--detector", "none")


@pytest.fixture
def clip(tmp_path):
    """One second of black, then one of white, with sound; whoever fills the frame is angry, then neutral."""
    return write_clip(tmp_path / "clip.mp4", gray(*[5] * 10, *[250] * 10, width=320, height=180), sound="aac")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_and_summary(ferkit_video, clip, tmp_path):
    table, drawn, plot = tmp_path / "o" / "t.csv", tmp_path / "o" / "a.mp4", tmp_path / "o" / "p.png"
    code, out, err = ferkit_video(clip, "--out", table, "--annotate", drawn, "--plot", plot, "--smooth", 0)
    assert code == 0
    rows = rows_of(table)
    assert list(rows[0])[:5] == ["source", "time_s", "frame", "track", "x1"]
    assert list(rows[0])[-8:] == ["error", *(f"raw_{name}" for name in EMOTIONS)]
    assert [row["label"] for row in rows] == ["angry"] * 10 + ["neutral"] * 10
    assert [float(row["time_s"]) for row in rows] == pytest.approx([n / 10 for n in range(20)])
    assert {row["track"] for row in rows} == {"1"}
    found = streams_of(drawn)
    assert sorted(found) == ["audio", "video"]
    assert len(found["video"]["times"]) == 20
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "2.0 s, 20 frames processed, 1 person, faces in 100% of the frames" in " ".join(out.split())
    assert next(line for line in out.splitlines() if line.startswith("1 ")).split() == [
        "1",
        "0.0",
        "s",
        "2.0",
        "s",
        "2.0",
        "s",
        "1",
        "angry",
        "1.0",
        "s",
        "angry",
        "50%",
        "neutral",
        "50%",
    ]
    assert [line for line in err.splitlines() if line.startswith("Wrote")] == [
        f"Wrote {p}" for p in (table, drawn, plot)
    ]


def test_subtitles(ferkit_video, clip, tmp_path):
    code, _, err = ferkit_video(clip, "--subtitles", tmp_path / "clip.srt", "--smooth", 0)
    assert (code, err.splitlines()[-1]) == (0, f"Wrote {tmp_path / 'clip.srt'}")
    assert (tmp_path / "clip.srt").read_text().splitlines() == [
        *("1", "00:00:00,000 --> 00:00:01,000", "angry (1.0 s)", ""),
        *("2", "00:00:01,000 --> 00:00:02,000", "neutral (1.0 s)", ""),
    ][:-1]


def test_one_frame_is_no_frames(ferkit_video, clip):
    assert ", 1 frame processed, " in ferkit_video(clip, "--every", 100)[1]


def test_json_is_one_document(ferkit_video, clip):
    code, out, _ = ferkit_video(clip, "--json", "--smooth", 0)
    summary = json.loads(out)
    assert code == 0
    assert summary["share"] == {"angry": 0.5, "neutral": 0.5}
    assert (summary["tracks"][0]["longest"]["end_s"], summary["error"]) == (1.0, None)
    assert list(summary) == [
        *("source", "seconds", "frames", "frames_with_faces", "broken_frames"),
        *("share", "transitions", "tracks", "error"),
    ]


def test_parquet_keeps_times_exact(ferkit_video, clip, tmp_path):
    ferkit_video(clip, "--out", tmp_path / "t.parquet", "--every", 5)
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert table.column("time_s").to_pylist() == [0.0, 0.5, 1.0, 1.5]
    assert str(table.schema.field("time_s").type) == "double"
    assert str(table.schema.field("track").type) == "int32"


def test_smoothing_and_raw_values(ferkit_video, clip, tmp_path):
    ferkit_video(clip, "--out", tmp_path / "t.jsonl", "--smooth", 0.5)
    row = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[10])
    assert row["label"] == "angry"
    assert row["raw_neutral"] == pytest.approx(0.7)
    assert row["neutral"] == pytest.approx(0.05 + 0.65 * (1 - 2.718281828 ** (-0.1 / 0.5)), abs=1e-4)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_files(ferkit_video, clip, tmp_path, monkeypatch, number, code):
    interrupt_after(monkeypatch, 7, number)
    table, drawn, plot = tmp_path / "t.parquet", tmp_path / "a.mp4", tmp_path / "p.png"
    before = signal.getsignal(number)
    found = ferkit_video(clip, "--out", table, "--annotate", drawn, "--plot", plot, "--json")
    assert found[0] == code
    summary = json.loads(found[1])
    assert (summary["frames"], summary["error"]) == (7, "interrupted")
    assert pyarrow.parquet.read_table(table).num_rows == 7
    streams = streams_of(drawn)
    assert len(streams["video"]["times"]) == 7
    assert streams["audio"]["times"][-1] < 0.75
    assert plot.exists()
    assert "Stopped at 0.7 seconds." in found[2]
    assert signal.getsignal(number) == before


def test_a_second_interrupt_ends_at_once(ferkit_video, clip, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 7, signal.SIGINT, signal.SIGINT)
    code, _, err = ferkit_video(clip, "--out", tmp_path / "t.csv")
    assert (code, err.splitlines()[-1]) == (130, "ferkit: Interrupted.")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def interrupt_after(monkeypatch, frames, *numbers):
    look, seen = FaceFollower.__call__, []

    def interrupted(self, image, time_s):
        seen.append(time_s)
        if len(seen) == frames:
            for number in numbers:
                signal.raise_signal(number)
        return look(self, image, time_s)

    monkeypatch.setattr(FaceFollower, "__call__", interrupted)


def test_a_video_that_breaks_off(ferkit_video, clip, tmp_path, monkeypatch):
    from ferkit.video import frames as stream

    def breaking(self):
        yield from list(decoded(self))[:12]
        self.problem = "it breaks off (end of transmission)"

    decoded = stream.Stream._decoded
    monkeypatch.setattr(stream.Stream, "_decoded", breaking)
    code, _, err = ferkit_video(clip, "--out", tmp_path / "t.csv", "--annotate", tmp_path / "a.mp4")
    assert code == 1
    assert "is incomplete: it breaks off (end of transmission). Results up to that point were kept." in err
    rows = rows_of(tmp_path / "t.csv")
    assert [row["error"] for row in rows] == [""] * 12 + ["it breaks off (end of transmission)"]
    assert len(streams_of(tmp_path / "a.mp4")["video"]["times"]) == 12


def test_a_clip_that_finds_no_room_costs_no_table(ferkit_video, clip, tmp_path, monkeypatch):
    def full(self, pixels, time_s):
        if time_s > 0.55:
            raise VideoError("Cannot write a.mp4: No space left on device.")
        write(self, pixels, time_s)

    write = ClipWriter.write
    monkeypatch.setattr(ClipWriter, "write", full)
    table, plot = tmp_path / "t.csv", tmp_path / "p.png"
    code, _, err = ferkit_video(clip, "--out", table, "--plot", plot, "--annotate", tmp_path / "a.mp4")
    assert (code, err.splitlines()[-1]) == (1, "ferkit: Cannot write a.mp4: No space left on device.")
    assert "Wrote" in err
    assert "a.mp4" not in err.replace(err.splitlines()[-1], "")
    assert len(rows_of(table)) == 7
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "t.csv", "t.csv.json", "p.png"}


def test_a_plot_that_fails_costs_nothing_else(ferkit_video, clip, tmp_path, monkeypatch):
    def full(*words, **options):
        raise FerkitError("Cannot write p.png: No space left on device.")

    monkeypatch.setattr(plot, "save", full)
    words = ["--out", tmp_path / "t.csv", "--annotate", tmp_path / "a.mp4", "--plot", tmp_path / "p.png"]
    code, _, err = ferkit_video(clip, *words)
    assert (code, err.splitlines()[-1]) == (1, "ferkit: Cannot write p.png: No space left on device.")
    assert len(rows_of(tmp_path / "t.csv")) == 20
    assert len(streams_of(tmp_path / "a.mp4")["video"]["times"]) == 20


def test_a_plot_that_has_no_place_is_refused_before_hours_pass(ferkit_video, clip, monkeypatch):
    monkeypatch.setattr(FaceFollower, "__call__", None)
    code, _, err = ferkit_video(clip, "--plot", clip / "p.png")
    assert (code, err.startswith("ferkit: Cannot write")) == (1, True), err


def test_few_frames_last_as_long_as_the_video(ferkit_video, clip, tmp_path):
    code, out, _ = ferkit_video(clip, "--every", "1.5s", "--json", "--annotate", tmp_path / "a.mp4")
    assert (code, json.loads(out)["seconds"]) == (0, 2.0)
    streams = streams_of(tmp_path / "a.mp4")
    assert streams["audio"]["times"][-1] > 1.8
    assert streams["video"]["times"][-1] == pytest.approx(1.9, abs=0.01)


def test_nothing_can_be_decoded(ferkit_video, tmp_path):
    broken = write_clip(tmp_path / "clip.mov", counted(3), codec="png")
    from clips import packet_places

    data = bytearray(broken.read_bytes())
    for start, size in packet_places(broken):
        data[start : start + size] = bytes(size)
    broken.write_bytes(data)
    code, _, err = ferkit_video(broken, "--out", tmp_path / "t.csv", "--plot", tmp_path / "p.png")
    assert code == 1
    assert "none of its 3 frames can be decoded" in err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mov"]


def test_start_and_end(ferkit_video, clip, tmp_path):
    table, drawn = tmp_path / "t.csv", tmp_path / "a.mp4"
    words = [
        "--start",
        "0:00.5",
        "--end",
        1.5,
        "--json",
        "--out",
        table,
        "--annotate",
        drawn,
        "--plot",
        tmp_path / "p.png",
    ]
    code, out, _ = ferkit_video(clip, *words)
    assert (code, json.loads(out)["seconds"], json.loads(out)["tracks"][0]["first_s"]) == (0, 1.0, 0.5)
    assert [int(row["frame"]) for row in rows_of(table)] == list(range(5, 15))
    streams = streams_of(drawn)
    assert streams["video"]["times"] == pytest.approx([n / 10 for n in range(10)], abs=1e-3)
    assert streams["audio"]["times"][0] < 0.05
    assert 0.9 < streams["audio"]["times"][-1] < 1.05
    assert "1.0 s, 10 frames processed" in " ".join(ferkit_video(clip, *words[:4])[1].split())


def test_seconds(ferkit_video, clip):
    assert json.loads(ferkit_video(clip, "--seconds", 0.5, "--json")[1])["frames"] == 6


def test_blur_faces(ferkit_video, tmp_path):
    """A face that fills the frame: of its stripes a few are left."""
    import numpy as np

    striped = np.zeros((180, 320, 3), np.uint8)
    striped[:, ::8] = striped[:, 1::8] = striped[:, 2::8] = striped[:, 3::8] = 255
    clip = write_clip(tmp_path / "clip.mkv", [striped] * 3)
    changes = {}
    for options in ([], ["--blur-faces"]):
        assert ferkit_video(clip, "--annotate", tmp_path / "a.mp4", *options)[0] == 0
        with open_video(tmp_path / "a.mp4") as frames:
            frame = next(iter(frames)).pixels[100:140, 200:300].astype(int)
        changes[len(options)] = np.abs(np.diff(frame, axis=1)).mean()
    assert changes[1] < 2 < 20 < changes[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["--out", "t.txt"], "is not a supported table format. Expected a name that ends in .csv", id="table"
        ),
        pytest.param(["--subtitles", "a.txt"], "Expected a name that ends in .vtt", id="subtitles"),
        pytest.param(["--annotate", "a.avi"], "Expected a name that ends in .mp4", id="clip"),
        pytest.param(["--plot", "p.gif"], "Expected a name that ends in .png, .svg or .pdf", id="plot"),
        pytest.param(["--out", "x/../t.csv", "--plot", "t.csv"], "is named twice", id="twice"),
        pytest.param(["--every", "often"], "Expected every as frames", id="every"),
        pytest.param(["--fps", "0"], "fps must be more than 0", id="fps"),
    ],
)
def test_wrong_usage(ferkit_video, clip, tmp_path, words, message):
    words = [tmp_path / word if "." in word else word for word in words]
    source = tmp_path if "--fps" in words else clip
    if source == tmp_path:
        (tmp_path / "1.png").write_bytes(b"")
    code, _, err = ferkit_video(source, *words)
    assert (code, message in err) == (2, True), err


def test_the_video_is_not_replaced(ferkit_video, clip):
    before = clip.read_bytes()
    code, _, err = ferkit_video(clip, "--annotate", clip)
    assert (code, "is the video itself" in err) == (2, True)
    assert clip.read_bytes() == before


def test_no_video(ferkit_video, tmp_path):
    code, out, err = ferkit_video(tmp_path / "gone.mp4", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("ferkit: Video not found")


def test_help_says_what_is_taken(ferkit_video):
    out = " ".join(ferkit_video("--help")[1].replace("│", " ").split())
    assert f"[default: {DETECT_EVERY_S}; with --blur-faces 0]" in out
    assert f"turns it off. [default: {TIME_CONSTANT_S}]" in out


@pytest.fixture
def real(shared):
    """Where real faces are."""
    return shared / "scenes"


def summary_of(path):
    from ferkit.video.analysis import analyze_video

    return analyze_video(path).finish().summary()


@pytest.mark.shared
def test_from_neutral_to_happy(real):
    summary = summary_of(real / "pf_single_face.mp4")
    assert summary["transitions"] == [{"from": "neutral", "to": "happy", "count": 1}]
    (person,) = summary["tracks"]
    assert (person["track"], person["seconds"]) == (1, 2.4)
    assert person["longest"]["label"] == "happy"


@pytest.mark.shared
def test_the_face_ends_in_the_middle(real):
    summary = summary_of(real / "pf_face_noface.mov")
    (person,) = summary["tracks"]
    assert person["first_s"] == 0
    assert person["last_s"] == pytest.approx(2.4, abs=0.1)
    assert summary["seconds"] == pytest.approx(6.4, abs=0.1)
