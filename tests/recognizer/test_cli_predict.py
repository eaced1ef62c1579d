import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest

from ferkit.labels import EMOTIONS
from ferkit.models import sample_picture
from ferkit.render import read_about
from ferkit.sources import read_image
from recognition import BrightnessClassifier


@pytest.fixture
def ferkit_predict(stub_model, run_ferkit):
    """Run the command as the console script does, with a classifier that needs no network."""
    stub_model(BrightnessClassifier())
    return lambda *words: run_ferkit("predict", *words)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    PIL.Image.new("RGB", (60, 40), "black").save(folder / "1.png")
    PIL.Image.new("RGB", (60, 40), "white").save(folder / "10.jpg")
    (folder / "2.jpg").write_bytes(b"no picture")
    return folder


def test_json_is_the_contract_and_nothing_else(ferkit_predict, pictures):
    code, out, err = ferkit_predict(pictures, "--detector", "none", "--json")
    black, broken, white = json.loads(out)
    assert code == 1
    assert list(black) == ["source", "width", "height", "faces", "error"]
    assert (black["width"], black["height"], black["error"]) == (60, 40, None)
    (face,) = black["faces"]
    assert list(face) == ["box", "detection_score", "label", "confidence", "probabilities", "roll"]
    assert (face["box"], face["label"], list(face["probabilities"])) == ([0, 0, 60, 40], "angry", list(EMOTIONS))
    assert white["faces"][0]["label"] == "neutral"
    assert broken["faces"] == []
    assert "not a picture" in broken["error"]
    assert "2.jpg" in err


def test_table(ferkit_predict, pictures):
    code, out, err = ferkit_predict(pictures / "1.png", pictures / "10.jpg", "--detector", "none")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["source", "face", "emotion", "confidence", "probabilities"]
    assert lines[1].split()[:5] == [str(pictures / "1.png"), "1", "angry", "70.0%", "angry"]
    assert len(lines) == 1 + 2 * 7
    assert "█" in out
    assert "2 images, 2 faces." in err


def test_top_shortens_the_table_only(ferkit_predict, pictures):
    assert len(ferkit_predict(pictures / "1.png", "--detector", "none", "--top", 2)[1].splitlines()) == 3
    _, out, _ = ferkit_predict(pictures / "1.png", "--detector", "none", "--top", 2, "--json")
    assert len(json.loads(out)[0]["faces"][0]["probabilities"]) == 7


def test_no_face(ferkit_predict, pictures):
    code, out, err = ferkit_predict(pictures / "1.png", "--detector", "haar")
    assert code == 0
    assert "no face" in out
    assert "detector" not in err


def test_the_usual_detector_is_not_mentioned(ferkit_predict):
    code, out, err = ferkit_predict(sample_picture(), "--json")
    assert (code, len(json.loads(out)[0]["faces"])) == (0, 1)
    assert "detector" not in err


