"""Exported files: what they say about themselves, who reads them, and what is refused of strangers."""

import ast
import importlib.util
import json
import shutil
import sys
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from ferkit.cli import app
from ferkit.detection.crops import resize_face
from ferkit.errors import FerkitError, ModelError, UsageError
from ferkit.models import conversion, model_files, model_folder
from ferkit.models import exporting as export
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.exporting import FORMATS
from ferkit.sources.images import FaceInput

keras = pytest.importorskip("keras")
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")]

CLASSES = ("awake", "tired", "böred")
TEMPERATURE = 0.5
FILES = [name for name in FORMATS if FORMATS[name].suffix]
EXACT = [name for name in FILES if not FORMATS[name].rounded]


def network(classes=3, shape=(48, 48, 1), scaled=True):
    keras.utils.set_random_seed(4)
    layers = keras.layers
    parts = [keras.Input(shape), *([layers.Rescaling(1 / 255)] if scaled else [])]
    parts += [layers.Conv2D(6, 5, strides=3, activation="relu"), layers.Flatten()]
    return keras.Sequential([*parts, layers.Dense(classes, activation="softmax")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    path.mkdir()
    network().save(path / "model.keras")
    details = {
        "architecture": "small",
        "licence": "CC0-1.0",
        "metrics": {"accuracy": 0.5},
        "training": {"data": {"source": "x.csv", "fingerprint": "1", "faces": {}}, "recipe": {"seed": 1}},
    }
    face_input = FaceInput(margin=0.1)
    model_folder.write_card(path, classes=CLASSES, face_input=face_input, temperature=TEMPERATURE, details=details)
    return path


@pytest.fixture(scope="module")
def files(folder, tmp_path_factory):
    """The model in every format."""
    place = tmp_path_factory.mktemp("exports")
    written = {}
    for name in FORMATS:
        path = place / f"{name}{FORMATS[name].suffix}"
        written[name] = export.export(folder, path, name)
    return written


@pytest.fixture
def faces():
    return np.random.default_rng(0).integers(0, 256, (20, 48, 48, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_answers_as_its_model(name, files, folder, faces):
    path, parity = files[name].path, files[name].parity
    one, whole = EmotionClassifier.load(path), EmotionClassifier.load(folder, engine="keras")
    assert (one.classes, one.face_input) == (CLASSES, FaceInput(margin=0.1))
    tolerance = 0.1 if FORMATS[name].rounded else 1e-5
    np.testing.assert_allclose(one.predict_proba(faces), whole.predict_proba(faces), atol=tolerance)
    np.testing.assert_allclose(one.predict_proba(faces[:1]), whole.predict_proba(faces[:1]), atol=tolerance)
    assert parity.faces == 1000
    assert parity.problem is None


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_says(name, files):
    card = EmotionClassifier.load(files[name].path).card
    # Applied once: in the graph, or by who reads the card.
    inside = FORMATS[name].suffix in (".onnx", ".tflite")
    assert card["temperature"] == (1.0 if inside else TEMPERATURE)
    assert card.get("temperature_inside") == (TEMPERATURE if inside else None)
    assert (card["architecture"], card["licence"]) == ("small", "CC0-1.0")
    assert card["training"] == {"data": {"source": "x.csv", "fingerprint": "1", "faces": {}}}
    assert card["metrics"]["note"] == "Of the original, before it was exported."
    assert "perceive" in card["intended_use"]
    assert card["ferkit"]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_the_five_lines_run(name, files, folder, tmp_path, monkeypatch, capsys):
    path = files[name].path
    if name == "litert" and importlib.util.find_spec("ai_edge_litert") is None:
        # TensorFlow carries the same interpreter under another name.
        module = types.ModuleType("ai_edge_litert.interpreter")
        module.Interpreter = importlib.import_module("tensorflow").lite.Interpreter
        monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    face = np.random.default_rng(1).integers(0, 256, (144, 96, 3), dtype=np.uint8)
    PIL.Image.fromarray(face).save("face.png")
    lines = files[name].instructions
    assert len(lines.splitlines()) == 5
    exec(compile(lines, name, "exec"), {})  # noqa: S102
    printed = ast.literal_eval(capsys.readouterr().out.strip().splitlines()[-1])
    assert tuple(printed) == CLASSES
    whole = EmotionClassifier.load(folder, engine="keras")
    if FORMATS[name].suffix not in (".onnx", ".tflite"):
        whole.temperature = 1.0
    expected = whole.predict_proba(resize_face(face, FaceInput())[None])[0]
    np.testing.assert_allclose(list(printed.values()), expected, atol=0.05)


def test_the_tutorials_file_can_be_exported(tmp_path, faces):
    """It has no scaling inside: its exports have, or say so."""
    model = network(classes=7, scaled=False)
    model.save(tmp_path / "emotion_model_keras.h5")
    expected = model.predict(faces / 255.0, verbose=0)
    for name in EXACT:
        path = tmp_path / f"out{FORMATS[name].suffix}"
        export.export(tmp_path / "emotion_model_keras.h5", path, name)
        np.testing.assert_allclose(EmotionClassifier.load(path).predict_proba(faces), expected, atol=1e-5)


def test_an_exported_keras_file_is_a_model_like_any(files, tmp_path, folder, faces):
    export.export(files["keras"].path, tmp_path / "again.onnx", "onnx")
    again = EmotionClassifier.load(tmp_path / "again.onnx").predict_proba(faces)
    whole = EmotionClassifier.load(folder, engine="keras").predict_proba(faces)
    np.testing.assert_allclose(again, whole, atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "litert"])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads(name, threads, files, faces):
    answers = EmotionClassifier.load(files[name].path, threads=threads).predict_proba(faces)
    np.testing.assert_allclose(answers, EmotionClassifier.load(files[name].path).predict_proba(faces), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"threads": 0}, "threads must be 1 or more", id="threads"),
        pytest.param({"engine": "onx"}, "Did you mean|Unknown engine 'onx'", id="engine"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(UsageError, match=words):
        EmotionClassifier.load(**options)


GOOD = {"classes": list(CLASSES), "face_input": {"height": 48, "width": 48, "channels": 1}, "temperature": 1.0}
BAD_CARDS = [
    pytest.param("nonsense", "not a ferkit model card", id="no-json"),
    pytest.param("[" * 100_000, "not a ferkit model card", id="deep-and-large"),
    pytest.param("[" * 60_000, "not a ferkit model card", id="deep"),
    pytest.param(json.dumps([1]), "not a ferkit model card", id="list"),
    pytest.param(json.dumps({}), "not a ferkit model card", id="empty"),
    pytest.param(json.dumps({**GOOD, "classes": ["a", "b"]}), "3 outputs and a card of 2", id="fewer-classes"),
    pytest.param(json.dumps({**GOOD, "classes": ["a", "a", "b"]}), "two different names", id="same-classes"),
    pytest.param(json.dumps({**GOOD, "temperature": -1}), "temperature must be above 0", id="temperature"),
    pytest.param(json.dumps({**GOOD, "temperature": float("nan")}), "temperature must be above 0", id="nan"),
    pytest.param(json.dumps({**GOOD, "pixel_scale": 0}), "pixel_scale", id="pixel-scale"),
    pytest.param(json.dumps({**GOOD, "face_input": {"height": 10**9}}), "positive pixels", id="huge"),
    pytest.param(json.dumps({**GOOD, "face_input": {"margin": float("inf")}}), "margin", id="margin"),
]


def with_card(source, target, text):
    """A copy of an exported file with another card."""
    if source.suffix == ".onnx":
        import onnx

        model = onnx.load(source)
        onnx.helper.set_model_props(model, {model_files.CARD_KEY: text})
        onnx.save(model, target)
    elif source.suffix == ".h5":
        import h5py

        shutil.copy(source, target)
        with h5py.File(target, "r+") as file:
            file.attrs[model_files.CARD_KEY] = text
    else:
        shutil.copy(source, target)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(target, "a") as archive:
            archive.writestr(model_files.CARD_MEMBER, text, zipfile.ZIP_DEFLATED)
    return target


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("text", "words"), BAD_CARDS)
def test_cards_of_strangers_are_checked(name, text, words, files, tmp_path):
    if name == "h5" and len(text) > 64_000:
        pytest.skip("HDF5 holds no attribute of that size")
    path = with_card(files[name].path, tmp_path / files[name].path.name, text)
    with pytest.raises(ModelError, match=words) as caught:
        EmotionClassifier.load(path)
    assert "\n" not in str(caught.value)


def test_a_card_of_another_size_is_refused(files, tmp_path):
    text = json.dumps({**GOOD, "face_input": {"height": 64, "width": 64}})
    with pytest.raises(ModelError, match="its card says"):
        EmotionClassifier.load(with_card(files["litert"].path, tmp_path / "m.tflite", text))


def test_a_bomb_as_card_takes_no_memory(files, tmp_path):
    path = with_card(files["litert"].path, tmp_path / "m.tflite", " " * 200_000_000)
    assert path.stat().st_size < 5_000_000
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ModelError, match="not a ferkit model card"):
        EmotionClassifier.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def without_card(path, folder):
    if path.suffix == ".onnx":
        export.to_onnx(network(), FaceInput(), path)
    else:
        conversion.convert(network(), path)


def cut_off(path, folder):
    path.write_bytes(path.read_bytes()[:2000])


def empty(path, folder):
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["onnx", "litert"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(without_card, "3 outputs and names no classes", id="no-card"),
        pytest.param(cut_off, "not a network that", id="cut-off"),
        pytest.param(empty, "not a network that", id="empty"),
    ],
)
def test_unusable_files_are_named(name, change, words, files, folder, tmp_path):
    path = tmp_path / files[name].path.name
    shutil.copy(files[name].path, path)
    change(path, folder)
    with pytest.raises(ModelError, match=words) as caught:
        EmotionClassifier.load(path)
    assert "\n" not in str(caught.value)


