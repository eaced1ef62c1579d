"""Faster kernels under unchanged layers, for training.

Keras writes batch normalisation out as elementary operations, each of which passes over the whole activation; on
TensorFlow's CPU build that was a third of a training step. TensorFlow has one fused kernel for it. The layers keep
their class, weights and configuration, so what is saved is plain Keras.

Layers that see the whole batch where TensorFlow has split it over several devices.

Left alone, batch normalisation takes the statistics of each device's own faces, and dropout makes the same choice on
all of them. The layers keep their class and weights, as in `ferkit.models.layers`.

Batch normalisation's running statistics, taken anew from clean faces.

In training the statistics are averaged over augmented faces, and in layers behind a dropout over activations whose
variance dropout has raised ("variance shift", Li et al. 2019). Later the network meets neither, and its accuracy jumps
by points from epoch to epoch with how badly the statistics happen to fit (docs/LOG.md has figures).
"""

import math
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.devices import own_rows
from ferkit._support.keras_backend import load_keras


def use_fused_normalization(network: Any) -> int:
    """Let the batch normalisations of a network train through TensorFlow's fused kernel; returns how many do.

    Same result within float32 rounding, running statistics included. Does nothing on other backends (XLA fuses there
    by itself), for layers that are not over (N, height, width, channels), and outside training.
    """
    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        return 0
    fitting = [
        layer
        for layer in network._flatten_layers()
        if type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 4
        and layer.axis in (-1, 3)
        and layer.center
        and layer.scale
        and not layer.renorm
        and not layer.synchronized
    ]
    for layer in fitting:
        layer.call = MethodType(_fused_call, layer)
    return len(fitting)


def _fused_call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    import tensorflow as tf

    if not (training and self.trainable) or mask is not None:
        return type(self).call(self, inputs, training=training, mask=mask)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.cast(self.gamma, tf.float32),
        offset=tf.cast(self.beta, tf.float32),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=self.epsilon,
        is_training=True,
    )
    # The kernel reports the unbiased variance; Keras averages the biased one.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    variance = variance * (count - 1) / count
    for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
        running.assign(running * self.momentum + now * (1 - self.momentum))
    return outputs


def see_whole_batch(network: Any) -> None:
    """Let the batch normalisations and dropouts of a network do to a split batch what they would do to a whole one."""
    layers = load_keras().layers
    for layer in network._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, layers.Dropout):
            layer.call = MethodType(_dropout_call, layer)


def _dropout_call(self: Any, inputs: Any, training: bool = False) -> Any:
    keras = load_keras()
    if not training or self.rate == 0:
        return inputs
    shape = keras.ops.shape(inputs)

    def factors(rows: Any) -> Any:
        ones = keras.ops.ones((rows, *shape[1:]), dtype=inputs.dtype)
        return keras.random.dropout(ones, self.rate, noise_shape=self.noise_shape, seed=self.seed_generator)

    return inputs * own_rows(factors, shape[0])


_FACES = 2048
_BATCH = 512
# Keras keeps what all layers answer until the last one has: 512 faces of 96x96 through a ResNet-50 are 20 GB.
_NUMBERS = 2**29


def recalibrate_normalization(network: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Set the running mean and variance of every batch normalisation to those of faces as they are, without dropout.

    "Precise batch normalisation" (Wu & Johnson 2021): one pass over up to 2,048 faces spread evenly over the set,
    uint8 (N, height, width, channels); statistics of large batches are averaged. Weights stay as they are.
    """
    keras = load_keras()
    layers = list(network._flatten_layers())
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [layer.momentum for layer in norms], [layer.rate for layer in dropouts]
    chosen = faces[np.unique(np.linspace(0, len(faces) - 1, min(_FACES, len(faces))).astype(int))]
    # A last batch of a few faces would weigh as much as a full one.
    batches = np.array_split(chosen, max(len(chosen) // _batch_of(layers), 1))
    try:
        for dropout in dropouts:
            dropout.rate = 0.0
        for number, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = number / (number + 1)  # makes the running average a plain mean over batches
            network(batch, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.rate = rate


def _batch_of(layers: list[Any]) -> int:
    """How many faces fit into the memory that `_NUMBERS` stands for, at most `_BATCH`."""
    numbers: int = sum(math.prod(layer.output.shape[1:]) for layer in layers if hasattr(layer, "output"))
    return max(min(_BATCH, _NUMBERS // numbers), 16)