def test_files(ferkit_predict, pictures, tmp_path):
    paths = {"--csv": tmp_path / "o" / "f.csv", "--parquet": tmp_path / "o" / "f.parquet", "--save": tmp_path / "drawn"}
    code, out, err = ferkit_predict(pictures, "--detector", "none", *(word for pair in paths.items() for word in pair))
    assert (code, out) == (1, "")
    with paths["--csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["angry", "", "neutral"]
    assert pyarrow.parquet.read_table(paths["--parquet"]).column("label").to_pylist() == ["angry", None, "neutral"]
    assert sorted(path.name for path in paths["--save"].iterdir()) == ["1.png", "10.jpg"]
    about = read_about(paths["--csv"])
    assert read_about(paths["--parquet"]) == about == json.loads((tmp_path / "o" / "f.csv.json").read_text())
    assert (about["detector"], about["min_confidence"], about["classes"]) == ("none", 0, list(EMOTIONS))
    csv_file, parquet_file, folder = paths.values()
    assert err.splitlines()[-3:] == [
        f"Wrote {csv_file}",
        f"Wrote {parquet_file}",
        f"Wrote annotated images into the folder {folder}",
    ]


def test_members_of_an_archive_are_drawn_below_its_name(ferkit_predict, pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.png", "s/b.png", "t/b.png"):
            archive.write(pictures / "1.png", name)
    code, _, _ = ferkit_predict(tmp_path / "two.zip", "--detector", "none", "--save", tmp_path / "out")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert (code, written) == (0, {"two/a.png", "two/s/b.png", "two/t/b.png"})


def test_tta_is_a_mean_over_views(ferkit_predict, tmp_path, monkeypatch):
    """A classifier that looks left: half of the views, the mirrored ones, say the opposite."""

    def left(self, faces):
        rows = np.zeros((len(faces), 7), np.float32)
        rows[np.arange(len(faces)), np.where(faces[:, :, :24].mean(axis=(1, 2, 3)) > 127, 3, 4)] = 1
        return rows

    monkeypatch.setattr(BrightnessClassifier, "predict_proba", left)
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[:, :24] = 255
    PIL.Image.fromarray(picture).save(tmp_path / "half.png")
    for words, happy in (((), 1.0), (("--tta", "flip"), 0.5), (("--tta", "ten-crop"), 0.5)):
        _, out, _ = ferkit_predict(tmp_path / "half.png", "--detector", "none", "--json", *words)
        (face,) = json.loads(out)[0]["faces"]
        assert face["probabilities"]["happy"] == pytest.approx(happy)


def test_standard_input(ferkit_predict, pictures, monkeypatch):
    data = (pictures / "10.jpg").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out, _ = ferkit_predict("-", "--detector", "none", "--json")
    assert (code, json.loads(out)[0]["source"]) == (0, "-")


def test_min_confidence(ferkit_predict, pictures):
    _, out, _ = ferkit_predict(pictures / "1.png", "--detector", "none", "--json", "--min-confidence", 0.8)
    (face,) = json.loads(out)[0]["faces"]
    assert (face["label"], face["confidence"]) == ("uncertain", 0.7)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param([], 2, "Missing argument", id="nothing"),
        pytest.param(["x.jpg", "--top", "0"], 2, "--top", id="top 0"),
        pytest.param(["x.jpg", "--min-confidence", "2"], 2, "--min-confidence", id="confidence 2"),
        pytest.param(["x.jpg", "--min-confidence", "nan"], 2, "confidence", id="confidence NaN"),
        pytest.param(["x.jpg", "--tta", "flop"], 2, "Did you mean 'flip'", id="unknown tta"),
        pytest.param(["x.jpg", "--detector", "harr"], 2, "Did you mean 'haar'", id="unknown detector"),
        pytest.param(
            ["x.jpg", "--detector", "none"], 1, "File not found: x.jpg. Expected the path or URL", id="missing file"
        ),
        pytest.param(["*.xyz", "--detector", "none"], 1, "No picture matches", id="glob without match"),
        pytest.param([".", "--detector", "none"], 1, "holds no pictures", id="folder without pictures"),
        pytest.param(["x.jpg", "--detector", "none", "--csv", "."], 2, "is a folder", id="csv is a folder"),
        pytest.param(["x.jpg", "--detector", "none", "--csv", "f.Parquet"], 2, "ends in .csv.", id="csv as parquet"),
        pytest.param(["x.jpg", "--detector", "none", "--parquet", "f.csv"], 2, "in .parquet.", id="parquet as csv"),
        pytest.param(["x.jpg", "--csv", "t", "--parquet", "./t"], 2, "Choose two names", id="two tables in one file"),
        pytest.param(["x.jpg", "--detector", "none", "--csv", "/proc/x/f.csv"], 1, "Cannot write", id="unwritable"),
    ],
)
def test_bad_usage_is_one_line_and_an_exit_code(ferkit_predict, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    got, out, err = ferkit_predict(*words)
    assert (got, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("table", ["--csv", "--parquet"])
def test_a_table_does_not_replace_a_picture(ferkit_predict, pictures, table):
    before = (pictures / "1.png").read_bytes()
    code, _, err = ferkit_predict(pictures / "1.png", "--detector", "none", table, pictures / "1.png")
    assert code == 2
    assert "would overwrite it" in err
    assert (pictures / "1.png").read_bytes() == before


def test_saving_over_the_source_is_refused(ferkit_predict, pictures):
    before = (pictures / "10.jpg").read_bytes()
    code, _, err = ferkit_predict(pictures / "10.jpg", "--detector", "none", "--save", pictures)
    assert (code, (pictures / "10.jpg").read_bytes()) == (2, before)
    assert "would overwrite it" in err


def onnx_model(folder):
    """A model folder whose network is one matrix."""
    onnx = pytest.importorskip("onnx")
    from ferkit.models import model_folder
    from ferkit.sources.images import FaceInput

    make, kinds = onnx.helper, onnx.TensorProto
    weights = np.random.default_rng(0).normal(0, 1e-4, (48 * 48, 7)).astype(np.float32)
    graph = make.make_graph(
        [
            make.make_node("Cast", ["pixels"], ["floats"], to=kinds.FLOAT),
            make.make_node("Flatten", ["floats"], ["row"]),
            make.make_node("MatMul", ["row", "weights"], ["logits"]),
            make.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "one matrix",
        [make.make_tensor_value_info("pixels", kinds.UINT8, ["n", 48, 48, 1])],
        [make.make_tensor_value_info("probabilities", kinds.FLOAT, ["n", 7])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    folder.mkdir()
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    model_folder.write_card(folder, classes=EMOTIONS, face_input=FaceInput(), temperature=1.0, details={})
    return folder


def test_a_model_folder_is_served_without_a_training_framework(tmp_path):
    code = (
        "import sys, typer\n"
        "from ferkit.cli.console import run\n"
        "from ferkit.cli.predict import predict\n"
        "app = typer.Typer()\n"
        "app.command()(predict)\n"
        "try:\n"
        "    run(app)\n"
        "finally:\n"
        "    heavy = {'keras', 'tensorflow', 'jax', 'torch', 'matplotlib', 'pandas'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    words = [str(sample_picture()), "--model", str(onnx_model(tmp_path / "model")), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    (face,) = json.loads(done.stdout)[0]["faces"]
    assert face["label"] in EMOTIONS


def test_ctrl_c_is_one_line_and_leaves_no_file(ferkit_predict, pictures, tmp_path, monkeypatch):
    def interrupted(self, faces):
        raise KeyboardInterrupt

    monkeypatch.setattr(BrightnessClassifier, "predict_proba", interrupted)
    code, out, err = ferkit_predict(pictures, "--detector", "none", "--csv", tmp_path / "faces.csv")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "ferkit: Interrupted."
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_a_name_that_is_no_text_does_not_cost_the_table(ferkit_predict, pictures, tmp_path, option):
    os.rename(pictures / "1.png", os.fsencode(pictures) + b"/caf\xff.png")  # noqa: PTH104 - a name in bytes
    code, _, err = ferkit_predict(pictures, "--detector", "none", option, tmp_path / "faces")
    assert code == 1, "of the broken one"
    assert "3 images, 2 faces; 1 could not be read." in err


def test_damaged_pictures_cost_no_line_of_a_c_library(pictures, tmp_path):
    """libjpeg writes to the descriptor itself; what Python writes still gets there."""
    data = bytearray((pictures / "10.jpg").read_bytes())
    data[-2:-2] = b"\x00" * 40 + b"\xff\x07" * 9  # between the picture and its end: libjpeg complains and goes on
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(data)
    command = [sys.executable, "-m", "ferkit", "predict", damaged, pictures / "2.jpg", "--detector", "none", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert (done.returncode, len(json.loads(done.stdout)[0]["faces"])) == (1, 1)
    assert done.stderr.count("\n") == 2, done.stderr
    assert "2.jpg" in done.stderr


def test_a_second_run_leaves_out_what_the_first_one_drew(ferkit_predict, pictures):
    words = (pictures, "--detector", "none", "--save", pictures / "out", "--json")
    first, second = ferkit_predict(*words), ferkit_predict(*words)
    assert len(json.loads(first[1])) == len(json.loads(second[1])) == 3
    assert "Skipped 2 images" in second[2]
    code, out, err = ferkit_predict(pictures / "out" / "1.png", "--save", pictures / "out", "--json")
    assert (code, out) == (2, "")
    assert "annotated images would overwrite it" in err


def test_json_is_whole_when_something_else_fails(ferkit_predict, pictures, monkeypatch):
    from ferkit.render.sinks import CsvTable

    monkeypatch.setattr(CsvTable, "write", lambda self, result: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ferkit_predict(pictures / "1.png", "--detector", "none", "--json", "--csv", pictures / "t.csv")


def test_odd_names_stay_in_their_row(ferkit_predict, pictures):
    odd = pictures / "esc\x1b[31m\nline.png"
    (pictures / "1.png").rename(odd)
    wide = pictures / "\u65e5\u672c.png"
    wide.write_bytes(odd.read_bytes())
    _, out, _ = ferkit_predict(odd, wide, "--detector", "none", "--top", 1)
    heading, first, second = out.splitlines()
    assert "\x1b" not in out
    # Two columns of the terminal for each of the two letters.
    assert heading.index("face") + 3 == first.index("   1  ") + 3 == second.index("   1  ") + 2 + 3


def run_in_shell(command, *words, **environment):
    whole = f"{sys.executable} -m ferkit predict {command}"
    return subprocess.run(
        ["/bin/sh", "-c", whole, "sh", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        pytest.param('"$1" --detector none >/dev/full', 1, "Cannot write to standard output: No space", id="full"),
        pytest.param('"$1" --detector none --json >/dev/full', 1, "Cannot write to standard output", id="full json"),
        pytest.param('"$1" --detector none --json >&-', 1, "Cannot write to standard output", id="no standard output"),
        pytest.param('"$1" --detector none --json 2>&-', 0, "", id="no standard error"),
        pytest.param('"$1" --csv -', 2, "--csv writes a file", id="csv to -"),
    ],
)
def test_odd_streams(pictures, command, code, said):
    done = run_in_shell(command, pictures / "1.png")
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if "2>" in command:
        assert json.loads(done.stdout)[0]["error"] is None


def test_a_name_that_the_output_cannot_say_costs_nobody_the_rest(pictures):
    wide = pictures / "\u65e5\u672c.png"
    wide.write_bytes((pictures / "1.png").read_bytes())
    words = '"$1" "$2" --detector none --top 1'
    done = run_in_shell(words, wide, pictures / "10.jpg", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "\\u65e5\\u672c.png" in done.stdout
    assert "10.jpg" in done.stdout


def test_ctrl_c_does_not_wait_for_a_decoder(ferkit_predict, pictures, monkeypatch):
    """Python handles signals in its main thread, between two steps; so that one must not decode, on one core either."""
    threads = []

    def told(source, *more, **named):
        threads.append(threading.current_thread())
        return read_image(source, *more, **named)

    monkeypatch.setattr("ferkit.recognizer.read_image", told)
    monkeypatch.setattr("ferkit._support.parallel._most_cores", 1)
    ferkit_predict(next(pictures.glob("*.jpg")), "--json")
    assert threads
    assert threading.main_thread() not in threads


def test_ctrl_c_does_not_wait_for_a_slow_server(tmp_path):
    """The server answers, and then not a byte more: a minute would pass."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/slow.jpg"
        command = [sys.executable, "-m", "ferkit", "predict", address, address, "--detector", "none"]
        environment = {**os.environ, "FERKIT_OFFLINE": "0"}

        def listen() -> None:  # tests that run in the background inherit that the signal is ignored
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=listen
        ) as process:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            assert process.wait(30) == 130
            assert time.monotonic() - started < 5
            assert process.stderr.read() == "ferkit: Interrupted.\n"
            connection.close()


def test_pictures_on_another_drive_than_the_annotated_ones(ferkit_predict, pictures, tmp_path, monkeypatch):
    """There Windows has no common path."""

    def no_common_path(_paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", no_common_path)
    code, _, err = ferkit_predict(pictures / "1.png", "--detector", "none", "--save", tmp_path / "out")
    assert code == 0, err


@pytest.mark.parametrize("kind", ["folder", "glob", "zip"])
def test_what_is_left_out_of_many_is_named(kind, tmp_path, ferkit_predict):
    there = tmp_path / "there"
    (there / ".hidden").mkdir(parents=True)
    (there / "face.jpg").write_bytes(sample_picture().read_bytes())
    for name in ("a.mp4", "b.MOV", "c.dng", "notes.txt", ".hidden/d.mp4", ".DS_Store", "raw"):
        (there / name).write_bytes(b"x")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in there.rglob("*"):
                archive.write(path, path.relative_to(there))
    else:
        (there / "link").symlink_to(tmp_path)
    source = {"folder": there, "glob": there / "[!l]*", "zip": tmp_path / "a.zip"}[kind]
    code, _, err = ferkit_predict(source, "--json")
    said = " ".join(err.split())
    assert code == 0, err
    links = "1 link to a folder (not followed), " if kind == "folder" else ""
    for part in (links, "2 videos (for: ferkit video)", "1 raw photo (convert to JPEG)"):
        assert part in said
    assert "2 other files (" in said
    assert ".txt" in said
