"""One contract for every registered architecture."""

import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.models import tutorial
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.keras_files import open_keras
from ferkit.models.layers import multiply_adds, recalibrate_normalization
from ferkit.models.weights import APPLICATIONS, STARTS

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


# Building and saving these takes seconds, and channels are handled alike in all of them.
LARGE = {"teacher", "vgg16", "resnet50", "efficientnetv2", "convnexttiny", "efficientnetlite1", "efficientnetlite2"}
SHAPES = {"fer2013": (7, (48, 48, 1)), "own-classes-rgb": (3, (56, 48, 3))}


@pytest.mark.parametrize(
    ("name", "classes", "shape"),
    [
        pytest.param(name, *case, id=f"{name}-{kind}")
        for name in ARCHITECTURES
        for kind, case in SHAPES.items()
        if kind == "fer2013" or name not in LARGE
    ],
)
def test_architecture_contract(name, classes, shape, rng, tmp_path):
    keras.utils.set_random_seed(1)
    network = ARCHITECTURES[name](classes, input_shape=shape)
    faces = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
    # As training leaves it: with untrained statistics the signal of a deep network dies away.
    recalibrate_normalization(network, faces)
    probabilities = np.asarray(network(faces))
    assert probabilities.shape == (4, classes)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(probabilities[:, 0])) == 4, "different faces must give different answers"
    # The scale is the network's own business: bytes and the same numbers as float mean the same face.
    np.testing.assert_allclose(network(faces.astype(np.float32)), probabilities, atol=1e-6)
    network.save(tmp_path / "model.keras")
    copy = open_keras(tmp_path / "model.keras")
    np.testing.assert_allclose(copy(faces), probabilities, atol=1e-6)
    if shape == (48, 48, 1):
        sizes = (f"{network.count_params():,} parameters", _millions(multiply_adds(network)))
        assert all(size in ARCHITECTURES[name].__doc__ for size in sizes), sizes


def _millions(count: int) -> str:
    return f" {count / 1e6:,.{0 if count > 200e6 else 1}f} M multiply-adds"


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_activation_reaches_the_network_or_is_refused(name, rng):
    if name in {*APPLICATIONS, *(start.network for start in STARTS.values())}:
        with pytest.raises(UsageError, match="keeps the activations"):
            ARCHITECTURES[name](activation="leaky_relu")
        return
    faces = rng.integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)
    answers = []
    for activation in ("relu", "leaky_relu"):
        keras.utils.set_random_seed(1)
        answers.append(np.asarray(ARCHITECTURES[name](activation=activation)(faces)))
    assert np.abs(answers[0] - answers[1]).max() > 1e-6


def test_tutorial_is_the_tutorials_network():
    network = tutorial()
    assert network.count_params() == 684_935
    # 48*48*9*32 + 24*24*9*32*64 + 12*12*9*64*128 + 4608*128 + 128*7
    assert multiply_adds(network) == 22_487_936
    kinds = [type(layer).__name__ for layer in network.layers]
    block = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D", "Dropout"]
    dense = ["Flatten", "Dense", "BatchNormalization", "Activation", "Dropout", "Dense"]
    assert kinds == ["InputLayer", "Rescaling", *block * 3, *dense]
    assert [layer.filters for layer in network.layers if isinstance(layer, keras.layers.Conv2D)] == [32, 64, 128]
    rates = [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.25, 0.25, 0.25, 0.5]


def test_compact_stays_small():
    network = ARCHITECTURES["compact"]()
    assert network.count_params() <= 3e6
    assert multiply_adds(network) <= 100e6


def test_stochastic_depth_leaves_out_whole_blocks(rng):
    """Raised to 1 for every block, what remains is the shortcuts: nothing behind a gate can change the answer."""
    network = ARCHITECTURES["compact"]()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.999999 if layer.name.endswith("_depth") else 0.0
    faces = rng.integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    before = np.asarray(network(faces, training=True))
    assert np.isfinite(before).all()
    for block in range(1, 6):
        layer = network.get_layer(f"block{block}_conv2")
        layer.set_weights([rng.normal(size=weights.shape) for weights in layer.get_weights()])
    np.testing.assert_allclose(np.asarray(network(faces, training=True)), before, atol=1e-6)


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'tutorial'"):
        ARCHITECTURES["tutoral"]
