"""The fast kernels, for batch normalisation and depthwise convolutions, do what Keras' own do."""

import numpy as np
import pytest

from ferkit.models.layers import use_fast_depthwise, use_fused_normalization

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


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_learn_the_same(stride, rng):
    faces = rng.normal(size=(8, 12, 8, 3)).astype(np.float32)
    targets = rng.normal(size=(8, 12 // stride, 8 // stride, 3)).astype(np.float32)

    def network():
        keras.utils.set_random_seed(3)
        inputs = keras.Input((12, 8, 3))
        # The first one, so that the second needs the gradient by its input.
        x = keras.layers.Conv2D(3, 1)(inputs)
        return keras.Model(inputs, keras.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x))

    plain, fast = network(), network()
    assert use_fast_depthwise(fast) == 1
    for model in (plain, fast):
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.fit(faces, targets, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for variable, other, before in zip(plain.weights, fast.weights, network().weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-5, err_msg=variable.path)
        assert np.abs(variable.numpy() - before.numpy()).max() > 1e-3, "it has learnt"


def test_other_depthwise_convolutions_are_left_alone():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False)(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    assert use_fast_depthwise(keras.Model(inputs, x)) == 0, (
        "another size, a bias, sides that the stride does not divide"
    )
