"""The average of the weights: right numbers, and training that does not notice it."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


def model(decay: float):
    from ferkit.training.step import keep_weights

    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    options = {"use_ema": True, "ema_momentum": decay} if decay else {}
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    keep_weights(optimizer)
    network.compile(optimizer, "mse")
    return network


def fit(network, rng, epochs=1):
    x = rng.normal(size=(8, 3)).astype(np.float32)
    network.fit(x, x[:, :2] * 2, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def test_average_is_the_recurrence_over_steps(rng):
    from ferkit.training.step import averaged

    network, expected = model(0.8), None
    for _ in range(5):
        fit(network, rng)
        kernel = network.get_layer("dense").kernel.numpy()
        expected = kernel if expected is None else 0.8 * expected + 0.2 * kernel
    with averaged(network):
        np.testing.assert_allclose(network.get_layer("dense").kernel.numpy(), expected, atol=1e-6)
    assert np.abs(kernel - expected).max() > 1e-3, "else the test shows nothing"
    np.testing.assert_array_equal(network.get_layer("dense").kernel.numpy(), kernel)


def test_training_goes_on_as_without_an_average():
    from ferkit.training.step import averaged

    kernels = []
    for decay in (0.0, 0.8):
        network, rng = model(decay), np.random.default_rng(7)
        for _ in range(3):
            fit(network, rng)
            with averaged(network):
                pass
        kernels.append(network.get_layer("dense").kernel.numpy())
    np.testing.assert_array_equal(*kernels)


def test_weights_come_back_after_an_error(rng):
    from ferkit.training.step import averaged

    network = model(0.8)
    fit(network, rng, epochs=3)
    before = network.get_weights()
    with pytest.raises(KeyboardInterrupt), averaged(network):
        raise KeyboardInterrupt
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
