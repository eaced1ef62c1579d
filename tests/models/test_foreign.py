"""Model files of other origin: classes, pixel scales, kinds of outputs, and what cannot be read."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from faces import face_set
from ferkit.errors import FerkitError, ModelError, UsageError
from ferkit.evaluation import compare, evaluate
from ferkit.labels import EMOTIONS
from ferkit.models import EmotionClassifier, PixelScale, export, open_classifiers
from ferkit.models.foreign import as_probabilities, outputs_by_numbers
from ferkit.recognizer import EmotionRecognizer
from foreign_files import bar_network, mean_onnx

keras = pytest.importorskip("keras")
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")]

ALPHABETICAL = tuple(sorted(EMOTIONS))
THREE = ("negative", "neutral", "positive")


@pytest.fixture
def bars():
    return face_set(210, 3, "PublicTest")


@pytest.fixture(scope="module")
def bar_file(tmp_path_factory):
    """Trained on -1..1, with its outputs in alphabetical order."""
    path = tmp_path_factory.mktemp("foreign") / "alphabetical.keras"
    bar_network(classes=ALPHABETICAL).save(path)
    return path


def notes(caplog):
    return [one.getMessage() for one in caplog.records if one.name.startswith("ferkit")]


def accuracy(classifier, faces):
    order = [classifier.classes.index(name) for name in faces.classes]
    return float(np.mean(classifier.predict_proba(faces.images)[:, order].argmax(axis=1) == faces.labels))


@pytest.mark.parametrize(
    ("given", "black", "white"),
    [
        ("0..1", 0, 1),
        ("-1..1", -1, 1),
        ("0..255", 0, 255),
        ("127.5,127.5", -1, 1),
        ("0.5,0.5", -1, 1),
        ("0,255", 0, 1),
        ("133.2, 62.1", -133.2 / 62.1, (255 - 133.2) / 62.1),
        (0.5, 0, 127.5),
    ],
)
def test_pixel_scales(given, black, white):
    scale = PixelScale.parse(given)
    found = scale(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)).ravel()
    np.testing.assert_allclose(found, [black, white], rtol=1e-6)
    assert PixelScale.parse(scale.to_card()) == PixelScale.parse(str(scale)) == scale


def test_a_scale_for_each_channel():
    scale = PixelScale.parse("0.485,0.456,0.406,0.229,0.224,0.225")
    found = scale(np.full((1, 1, 1, 3), 255, np.uint8)).ravel()
    np.testing.assert_allclose(found, np.divide([0.515, 0.544, 0.594], [0.229, 0.224, 0.225]), rtol=1e-5)


@pytest.mark.parametrize("given", ["", "0..2", "1", "1,2,3", "0,0", "0,-1", "nan,1", "0,inf", 0, float("nan"), "a,b"])
def test_no_pixel_scales(given):
    with pytest.raises(UsageError, match=r"0\.\.1, -1\.\.1, 0\.\.255, or mean,std"):
        PixelScale.parse(given)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, ["class names and no pixel scale", "FER-2013's order (angry,disgust", "pixels 0..1", "--classes A,B,..."]),
        ({"classes": ALPHABETICAL}, ["no pixel scale", "--pixel-scale -1..1 or 0..255"]),
        ({"pixel_scale": "-1..1"}, ["no class names", "--classes A,B,..."]),
        ({"classes": ",".join(ALPHABETICAL), "pixel_scale": "-1..1"}, []),
    ],
)
def test_what_is_assumed_is_said_once(told, said, bar_file, tmp_path, caplog):
    path = shutil.copy(bar_file, tmp_path / "mine.keras")
    for _ in range(2):
        EmotionClassifier.load(path, **told)
    assert len(notes(caplog)) == bool(said)
    assert all(word in notes(caplog)[0] for word in said)


def test_options_make_the_answers_right(bar_file, bars):
    assert accuracy(EmotionClassifier.load(bar_file), bars) < 0.3
    told = {"classes": ALPHABETICAL, "pixel_scale": "-1..1"}
    assert accuracy(EmotionClassifier.load(bar_file, **told), bars) == 1
    assert EmotionRecognizer(bar_file, **told).classes == ALPHABETICAL
    assert evaluate(bar_file, bars, **told).accuracy == 1


def test_evaluation_names_order_and_scale(bar_file, bars, caplog):
    report = evaluate(bar_file, bars)
    (found,) = report.parts
    assert (found.classes, str(found.pixel_scale), found.better) == (ALPHABETICAL, "-1..1", 1)
    line = notes(caplog)[-1]
    assert f"--classes {','.join(ALPHABETICAL)} --pixel-scale -1..1" in line
    # One of the two is right, and the other is found alone.
    (scale,) = evaluate(bar_file, bars, classes=ALPHABETICAL).parts
    assert (scale.classes, str(scale.pixel_scale)) == (None, "-1..1")
    (order,) = evaluate(bar_file, bars, pixel_scale="-1..1").parts
    assert (order.classes, order.pixel_scale) == (ALPHABETICAL, None)
    assert evaluate(bar_file, bars, classes=ALPHABETICAL, pixel_scale="-1..1").parts == ()


def test_a_card_beside_the_file_tells_the_same(bar_file, bars, tmp_path, caplog):
    path = shutil.copy(bar_file, tmp_path / "mine.keras")
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"classes": ALPHABETICAL, "pixel_scale": "-1..1", "face_input": {"margin": 0.2}}))
    loaded = EmotionClassifier.load(path)
    assert (accuracy(loaded, bars), loaded.face_input.margin, notes(caplog)) == (1, 0.2, [])
    EmotionClassifier.load(path, classes=ALPHABETICAL, pixel_scale="-1..1")
    for told in ({"classes": EMOTIONS}, {"pixel_scale": "0..1"}):
        with pytest.raises(UsageError, match=r"Leave --(classes|pixel-scale) out"):
            EmotionClassifier.load(path, **told)
    card.write_text(json.dumps({"pixel_scale": "-1..1"}))
    assert accuracy(EmotionClassifier.load(path, classes=ALPHABETICAL), bars) == 1
    card.write_text(json.dumps({"classes": ALPHABETICAL, "sha256": {"model.keras": "0" * 64}}))
    assert EmotionClassifier.load(path).classes == EMOTIONS  # it is about other files
    card.write_text(json.dumps({"classes": ["a", "a"]}))
    with pytest.raises(ModelError, match=r"card\.json: classes must be"):
        EmotionClassifier.load(path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"classes": EMOTIONS[::-1]}, "has the classes angry,disgust,.* Leave --classes out"),
        ({"classes": THREE}, "Leave --classes out"),
        ({"pixel_scale": "-1..1"}, "Leave --pixel-scale out"),
    ],
)
def test_a_card_is_not_contradicted(told, words):
    for load in (EmotionClassifier.load, EmotionRecognizer):
        with pytest.raises(UsageError, match=words):
            load("default", **told)
    EmotionClassifier.load("default", classes=("Anger", *EMOTIONS[1:]), pixel_scale="0..255")
    with pytest.raises(UsageError, match="a model file without a card"):
        EmotionRecognizer(EmotionClassifier.load(), **told)


def test_of_two_models_the_bare_one_is_told(bar_file, bars):
    told = {"classes": ALPHABETICAL, "pixel_scale": "-1..1"}
    first, second = open_classifiers(["default", bar_file], **told)
    assert (first.classes, second.classes) == (EMOTIONS, ALPHABETICAL)
    assert compare("default", bar_file, bars, **told).b.accuracy == 1
    with pytest.raises(UsageError, match="Leave --classes out"):
        open_classifiers(["default", "fer2013"], **told)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("a,b,c", "has 7 outputs, which are 7 classes. Received 3: a,b,c"),
        ("a", "at least two different names"),
        ("a,b,", "at least two different names"),
        (["angry", "Anger"], "at least two different names"),
    ],
)
def test_classes_that_do_not_fit(classes, words, bar_file):
    with pytest.raises(UsageError, match=words):
        EmotionClassifier.load(bar_file, classes=classes)


LOGITS = np.array([[1.0, 2.0, 4.0], [3.0, -2.0, 0.0]], np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))


@pytest.mark.parametrize(
    ("numbers", "kind", "expected"),
    [
        pytest.param(SOFTMAX, "softmax", SOFTMAX, id="softmax"),
        pytest.param(LOGITS, "linear", SOFTMAX, id="logits"),
        pytest.param(np.log(SOFTMAX), "log_softmax", SOFTMAX, id="log-softmax"),
        pytest.param(SIGMOID, "sigmoid", SIGMOID / SIGMOID.sum(axis=1, keepdims=True), id="sigmoids"),
        pytest.param(SIGMOID[:, :1], "sigmoid", np.c_[1 - SIGMOID[:, 0], SIGMOID[:, 0]], id="one-sigmoid"),
        pytest.param(LOGITS[:, :1], "linear", np.c_[1 - SIGMOID[:, 0], SIGMOID[:, 0]], id="one-logit"),
    ],
)
def test_outputs_become_probabilities(numbers, kind, expected):
    assert outputs_by_numbers(numbers) == kind
    np.testing.assert_allclose(as_probabilities(numbers, kind), expected, rtol=1e-5)


def ending(*last, units=3):
    """A network with weights from a seed, and its logits."""
    keras.utils.set_random_seed(5)
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(pixels)
    logits = keras.layers.Dense(units, activation=None if last else "softmax")(x)
    for layer in last:
        logits = layer(logits)
    return keras.Model(pixels, logits)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        pytest.param(lambda la: [], "softmax", id="softmax"),
        pytest.param(lambda la: [la.Activation("softmax"), la.Dropout(0.5)], "softmax", id="softmax-apart"),
        pytest.param(lambda la: [la.Softmax(), la.Reshape((3,))], "softmax", id="softmax-layer"),
        pytest.param(lambda la: [la.Activation("linear")], "linear", id="logits"),
        pytest.param(lambda la: [la.Activation("sigmoid")], "sigmoid", id="sigmoids"),
        pytest.param(lambda la: [la.Activation("log_softmax")], "log_softmax", id="log-softmax"),
        pytest.param(lambda la: [la.BatchNormalization()], "linear", id="by-numbers"),
    ],
)
def test_keras_outputs_are_what_the_last_layer_says(last, kind, tmp_path, rng):
    model = ending(*last(keras.layers))
    nested = keras.Sequential([keras.Input((8, 8, 1)), model])
    faces = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    expected = as_probabilities(model.predict_on_batch(faces / np.float32(255)), kind)
    assert np.abs(expected.sum(axis=1) - 1).max() < 1e-5
    for name, one in (("m.keras", model), ("n.h5", nested)):
        one.save(tmp_path / name)
        loaded = EmotionClassifier.load(tmp_path / name, classes=THREE)
        assert loaded.bare.kind == kind
        np.testing.assert_allclose(loaded.predict_proba(faces), expected, atol=1e-6)


def test_outputs_of_no_known_kind_are_refused(tmp_path):
    ending(keras.layers.Activation("tanh")).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="ends in tanh, which gives neither"):
        EmotionClassifier.load(tmp_path / "m.keras", classes=THREE)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("Softmax", "softmax"),
        ("Gemm", "linear"),
        ("Sigmoid", "sigmoid"),
        ("LogSoftmax", "log_softmax"),
        ("written-out", "softmax"),
    ],
)
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({}, id="channels-first"),
        pytest.param({"layout": "NHWC"}, id="channels-last"),
        pytest.param({"batch": 1}, id="batch-of-one"),
        pytest.param({"batch": 4, "element": 11}, id="batch-of-four-doubles"),
    ],
)
def test_onnx_files_of_others(last, kind, layout, tmp_path, rng):
    path = mean_onnx(tmp_path / "m.onnx", last, **layout)
    faces = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    logits = (faces.mean(axis=(1, 2, 3)) / 127.5 - 1)[:, None] * np.linspace(-4, 4, 3) + np.linspace(1, 0, 3)
    sigmoids = 1 / (1 + np.exp(-logits))
    powers = sigmoids if kind == "sigmoid" else np.exp(logits)
    expected = powers / powers.sum(axis=1, keepdims=True)
    loaded = EmotionClassifier.load(path, classes=THREE, pixel_scale="-1..1")
    assert loaded.bare.kind == kind
    np.testing.assert_allclose(loaded.predict_proba(faces), expected, atol=1e-5)

    made = export(path, tmp_path / "made", "folder", classes=THREE, pixel_scale="-1..1")
    assert made.parity.max_difference < 1e-5
    folder = EmotionClassifier.load(tmp_path / "made")
    assert (folder.classes, folder.bare) == (THREE, None)
    np.testing.assert_allclose(folder.predict_proba(faces), expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"no Keras network, only model\.onnx"):
        EmotionClassifier.load(tmp_path / "made", engine="keras")


def test_onnx_files_are_no_originals_of_other_formats(tmp_path):
    path = mean_onnx(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="Make a model folder of it: --format folder"):
        export(path, tmp_path / "n.onnx", "onnx", classes=THREE)


@pytest.mark.parametrize(
    ("outputs", "scale"),
    [("linear", "-1..1"), ("sigmoid", "0..1"), ("softmax", "127.5,127.5"), ("log_softmax", "0..255")],
)
def test_a_model_folder_of_any_keras_file(outputs, scale, bars, tmp_path):
    path, target = tmp_path / "elsewhere.h5", tmp_path / "made"
    bar_network(classes=ALPHABETICAL, outputs=outputs, scale=str(PixelScale.parse(scale))).save(path)
    made = export(path, target, "folder", classes=ALPHABETICAL, pixel_scale=scale)
    assert made.parity.max_difference <= 1e-4
    whole = EmotionClassifier.load(path, classes=ALPHABETICAL, pixel_scale=scale).predict_proba(bars.images)
    for engine in ("keras", "onnx"):
        folder = EmotionClassifier.load(target, engine=engine)
        np.testing.assert_allclose(folder.predict_proba(bars.images), whole, atol=1e-4)
        assert accuracy(folder, bars) == 1
    assert not [one for one in target.parent.iterdir() if one.name.startswith(".")]
    with pytest.raises(UsageError, match=r"is there already\. Name a new folder"):
        export(path, target, "folder", classes=ALPHABETICAL)
    # A Keras file keeps the network as it was trained, and says how to use it.
    export(path, tmp_path / "again.keras", "keras", classes=ALPHABETICAL, pixel_scale=scale)
    again = EmotionClassifier.load(tmp_path / "again.keras")
    np.testing.assert_allclose(again.predict_proba(bars.images), whole, atol=1e-6)


def test_one_sigmoid_is_two_classes(tmp_path, rng):
    ending(keras.layers.Activation("sigmoid"), units=1).save(tmp_path / "smile.keras")
    faces = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    loaded = EmotionClassifier.load(tmp_path / "smile.keras", classes="other,smile")
    export(tmp_path / "smile.keras", tmp_path / "smile", "folder", classes="other,smile")
    found = EmotionClassifier.load(tmp_path / "smile")
    assert found.predict_proba(faces).shape == (5, 2)
    np.testing.assert_allclose(found.predict_proba(faces), loaded.predict_proba(faces), atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_a_model_of_lists_is_exported(name, tmp_path, rng):
    """`Model([in], [out])`, as many scripts write it."""
    plain = ending()
    model = keras.Model([plain.inputs[0]], [plain.outputs[0]])
    model.save(tmp_path / "lists.keras")
    faces = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    target = tmp_path / f"m.{'onnx' if name == 'onnx' else 'tflite'}"
    export(tmp_path / "lists.keras", target, name, classes=THREE)
    expected = plain.predict_on_batch(faces / np.float32(255))
    np.testing.assert_allclose(EmotionClassifier.load(target).predict_proba(faces), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["M.KERAS", "M.H5", "M.ONNX"])
def test_upper_case_suffixes(name, tmp_path):
    if name == "M.ONNX":
        mean_onnx(tmp_path / name, side=48)
    else:
        ending().save(tmp_path / name.lower())
        (tmp_path / name.lower()).rename(tmp_path / name)
    assert EmotionClassifier.load(tmp_path / name, classes=THREE).classes == THREE


def test_losses_of_ones_own_do_not_matter(tmp_path):
    def focal(y, p):
        return keras.ops.mean((1 - p) ** 2 * keras.ops.abs(y - p))

    model = ending()
    model.compile("adam", focal)
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        assert EmotionClassifier.load(tmp_path / name, classes=THREE).classes == THREE


def saved_model(folder):
    path = folder / "exported"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")
    return path


def hdf5_as_keras(folder):
    ending().save(folder / "m.h5")
    return (folder / "m.h5").rename(folder / "m.keras")


def keras_as_hdf5(folder):
    ending().save(folder / "m.keras")
    return (folder / "m.keras").rename(folder / "m.h5")


def weights_of_keras_3(folder):
    ending().save_weights(folder / "m.weights.h5")
    return folder / "m.weights.h5"


def weights_of_keras_2(folder):
    """What `save_weights` of earlier versions wrote."""
    import h5py

    with h5py.File(folder / "model.h5", "w") as file:
        file.attrs["layer_names"], file.attrs["backend"] = [b"dense"], "tensorflow"
        file.create_group("dense")
    return folder / "model.h5"


class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def custom(name):
    def write(folder):
        ending(Doubled()).save(folder / name)
        return folder / name

    return write


def function(folder):
    """An activation of one's own, which HDF5 keeps by its name alone."""
    path = custom("m.keras")(folder)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"linear"', b'"swishy"')
    path.unlink()
    ending(keras.layers.Activation("linear")).save(folder / "m.h5")
    import h5py

    with h5py.File(folder / "m.h5", "r+") as file:
        file.attrs["model_config"] = str(file.attrs["model_config"]).replace('"linear"', '"swishy"')
    return folder / "m.h5"


