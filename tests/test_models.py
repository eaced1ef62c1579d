"""One contract for every registered architecture."""

import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.models import ARCHITECTURES, tutorial
from ferkit.models.size import multiply_adds

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize(
    ("classes", "shape"),
    [pytest.param(7, (48, 48, 1), id="fer2013"), pytest.param(3, (48, 48, 3), id="own-classes-rgb")],
)
def test_architecture_contract(name, classes, shape, rng, tmp_path):
    keras.utils.set_random_seed(1)
    network = ARCHITECTURES[name](classes, input_shape=shape)
    faces = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
    probabilities = network.predict(faces, verbose=0)
    assert probabilities.shape == (4, classes)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(probabilities[:, 0])) == 4, "different faces must give different answers"
    # The scale is the network's own business: bytes and the same numbers as float mean the same face.
    np.testing.assert_allclose(network.predict(faces.astype(np.float32), verbose=0), probabilities, atol=1e-6)
    network.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(copy.predict(faces, verbose=0), probabilities, atol=1e-6)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_activation_reaches_the_network(name, rng):
    faces = rng.integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)
    answers = []
    for activation in ("relu", "leaky_relu"):
        keras.utils.set_random_seed(1)
        answers.append(ARCHITECTURES[name](activation=activation).predict(faces, verbose=0))
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


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds_most"),
    [pytest.param("compact", 1_207_821, 100e6, id="compact"), pytest.param("resnet", 2_824_247, 1e9, id="resnet")],
)
def test_residual_networks_have_the_size_they_claim(name, parameters, multiply_adds_most):
    network = ARCHITECTURES[name]()
    assert network.count_params() == parameters
    assert f"{parameters:,} parameters" in ARCHITECTURES[name].__doc__
    assert multiply_adds(network) < multiply_adds_most


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