def ferkit(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_the_command_prints_parity_and_lines_to_run(folder, tmp_path):
    out = tmp_path / "emotions.onnx"
    done = ferkit("export", folder, out, "--format", "onnx")
    assert done.exit_code == 0, done.output
    assert "probabilities differ by at most" in done.stderr
    assert "on 1,000 faces" in done.stderr
    compile(done.stdout, "run.py", "exec")
    assert 'InferenceSession("emotions.onnx")' in done.stdout


def test_the_command_as_json(folder, tmp_path):
    data = tmp_path / "faces"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in CLASSES[:2]:
            (data / split / name).mkdir(parents=True)
            for i in range(8):
                face = rng.integers(0, 256, (48, 48), dtype=np.uint8)
                PIL.Image.fromarray(face).save(data / split / name / f"{i}.png")
    out = tmp_path / "small.onnx"
    done = ferkit("export", folder, out, "--format", "onnx-int8", "--data", data, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["file"] == str(out)
    assert document["bytes"] == out.stat().st_size
    assert 0 < document["mean_difference"] <= document["max_difference"]
    assert document["agreement"] > 0.95


def test_the_help_names_every_format():
    """It cannot read the registry: that would import NumPy for `ferkit --help`."""
    shown = " ".join(ferkit("export", "--help").stdout.replace("│", " ").split())
    for name in FORMATS:
        assert name in shown
        assert FORMATS[name].suffix in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["m.onnx", "--format", "h5"], 2, "format h5 ends in .h5", id="suffix"),
        pytest.param(
            ["m.onnx", "--format", "onnx", "--data", "x"],
            2,
            "Only int8 formats are calibrated on faces (--data)",
            id="data",
        ),
    ],
)
def test_mistakes_get_one_line(arguments, code, words, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ferkit("export", folder, *arguments)
    assert isinstance(done.exception, FerkitError)
    assert done.exception.exit_code == code
    assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []
