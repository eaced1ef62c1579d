"""Model folders and bare files: what loads, what is refused, and that the answers stay the same."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ferkit.errors import ModelError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.models import exporting as export
from ferkit.models import exporting as parity
from ferkit.models import model_files, model_folder
from ferkit.models.classifier import EmotionClassifier
from ferkit.sources.images import FaceInput

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


def tutorials_own_model():
    """The network as a reader of the tutorial types it on today's Keras: no scaling inside, compiled."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((48, 48, 1))])
    for filters in (32, 64, 128):
        model.add(layers.Conv2D(filters, (3, 3), padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.MaxPooling2D(pool_size=(2, 2)))
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(128))
    model.add(layers.BatchNormalization())
    model.add(layers.Activation("relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(7, activation="softmax"))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(0).integers(0, 256, (20, 48, 48, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with random weights and a temperature."""
    from ferkit.models import tutorial

    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("models") / "model"
    path.mkdir()
    network = tutorial()
    network.save(path / "model.keras")
    export.to_onnx(network, FaceInput(), path / "model.onnx")
    from ferkit.labels import EMOTIONS

    model_folder.write_card(path, classes=EMOTIONS, face_input=FaceInput(), temperature=0.5, details={})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["emotion_model_keras.h5", "emotion_model.keras"])
def test_the_tutorials_file_loads_with_its_conventions(name, faces, tmp_path):
    keras.utils.set_random_seed(2)
    model = tutorials_own_model()
    model.save(tmp_path / name)
    classifier = EmotionClassifier.load(tmp_path / name)
    expected = model.predict(faces.astype("float32") / 255.0, verbose=0)
    np.testing.assert_allclose(classifier.predict_proba(faces), expected, atol=1e-6)
    assert classifier.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("format_name", ["keras", "h5"])
def test_our_own_bare_files_are_not_scaled_twice(format_name, folder, faces, tmp_path):
    path = tmp_path / f"model.{format_name}"
    assert export.export(folder, path, format_name).parity.max_difference <= export.TOLERANCE
    bare = EmotionClassifier.load(path)
    whole = EmotionClassifier.load(folder, engine="keras")
    np.testing.assert_allclose(bare.predict_proba(faces), whole.predict_proba(faces), atol=1e-6)


def test_engines_agree_and_temperature_is_applied(folder, faces):
    answers = {engine: EmotionClassifier.load(folder, engine=engine) for engine in ("onnx", "keras")}
    onnx, with_keras = (answers[engine].predict_proba(faces) for engine in answers)
    np.testing.assert_allclose(onnx, with_keras, atol=1e-4)
    np.testing.assert_allclose(onnx.sum(axis=1), 1, atol=1e-6)
    plain = answers["onnx"]
    plain.temperature = 1.0
    # T = 0.5 squares the odds between any two classes (Guo et al. 2017).
    sharp, flat = onnx[:, 0] / onnx[:, 1], plain.predict_proba(faces)
    np.testing.assert_allclose(sharp, (flat[:, 0] / flat[:, 1]) ** 2, rtol=1e-3)


def test_large_inputs_are_cut_into_batches(folder, faces):
    classifier = EmotionClassifier.load(folder)
    many = np.tile(faces, (30, 1, 1, 1))
    np.testing.assert_allclose(classifier.predict_proba(many)[300:320], classifier.predict_proba(faces), atol=1e-6)
    assert classifier.predict_proba(faces[:0]).shape == (0, 7)


@pytest.mark.parametrize(
    "faces",
    [
        pytest.param(np.zeros((1, 48, 48, 3), np.uint8), id="rgb"),
        pytest.param(np.zeros((1, 64, 64, 1), np.uint8), id="size"),
        pytest.param(np.zeros((48, 48, 1), np.uint8), id="no-batch"),
        pytest.param(np.zeros((1, 48, 48, 1), np.float32), id="float"),
    ],
)
def test_other_faces_are_refused(folder, faces):
    with pytest.raises(ModelError, match=r"takes uint8 faces .* Received"):
        EmotionClassifier.load(folder).predict_proba(faces)


def lambda_model(path):
    # The function would run at load time if anything went wrong: it leaves a mark.
    model = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten()])
    model.add(keras.layers.Dense(7, activation="softmax"))
    model.save(path)


def foreign_module(path):
    keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Dense(7)]).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = parts["config.json"].decode().replace('"keras.layers"', '"os.path"', 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, config if name == "config.json" else data)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        pytest.param("model.keras", lambda_model, id="lambda-in-keras"),
        pytest.param("model.h5", lambda_model, id="lambda-in-h5"),
        pytest.param("model.keras", foreign_module, id="module-of-its-own"),
    ],
)
def test_code_in_a_file_is_refused_and_named(name, write, tmp_path):
    write(tmp_path / name)
    with pytest.raises(ModelError, match=r"contains code \(layer"):
        EmotionClassifier.load(tmp_path / name)


def two_outputs(path):
    pixels = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(pixels)
    keras.Model(pixels, [keras.layers.Dense(7)(flat), keras.layers.Dense(2)(flat)]).save(path)


def own_layer(path):
    class Own(keras.layers.Layer):
        __module__ = "__main__"  # as in a notebook: the file names no module then

        def call(self, x):
            return x

    keras.saving.register_keras_serializable("tests")(Own)
    pixels = keras.Input((8, 8, 1))
    keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(Own()(pixels)))).save(path)
    del keras.saving.get_custom_objects()["tests>Own"]


def outputs(n, activation="softmax", shape=(48, 48, 1)):
    def write(path):
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(n, activation=activation)]
        keras.Sequential(layers).save(path)

    return write


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        pytest.param("m.h5", lambda p: p.write_bytes(b""), "not a Keras model", id="empty-h5"),
        pytest.param("m.keras", lambda p: p.write_bytes(b"PK\x03\x04 nonsense"), "not a Keras model", id="broken-zip"),
        pytest.param("m.pkl", lambda p: p.write_bytes(b"\x80\x04"), "not a model that ferkit reads", id="pickle"),
        pytest.param("m.keras", outputs(3), "3 outputs and names no classes", id="three-classes"),
        pytest.param("m.keras", outputs(7, shape=(48,)), r"must take pictures .*\(None, 48\)\.$", id="not-pictures"),
        pytest.param("m.keras", outputs(7, shape=(64,)), r"Input\(\(8, 8, 1\)\), keras.layers.Flatten\(\)", id="flat"),
        pytest.param("m.keras", outputs(7, shape=(3, 8, 9)), r"Input\(\(8, 9, 3\)\), .*Permute", id="channels-first"),
        pytest.param("m.keras", two_outputs, r"keras\.Model\(model\.inputs, model\.outputs\[0\]\)", id="two-outputs"),
        pytest.param("m.keras", own_layer, "uses 'Own', whose code is not in it", id="layer-of-its-own"),
    ],
)
def test_unusable_files_are_named(name, write, words, tmp_path):
    write(tmp_path / name)
    with pytest.raises(ModelError, match=words) as caught:
        EmotionClassifier.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_scale_of_three_channels_is_refused_for_gray_faces(tmp_path):
    outputs(7)(tmp_path / "m.keras")
    with pytest.raises(UsageError, match=r"m.keras takes gray faces, so its pixel scale has one mean and one std"):
        EmotionClassifier.load(tmp_path / "m.keras", pixel_scale="0.4,0.4,0.4,0.2,0.2,0.2")


def test_outputs_that_are_no_probabilities_are_refused(faces, tmp_path):
    """The card says what they are, and is wrong."""
    outputs(7, activation=None)(tmp_path / "m.keras")
    card = {"classes": list(EMOTIONS), "face_input": {}, "temperature": 1.0}
    model_files.embed_card(tmp_path / "m.keras", card)
    with pytest.raises(ModelError, match="does not give probabilities"):
        EmotionClassifier.load(tmp_path / "m.keras").predict_proba(faces)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def edit(**changes):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        pytest.param("model.onnx", truncate, "SHA-256 differs", id="truncated-onnx"),
        pytest.param("model.onnx", Path.unlink, "has no model.onnx, which its card names", id="missing-onnx"),
        pytest.param("card.json", truncate, "not a ferkit model card", id="truncated-card"),
        pytest.param("card.json", Path.unlink, "has no card.json", id="missing-card"),
        pytest.param("card.json", edit(classes=["a", "a"]), "two different names", id="classes-twice"),
        pytest.param("card.json", edit(temperature=0), "temperature must be above 0", id="temperature"),
        pytest.param("card.json", edit(face_input={"height": 48}), None, id="face-input-defaults"),
        pytest.param("card.json", edit(face_input={"height": -1}), "positive pixels", id="face-input-size"),
        pytest.param("card.json", edit(face_input={"height": "48"}), "positive pixels", id="face-input-text"),
        pytest.param("card.json", edit(face_input={"colour": 1}), "not a ferkit model card", id="face-input-unknown"),
        pytest.param("card.json", edit(sha256=None), "sha256 must be", id="no-checksums"),
    ],
)
def test_damaged_folders(copy, name, damage, words):
    damage(copy / name)
    if words is None:
        EmotionClassifier.load(copy)
        return
    with pytest.raises(ModelError, match=words):
        EmotionClassifier.load(copy)


def test_a_card_with_too_few_classes_is_caught(copy, faces):
    edit(classes=["happy", "sad"])(copy / "card.json")
    with pytest.raises(ModelError, match="must give 2 numbers per face"):
        EmotionClassifier.load(copy).predict_proba(faces)


def test_nothing_there():
    with pytest.raises(ModelError, match="No model at nowhere"):
        EmotionClassifier.load("nowhere")


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="--resume"):
        EmotionClassifier.load(tmp_path)


def test_a_failed_export_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match=r"Export check failed, .* not written"):
        export.export(folder, tmp_path / "out.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(folder, tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'onnx'"):
        export.export(folder, tmp_path / "m", "onx")


def test_a_card_of_another_size_than_the_network_is_one_line(copy):
    edit(face_input={"height": 64, "width": 64})(copy / "card.json")
    classifier = EmotionClassifier.load(copy)
    with pytest.raises(ModelError, match=r"takes .*48, 48.* Received: \(1, 64, 64, 1\)") as caught:
        classifier.predict_proba(np.zeros((1, 64, 64, 1), np.uint8))
    assert "\n" not in str(caught.value)


def test_half_a_network_is_refused_by_every_way_in(copy):
    """The archive is whole and its weights are not: what a bad copy may look like."""
    path = copy / "half.keras"
    with zipfile.ZipFile(copy / "model.keras") as whole, zipfile.ZipFile(path, "w") as half:
        for name in whole.namelist():
            data = whole.read(name)
            half.writestr(name, data[: len(data) // 2] if name.endswith(".h5") else data)
    for load in (EmotionClassifier.load, export.open_network):
        with pytest.raises(ModelError, match="Keras cannot load"):
            load(path)


def test_the_commit_is_that_of_ferkit_alone(tmp_path, monkeypatch):
    """A virtual environment inside somebody's checkout: their commit is not ours."""
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)  # noqa: S607
    installed = tmp_path / "site-packages" / "ferkit" / "model_folder.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr(model_folder, "__file__", str(installed))
    assert model_folder.git_commit() is None
