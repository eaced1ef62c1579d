import io
import json

import numpy as np
import PIL.Image
import pytest
from test_explain import EyeClassifier, bright_eye

from ferkit.models import sample_picture


@pytest.fixture
def ferkit_explain(stub_model, run_ferkit):
    """Run the command as the console script does, with a classifier that needs no network."""
    stub_model(EyeClassifier())
    return lambda *words: run_ferkit("explain", "default", *words)


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.png"
    PIL.Image.fromarray(bright_eye(3)).resize((96, 96)).save(path)
    return path


def test_json_is_one_document_and_nothing_else(ferkit_explain, face):
    code, out, err = ferkit_explain(face, "--detector", "none", "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document) == ["source", "width", "height", "model", "method", "faces"]
    assert (document["width"], document["model"], document["method"]) == (96, "default", "occlusion")
    (one,) = document["faces"]
    assert (one["box"], one["label"], one["explained"]) == ([0, 0, 96, 96], "happy", "happy")
    assert one["to_picture"] == [[2, 0, 0], [0, 2, 0]]
    heatmap = np.array(one["heatmap"])
    assert (heatmap.shape, heatmap.max()) == ((48, 48), 1)
    assert "Wrote" not in err


def test_picture_array_and_a_line_per_face(ferkit_explain, face, tmp_path):
    picture, array = tmp_path / "o" / "heatmap.png", tmp_path / "o" / "maps.npz"
    words = (face, "--detector", "none", "--out", picture, "--array", array, "--method", "occlusion")
    code, out, err = ferkit_explain(*words)
    assert code == 0
    assert out.split()[:4] == ["1", "happy", "95.1%", "occlusion"]
    assert "percentage points less where occluded" in out
    assert all(f"Wrote {path}" in err for path in (picture, array))
    with PIL.Image.open(picture) as drawn:
        assert (drawn.format, drawn.width) == ("PNG", 480)
    with np.load(array, allow_pickle=False) as stored:
        shapes = {name: stored[name].shape for name in stored}
        assert stored["labels"].tolist() == ["happy"]
        assert stored["heatmaps"].dtype == np.float32
    assert shapes == {
        "heatmaps": (1, 48, 48), "to_picture": (1, 2, 3), "boxes": (1, 4), "labels": (1,), "probabilities": (1,),
        "peaks": (1,), "method": (),
    }  # fmt: skip
    assert sorted(path.name for path in picture.parent.iterdir()) == ["heatmap.png", "maps.npz"]


def test_a_picture_of_the_packaged_model(run_ferkit, tmp_path):
    out = tmp_path / "heatmap.jpg"
    words = ("explain", "default", sample_picture(), "--detector", "haar", "--out", out, "--method", "occlusion")
    code, lines, _ = run_ferkit(*words)
    assert code == 0
    assert "happy" in lines
    with PIL.Image.open(out) as drawn:
        assert drawn.width == 512


def test_a_label_by_its_alias_and_one_of_several_faces(ferkit_explain, tmp_path, monkeypatch):
    from ferkit.recognizer import EmotionRecognizer
    from recognition import face_at

    places = [face_at(0, 0, 48, 48), face_at(50, 0, 98, 48)]
    monkeypatch.setattr(EmotionRecognizer, "detect", lambda self, image: places)
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:48, 50:98] = bright_eye(3)
    PIL.Image.fromarray(picture).save(tmp_path / "two.png")
    _, out, _ = ferkit_explain(tmp_path / "two.png", "--json", "--label", "sadness")
    first, second = json.loads(out)["faces"]
    assert (first["label"], second["label"], first["explained"], second["explained"]) == ("sad", "happy", "sad", "sad")
    assert first["peak"] == 0
    _, out, _ = ferkit_explain(tmp_path / "two.png", "--json", "--face", 2)
    (one,) = json.loads(out)["faces"]
    assert one["box"] == [50, 0, 98, 48]
    code, out, _ = ferkit_explain(tmp_path / "two.png", "--out", tmp_path / "o.png", "--face", 1, "--label", "happy")
    assert (code, out.split()[0]) == (0, "1")
    assert "no region supports it" in out


def test_standard_input(ferkit_explain, face, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(face.read_bytes())))
    code, out, _ = ferkit_explain("-", "--detector", "none", "--json")
    assert (code, json.loads(out)["source"]) == (0, "-")


@pytest.mark.parametrize("option", ["--out", "--array"])
def test_a_file_that_cannot_be_written_does_not_cost_the_figures(ferkit_explain, face, option):
    nowhere = "/proc/x/y.png" if option == "--out" else "/proc/x/y.npz"
    code, out, err = ferkit_explain(face, "--detector", "none", "--json", option, nowhere)
    assert (code, len(json.loads(out)["faces"])) == (1, 1)
    assert "Wrote" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("ferkit: ")]
    assert "Cannot write" in line


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["face.png"], 2, "--out heatmap.png, --array maps.npz or --json", id="nowhere-to-go"),
        pytest.param(["face.png", "--out", "map.txt"], 2, "--out must end in .png", id="no-picture"),
        pytest.param(["face.png", "--array", "map.npy"], 2, "--array must end in .npz", id="no-npz"),
        pytest.param(["face.png", "--out", "./face.png"], 2, "is the picture itself", id="itself"),
        pytest.param(["face.png", "--json", "--method", "gradcam"], 2, "Did you mean 'grad-cam'", id="method"),
        pytest.param(["face.png", "--json", "--label", "bored"], 2, "none of the classes", id="label"),
        pytest.param(["face.png", "--json", "--face", "0"], 2, "--face", id="face-0"),
        pytest.param(["face.png", "--json", "--face", "2", "--detector", "none"], 1, "must be 1 to 1", id="face-2"),
        pytest.param(["face.png", "--json", "--detector", "haar"], 1, "--detector none", id="no-face"),
        pytest.param(["missing.png", "--json"], 1, "File not found: missing.png", id="missing"),
        pytest.param([".", "--json"], 2, "Only one image can be explained at a time", id="folder"),
        pytest.param(
            ["face.png", "--json", "--method", "grad-cam", "--detector", "none"],
            1,
            "Use --method occlusion",
            id="keras",
        ),
    ],
)
def test_bad_usage_is_one_line_and_an_exit_code(ferkit_explain, face, monkeypatch, words, code, said):
    monkeypatch.chdir(face.parent)
    before = sorted(face.parent.iterdir())
    got, out, err = ferkit_explain(*words)
    assert (got, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("ferkit: ")
    assert sorted(face.parent.iterdir()) == before
