"""Fine-tuning: what learns in which phase, and where weights come from."""

import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.models import pretrained, weights
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.layers import (
    freeze_base,
    head_layers,
    recalibrate_normalization,
    trainable_parameters,
    unfreeze,
    weighted_layers,
)
from ferkit.models.weights import APPLICATIONS, take_weights

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras

# Keras can still write the files of `keras.applications`, and says each time that they are old.
OLD_FORMAT = pytest.mark.filterwarnings("ignore::UserWarning")


def layered_network(classes=3):
    """A base with batch normalisation and a layer of layers, and a head behind a dropout."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    pixels = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, name="conv1")(pixels)
    x = layers.BatchNormalization(name="norm1")(x)
    x = keras.Sequential([layers.Conv2D(2, 3, name="conv2"), layers.BatchNormalization(name="norm2")], name="inner")(x)
    x = layers.Dense(4, activation="relu", name="dense")(layers.Flatten()(x))
    x = layers.Dropout(0.1)(x)
    return keras.Model(pixels, layers.Dense(classes, activation="softmax", name="probabilities")(x), name="layered")


def learning(network):
    return [layer.name for layer in weighted_layers(network) if layer.trainable_variables]


@pytest.mark.parametrize(
    ("change", "names", "count"),
    [
        pytest.param(freeze_base, ["probabilities"], 15, id="frozen"),
        pytest.param(lambda n: unfreeze(n, 1), ["dense", "probabilities"], 147, id="top-1"),
        pytest.param(lambda n: unfreeze(n, 2), ["conv2", "dense", "probabilities"], 185, id="top-2"),
        pytest.param(unfreeze, ["conv1", "conv2", "dense", "probabilities"], 205, id="all"),
        pytest.param(lambda n: unfreeze(n, 99), ["conv1", "conv2", "dense", "probabilities"], 205, id="more-than-all"),
        pytest.param(lambda n: (unfreeze(n), freeze_base(n))[1], ["probabilities"], 15, id="frozen-again"),
    ],
)
def test_what_learns(change, names, count):
    network = layered_network()
    assert change(network) == count
    assert learning(network) == names
    assert trainable_parameters(network) == count


@pytest.mark.parametrize("change", [freeze_base, unfreeze])
def test_a_step_of_training_changes_only_that(change, rng):
    network = layered_network()
    change(network)
    # Put into another model, as training does.
    pixels = keras.Input((8, 8, 1))
    model = keras.Model(pixels, network(pixels))
    model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy")
    weights = {layer.name: layer.get_weights() for layer in weighted_layers(network)}
    model.fit(rng.normal(size=(16, 8, 8, 1)), np.eye(3)[np.arange(16) % 3], verbose=0)
    changed = [
        layer.name
        for layer in weighted_layers(network)
        if any(not np.array_equal(a, b) for a, b in zip(weights[layer.name], layer.get_weights(), strict=True))
    ]
    assert changed == learning(network)


def test_every_answer_has_a_head():
    network = layered_network()
    votes = keras.layers.Dense(3, activation="softmax", name="votes")(network.get_layer("probabilities").input)
    both = keras.Model(network.input, keras.layers.Concatenate()([network.output, votes]))
    assert {layer.name for layer in head_layers(both)} == {"probabilities", "votes"}
    assert freeze_base(both) == 30


def test_unfreezing_nothing_is_refused():
    with pytest.raises(UsageError, match="Unfreeze at least one layer"):
        unfreeze(layered_network(), 0)


def test_ferkits_own_networks_have_a_base_too():
    network = ARCHITECTURES["compact"]()
    assert freeze_base(network) == 160 * 7 + 7
    assert unfreeze(network, 1) > 1127
    assert learning(network) == ["block5_excite", "probabilities"]


@pytest.fixture(scope="module")
def application():
    """MobileNetV3 as Keras has it, with numbers in it that tell its layers apart."""
    base = keras.applications.MobileNetV3Small(
        input_shape=(96, 96, 3), include_top=False, weights=None, pooling="avg", include_preprocessing=True
    )
    rng = np.random.default_rng(0)
    base.set_weights([value + rng.uniform(0, 0.05, value.shape) for value in base.get_weights()])
    return base


@pytest.fixture(scope="module")
def network():
    return ARCHITECTURES["mobilenetv3"](3)


@pytest.fixture(scope="module")
def notop(application, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet_notop.h5"
    application.save(path)
    return path


@OLD_FORMAT
@pytest.mark.parametrize("form", ["notop", "weights"])
def test_weights_of_a_file_give_the_features_of_keras(form, application, network, notop, tmp_path, rng):
    """Enlarged, made RGB and scaled as the original wants it, and every weight in its place."""
    path = notop
    if form == "weights":
        path = tmp_path / "base.weights.h5"
        application.save_weights(path)
    network.set_weights([np.zeros_like(value) for value in network.get_weights()])
    take_weights(network, path)
    faces = rng.integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)
    enlarged = keras.ops.image.resize(faces.astype(np.float32), (96, 96))
    features = keras.Model(network.input, network.get_layer("probabilities").input)
    expected = np.asarray(application(np.repeat(enlarged, 3, axis=-1)))
    np.testing.assert_allclose(features(faces), expected, rtol=1e-4, atol=1e-6)
    assert not network.get_layer("probabilities").get_weights()[0].any(), "the head is its own"


@pytest.mark.parametrize(
    ("name", "keras_module"), [("vgg16", "vgg16"), ("mobilenetv3", "mobilenet_v3"), ("convnexttiny", "convnext")]
)
def test_colours_are_scaled_as_keras_does(name, keras_module, monkeypatch, rng):
    """Only what stands in front of the base is built: colours of RGB faces, and the mean of ImageNet."""
    preprocessing = {"vgg16": pretrained._CAFFE, "mobilenetv3": pretrained._PLUS_MINUS_ONE}
    front = pretrained._network(
        name,
        keras.layers.Flatten(name="flat"),
        preprocessing.get(name, pretrained._IMAGENET),
        2,
        (96, 96, 3),
        "relu",
    )
    faces = rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    # Those of MobileNetV3 and ConvNeXt do nothing: there it is a layer of the network.
    expected = getattr(keras.applications, keras_module).preprocess_input(faces.astype(np.float32))
    if name == "mobilenetv3":
        expected = expected / 127.5 - 1
    if name == "convnexttiny":
        expected = (expected / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = keras.Model(front.input, front.get_layer("flat").output)(faces)
    np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-4, atol=1e-4)


def test_convnext_computes_what_keras_does(monkeypatch, rng):
    """A small one of the same make: its two kinds of layers hold the same numbers in another shape."""
    from keras.src.applications.convnext import ConvNeXt

    stages = ((1, 8), (2, 16), (1, 24), (1, 32))
    monkeypatch.setattr(pretrained, "_STAGES", stages)
    depths, filters = (list(values) for values in zip(*stages, strict=True))
    theirs = ConvNeXt(
        *(depths, filters), input_shape=(32, 32, 3), include_preprocessing=False, include_top=False, weights=None,
        pooling="avg", name="small",
    )  # fmt: skip
    theirs.set_weights([value + rng.uniform(-0.1, 0.1, value.shape) for value in theirs.get_weights()])
    pixels = keras.Input((32, 32, 3))
    features = pretrained.convnext_tiny(pixels)
    ours = keras.Model(pixels, keras.layers.Dense(2)(features))
    weights._copy(theirs, ours)
    pictures = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(keras.Model(pixels, features)(pictures), theirs(pictures), rtol=1e-3, atol=1e-4)


def no_file(folder, notop):
    return folder / "missing.h5"


def pickled(folder, notop):
    path = folder / "weights.h5"
    path.write_bytes(b"\x80\x04cposix\nsystem\n")
    return path


def checkpoint(folder, notop):
    path = folder / "weights.pth"
    path.write_bytes(notop.read_bytes())
    return path


def cut_off(folder, notop):
    path = folder / "cut.h5"
    path.write_bytes(notop.read_bytes()[: notop.stat().st_size // 2])
    return path


def of_another_network(folder, notop):
    path = folder / "layered.weights.h5"
    layered_network().save_weights(path)
    return path


def of_another_network_old(folder, notop):
    path = folder / "layered.h5"
    layered_network().save(path)
    return path


@OLD_FORMAT
@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(no_file, "File of weights not found: .*missing.h5", id="missing"),
        pytest.param(pickled, "is not a file of weights. Expected HDF5", id="pickle"),
        pytest.param(checkpoint, "is not a file of weights. Expected HDF5", id="suffix"),
        pytest.param(cut_off, "does not fit mobilenetv3", id="cut-off"),
        pytest.param(of_another_network, "does not fit mobilenetv3", id="another"),
        pytest.param(of_another_network_old, "does not fit mobilenetv3 .*Layer count mismatch", id="another-old"),
    ],
)
def test_a_file_that_does_not_fit(make, message, network, notop, tmp_path):
    before = [value.copy() for value in network.get_weights()]
    with pytest.raises(ModelError, match=message) as caught:
        take_weights(network, make(tmp_path, notop))
    assert "\n" not in str(caught.value)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_of_ferkits_own_networks_fit_other_classes(tmp_path):
    source, target = ARCHITECTURES["tutorial"](7), ARCHITECTURES["tutorial"](3)
    source.save_weights(tmp_path / "tutorial.weights.h5")
    take_weights(target, tmp_path / "tutorial.weights.h5")
    for one, other in list(zip(weighted_layers(source), weighted_layers(target), strict=True))[:-1]:
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """An empty cache of Keras, which reads its place only once."""
    folder = tmp_path / "keras"
    folder.mkdir()  # Keras takes /tmp/.keras where there is none
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(folder))
    monkeypatch.setenv("FERKIT_OFFLINE", "0")
    return folder


@OLD_FORMAT
def test_imagenet_weights_come_through_keras(application, network, notop, keras_home, monkeypatch, capfd):
    """Keras says where they are and whether they are whole; here only the bytes come from elsewhere."""
    asked = []

    def urlretrieve(url, path, progress):
        asked.append(url)
        shutil.copyfile(notop, path)
        progress(1, 100, 100)

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", urlretrieve)
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *words, **options: True)
    network.set_weights([np.zeros_like(value) for value in network.get_weights()])
    for _ in range(2):
        take_weights(network, "imagenet")
    (url,) = asked
    assert [path.name for path in keras_home.rglob("*.h5")] == [url.rpartition("/")[2]]
    assert url.startswith("https://")
    assert url.endswith("no_top_v2.h5")
    assert capfd.readouterr().out == ""
    for theirs, ours in zip(weighted_layers(application), weighted_layers(network), strict=False):
        for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("offline", "message"),
    [
        pytest.param("1", "FERKIT_OFFLINE is set", id="offline"),
        pytest.param("0", r"URL fetch failure on https://\S+no_top_v2.h5: .*no route", id="no-network"),
    ],
)
def test_imagenet_weights_that_cannot_be_had(offline, message, network, keras_home, monkeypatch, caplog):
    caplog.set_level("INFO", "ferkit")

    def urlretrieve(*words):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", urlretrieve)
    monkeypatch.setenv("FERKIT_OFFLINE", offline)
    with pytest.raises(
        DownloadError, match=f"No ImageNet weights for mobilenetv3: {message}.* --weights FILE"
    ) as caught:
        take_weights(network, "imagenet")
    # Keras tries for half a minute before it gives up.
    assert ("Loading the ImageNet weights of mobilenetv3" in caplog.text) == (offline == "0")
    assert "\n" not in str(caught.value)
    assert not [path for path in keras_home.rglob("*") if path.is_file()]


@OLD_FORMAT
def test_a_damaged_download_is_refused(network, keras_home, monkeypatch):
    def urlretrieve(url, path, progress):
        Path(path).write_bytes(b"<html>")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", urlretrieve)
    with pytest.raises(DownloadError, match=r"mobilenetv3: Incomplete or corrupted file detected.* --weights FILE"):
        take_weights(network, "imagenet")


def test_imagenet_is_refused_where_there_is_none():
    with pytest.raises(UsageError, match="No ImageNet weights exist for layered, only for vgg16"):
        take_weights(layered_network(), "imagenet")


@pytest.mark.slow
def test_a_fine_tuned_network_becomes_onnx(network, rng, tmp_path, caplog):
    import onnxruntime

    from ferkit.models.export_formats import serving_graph

    faces = rng.integers(0, 256, (8, 48, 48, 1), dtype=np.uint8)
    recalibrate_normalization(network, faces)
    serving_graph(network, tmp_path / "model.onnx")
    assert "Traceback" not in caplog.text
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"faces": faces})[0], network(faces), atol=1e-4)


def test_sixteen_bits(rng):
    """Pixels stay exact up to the base, probabilities are float32, and the answers are near enough."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = ARCHITECTURES["mobilenetv3"](3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.get_layer("conv").compute_dtype == "bfloat16"
    assert network.get_layer("scale").compute_dtype == "float32"
    same = ARCHITECTURES["mobilenetv3"](3)
    faces = rng.integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    recalibrate_normalization(same, faces)
    network.set_weights(same.get_weights())
    answers = np.asarray(network(faces))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, same(faces), atol=0.05)


def test_the_docs_name_the_networks_of_keras():
    text = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text or f"applications.{name}(" in text for name in APPLICATIONS.values())