def with_bytes(name):
    def write(folder):
        (folder / name).write_bytes(b"PK\x03\x04")
        return folder / name

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (saved_model, "is a TensorFlow SavedModel, .* python -m tf2onnx.convert --saved-model"),
        (hdf5_as_keras, r"is HDF5 inside. Rename it: mv m.keras m.h5"),
        (keras_as_hdf5, r"is of the .keras format inside. Rename it: mv m.h5 m.keras"),
        (weights_of_keras_3, r"has weights without a network .*load_weights\('m.weights.h5'\).*model.save"),
        (weights_of_keras_2, r"has weights without a network .*load_weights\('model.h5'\).*model.save"),
        (custom("m.keras"), r"contains code \(layer 'Doubled'.*model.export\('model.onnx', format='onnx'\)"),
        (custom("m.h5"), r"(contains code \(layer|uses) 'Doubled'.*model.export\('model.onnx', format='onnx'\)"),
        (function, r"(uses 'swishy', whose code|swishy).*"),
        (with_bytes("m.pt"), r"PyTorch. Save it as ONNX there: torch.onnx.export"),
        (with_bytes("m.pb"), r"TensorFlow. Save it as ONNX there"),
    ],
)
def test_what_cannot_be_read_says_the_next_step(write, words, tmp_path):
    path = write(tmp_path)
    with pytest.raises(FerkitError, match=words) as caught:
        EmotionClassifier.load(path, classes=THREE)
    assert "\n" not in str(caught.value)


def test_the_commands_take_the_options(bar_file, table, tmp_path, run_ferkit):
    told = ["--classes", ",".join(ALPHABETICAL), "--pixel-scale", "-1..1"]
    code, out, err = run_ferkit("evaluate", bar_file, table, "--split", "PublicTest", "--json", *told)
    assert (code, json.loads(out)["accuracy"]) == (0, 1)
    assert "carries no" not in err
    code, out, err = run_ferkit("compare", bar_file, "default", table, "--split", "PublicTest", "--json", *told)
    assert (code, json.loads(out)["a"]["accuracy"]) == (0, 1)
    code, _, err = run_ferkit("export", bar_file, tmp_path / "made", "--format", "folder", *told)
    assert (code, "Wrote" in err) == (0, True)
    code, _, err = run_ferkit("evaluate", tmp_path / "made", table, "--pixel-scale", "-1..1")
    assert code == 2
    assert err.count("\n") == 1
    assert "Leave --pixel-scale out" in err
