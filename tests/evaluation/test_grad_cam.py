"""Grad-CAM: the formula, the place where networks are cut, and the sanity check of Adebayo et al. 2018."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from test_explain import EyeClassifier, rank_correlation

from ferkit.errors import ModelError
from ferkit.evaluation import explain, open_method
from ferkit.evaluation.explanation_methods import GradCam, split
from ferkit.models import sample_picture
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.export_formats import real_looking_faces
from ferkit.models.foreign import PixelScale
from ferkit.models.keras_files import KerasNetwork
from ferkit.models.layers import recalibrate_normalization
from ferkit.sources.images import FaceInput

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras

SHAPE = (24, 24, 1)


def convolutions(pool=True, shape=SHAPE):
    """A base as transfer learning has them: 24x24 pixels to maps of 6x6, or to their mean."""
    layers = keras.layers
    pixels = keras.Input(shape)
    x = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")(pixels)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="last")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(x) if pool else x, name="base")


def plain():
    base = convolutions()
    return keras.Model(base.inputs[0], keras.layers.Dense(3, activation="softmax")(base.outputs[0]))


def with_activation_layer():
    base = convolutions()
    x = keras.layers.Dense(3)(base.outputs[0])
    return keras.Model(base.inputs[0], keras.layers.Activation("softmax")(x))


def in_sequence():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(6, activation="relu"),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )


def base_inside(pool):
    def build():
        layers = keras.layers
        pixels = keras.Input((24, 24, 1))
        x = layers.Rescaling(1 / 255)(pixels)
        x = convolutions(pool)(x)
        x = x if pool else layers.GlobalMaxPooling2D()(x)
        return keras.Model(pixels, layers.Dense(3, activation="softmax")(x))

    return build


def everything_inside():
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
    return keras.Sequential([keras.Input(SHAPE), keras.Sequential([keras.Input(SHAPE), convolutions()]), head])


def two_means():
    """A head that looks at one map in two ways."""
    base = convolutions(pool=False)
    x = base.outputs[0]
    both = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    answer = keras.layers.Dense(3, activation="softmax")(keras.layers.Concatenate()(both))
    return keras.Model(base.inputs[0], answer)


def no_softmax():
    base = convolutions()
    return keras.Model(base.inputs[0], keras.layers.Dense(3, activation="sigmoid")(base.outputs[0]))


@pytest.mark.parametrize(
    ("build", "side", "logarithm"),
    [
        pytest.param(plain, 6, False, id="plain"),
        pytest.param(with_activation_layer, 6, False, id="softmax-as-activation"),
        pytest.param(in_sequence, 12, False, id="sequence-before-pooling"),
        pytest.param(base_inside(pool=False), 6, False, id="base-with-maps"),
        pytest.param(base_inside(pool=True), 6, False, id="base-with-vector"),
        pytest.param(everything_inside, 6, False, id="models-in-models"),
        pytest.param(two_means, 6, False, id="two-means"),
        pytest.param(no_softmax, 6, True, id="other-answer"),
    ],
)
def test_networks_are_cut_at_their_last_map(build, side, logarithm, rng):
    keras.utils.set_random_seed(3)
    model = build()
    faces = rng.integers(0, 256, (4, *SHAPE)).astype(np.float32)
    parts = split(model)
    assert parts.logarithm == logarithm
    maps = faces
    for one in parts.before:
        maps = one(maps, training=False)
    assert maps.shape[1:3] == (side, side)
    scores = maps
    for one in parts.after:
        scores = one(scores, training=False)
    answers = scores if logarithm else keras.ops.softmax(scores)
    np.testing.assert_allclose(np.asarray(answers), np.asarray(model(faces, training=False)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        pytest.param("compact", 6, id="compact"),
        pytest.param("tutorial", 12, id="tutorial"),
        pytest.param("vgg", 6, id="vgg"),
        pytest.param("mobilenetv3", 3, id="mobilenetv3"),
        pytest.param("resnet", 12, id="resnet", marks=pytest.mark.slow),
        pytest.param("convnexttiny", 3, id="convnexttiny", marks=pytest.mark.slow),
        pytest.param("efficientnetv2", 3, id="efficientnetv2", marks=pytest.mark.slow),
        pytest.param("resnet50", 3, id="resnet50", marks=pytest.mark.slow),
        pytest.param("vgg16", 6, id="vgg16", marks=pytest.mark.slow),
    ],
)
def test_our_own_networks_have_a_last_map(name, side):
    parts = split(ARCHITECTURES[name]())
    assert tuple(parts.before[-1].outputs[0].shape[1:3]) == (side, side)
    assert (parts.after[-1].outputs[0].shape[-1], parts.logarithm) == (7, False)


def flat():
    layers = keras.layers
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3, activation="softmax")])


def way_round():
    """A second path leads past the last map."""
    layers = keras.layers
    pixels = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3)(pixels)
    deep = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
    both = layers.Concatenate()([deep, layers.GlobalAveragePooling2D()(x)])
    return keras.Model(pixels, layers.Dense(3, activation="softmax")(both))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        pytest.param(flat, "has no convolutional feature map", id="no-convolution"),
        pytest.param(way_round, "cannot be cut in two", id="way-round"),
    ],
)
def test_networks_without_a_last_map_are_one_clear_line(build, said):
    with pytest.raises(ModelError, match=f"{said}.* Use --method occlusion"):
        split(build())


def test_it_is_the_class_activation_map_of_a_network_with_a_mean(rng):
    """Selvaraju et al. 2017, section 3: with a mean over the picture Grad-CAM is CAM, whose formula needs no gradient."""
    keras.utils.set_random_seed(4)
    model = plain()
    face_input = FaceInput(24, 24)
    classifier = EmotionClassifier(KerasNetwork(model), name="plain", classes=("a", "b", "c"), face_input=face_input)
    faces = rng.integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    found = GradCam(classifier)(faces, np.array([0, 1, 2]))
    maps = np.asarray(keras.Model(model.inputs[0], model.get_layer("last").output)(faces.astype(np.float32)))
    weights = np.asarray(model.layers[-1].kernel)
    for place, one in enumerate(found):
        cam = np.maximum(maps[place] @ weights[:, place], 0) / 36
        np.testing.assert_allclose(one, cv2.resize(cam, (24, 24)), rtol=1e-4, atol=1e-5)


def test_channels_are_weighed_by_their_mean_gradient(rng):
    """Equation 1 of the paper, on a network whose gradient differs from place to place."""
    keras.utils.set_random_seed(6)
    network = KerasNetwork(in_sequence())
    classifier = EmotionClassifier(network, name="x", classes=("a", "b", "c"), face_input=FaceInput(24, 24))
    faces = rng.integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    maps, gradients = split(network.model).gradients(faces.astype(np.float32), np.array([2, 0]))
    assert gradients.std(axis=(1, 2)).max() > 0.01
    found = GradCam(classifier)(faces, np.array([2, 0]))
    for one, features, slopes in zip(found, maps, gradients, strict=True):
        weighed = sum(slopes[..., k].mean() * features[..., k] for k in range(features.shape[2]))
        np.testing.assert_allclose(one, cv2.resize(np.maximum(weighed, 0), (24, 24)), rtol=1e-3, atol=1e-3)


def test_a_scale_of_a_bare_file_is_applied(rng):
    keras.utils.set_random_seed(7)
    model = plain()
    faces = rng.integers(0, 128, (4, *SHAPE), dtype=np.uint8)

    def maps(scale, pixels):
        network = KerasNetwork(model, PixelScale.parse(scale))
        classifier = EmotionClassifier(network, name="x", classes=("a", "b", "c"), face_input=FaceInput(24, 24))
        return GradCam(classifier)(pixels, np.array([0, 1, 2, 0]))

    half = maps(0.5, 2 * faces)
    assert half.any()
    np.testing.assert_allclose(half, maps(1.0, faces), rtol=1e-5)
    assert not np.allclose(half, maps(1.0, 2 * faces))


@pytest.fixture(scope="module")
def packaged():
    return EmotionClassifier.load("default")


def test_the_serving_copy_is_explained_by_the_network_beside_it(packaged):
    (one,) = explain(packaged, sample_picture(), method="grad-cam", detector="haar")
    assert (one.label, one.method, one.peak, one.heatmap.shape) == ("happy", "grad-cam", None, (48, 48))
    assert one.heatmap.max() == 1


def test_maps_change_with_the_weights(packaged):
    """Adebayo et al. 2018: a map that stays when the weights are random has not looked at them."""
    faces = real_looking_faces(FaceInput(), 12)
    classes = packaged.predict_proba(faces).argmax(axis=1)
    trained = open_method(packaged, "grad-cam")(faces, classes)
    rng = np.random.default_rng(0)
    other = EmotionClassifier.load("default", engine="keras")
    for variable in other.network.model.trainable_weights:
        values = np.asarray(variable.numpy())
        variable.assign(rng.permutation(values.ravel()).reshape(values.shape))
    # Or no signal comes through, and there are no maps to compare.
    recalibrate_normalization(other.network.model, real_looking_faces(FaceInput(), 64))
    shuffled = GradCam(other)(faces, classes)
    found = [rank_correlation(*pair) for pair in zip(trained, shuffled, strict=True) if pair[1].any()]
    assert len(found) >= 6
    assert abs(np.mean(found)) < 0.3, found
    again = GradCam(EmotionClassifier.load("default", engine="keras"))(faces, classes)
    np.testing.assert_allclose(again, trained, atol=1e-5)


def test_a_model_without_its_folder_is_explained_by_occlusion(packaged):
    moved = EmotionClassifier(packaged.network, name="gone/away", card=packaged.card)
    assert open_method(moved).name == "occlusion"
    assert open_method(EyeClassifier()).name == "occlusion"


SCRIPT = """
import json, sys, keras, numpy as np
from pathlib import Path
from ferkit.models.keras_files import open_keras
from ferkit.evaluation.explanation_methods import split
faces = np.random.default_rng(0).random((2, 24, 24, 1), np.float32)
maps, gradients = split(open_keras(Path(sys.argv[1]))).gradients(faces, np.array([1, 2]))
print(json.dumps([keras.backend.backend(), maps.tolist(), gradients.tolist()]))
"""


@pytest.mark.slow
def test_backends_agree(tmp_path):
    path = tmp_path / "model.keras"
    keras.utils.set_random_seed(5)
    plain().save(path)
    answers = []
    for backend in ("tensorflow", "jax"):
        pytest.importorskip(backend)
        command = [sys.executable, "-c", SCRIPT, str(path)]
        environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        name, *arrays = json.loads(done.stdout)
        assert name == backend
        answers.append([np.array(one) for one in arrays])
    for first, second in zip(*answers, strict=True):
        assert np.abs(first).max() > 0
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)
