"""The fused batch normalisation does what Keras' own does."""

import numpy as np
import pytest

from ferkit.models.layers import use_fused_normalization

keras = pytest.importorskip("keras")
pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a kernel of TensorFlow"),
]


def small_network():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def test_training_ends_at_the_same_network(rng):
    faces = rng.normal(2, 3, (40, 6, 6, 2)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 40)]
    plain, fused = small_network(), small_network()
    assert use_fused_normalization(fused) == 1, "only the one over pictures has a fused kernel"
    for network in (plain, fused):
        # A plain step: Adam would turn rounding of near-zero gradients into whole steps.
        network.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
        network.fit(faces, targets, batch_size=8, epochs=3, shuffle=False, verbose=0)
    for variable, other in zip(plain.weights, fused.weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=1e-3, atol=2e-5, err_msg=variable.path)
    np.testing.assert_allclose(plain.predict(faces, verbose=0), fused.predict(faces, verbose=0), atol=1e-4)


def test_what_is_saved_is_plain_keras(rng, tmp_path):
    network = small_network()
    use_fused_normalization(network)
    faces = rng.normal(size=(5, 6, 6, 2)).astype(np.float32)
    network.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in copy.layers)
    np.testing.assert_allclose(copy.predict(faces, verbose=0), network.predict(faces, verbose=0), atol=1e-6)
