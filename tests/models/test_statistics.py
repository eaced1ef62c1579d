"""Running statistics taken anew: those of clean faces, without dropout, and nothing else changes."""

import numpy as np
import pytest

from ferkit.models import layers as statistics
from ferkit.models.layers import recalibrate_normalization

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


@pytest.mark.parametrize("n", [pytest.param(300, id="one-batch"), pytest.param(2000, id="several-batches")])
def test_statistics_are_those_of_clean_faces(n, rng):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Dropout(0.5)(pixels)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(x))
    network = keras.Model(pixels, x)
    faces = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    weights = [np.array(v) for v in network.trainable_variables]

    recalibrate_normalization(network, faces)

    activations = keras.Model(pixels, network.get_layer("conv").output).predict(faces, verbose=0)
    norm = network.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, activations.mean(axis=(0, 1, 2)), rtol=1e-2)
    # The mean of the batches' variances; the batches' means hardly differ.
    np.testing.assert_allclose(norm.moving_variance, activations.var(axis=(0, 1, 2)), rtol=1e-2)
    assert (norm.momentum, network.layers[1].rate) == (0.99, 0.5)
    for before, after in zip(weights, network.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)


def test_large_networks_get_small_batches(monkeypatch, rng):
    """What all layers answer to a batch must fit into memory."""
    network = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.BatchNormalization()])
    sizes = []
    monkeypatch.setattr(keras.Sequential, "__call__", lambda self, batch, training: sizes.append(len(batch)))
    faces = rng.integers(0, 256, (400, 8, 8, 1), dtype=np.uint8)
    recalibrate_normalization(network, faces)
    monkeypatch.setattr(statistics, "_NUMBERS", 100 * 2 * 8 * 8)  # of the input and of the layer
    recalibrate_normalization(network, faces)
    assert sizes == [400, 100, 100, 100, 100]
