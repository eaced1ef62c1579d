"""Changes to the layers of a network that is trained: which are trainable, and how batch normalisation computes.

Fine-tuning freezes the base while a new head learns and then unfreezes it, as Keras' guide to transfer learning does
(https://keras.io/guides/transfer_learning/): gradients of a random head would damage pretrained weights. Batch
normalisation of the base stays in inference mode in both phases and keeps the statistics that it was trained with.
Both functions only set `trainable` of layers, so compile the model after them.
"""

from __future__ import annotations

import math
from types import MethodType
from typing import TYPE_CHECKING, Any

from ferkit._support.keras_backend import load_keras
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt


def freeze_base(network: Any) -> int:
    """Make only the head trainable: the last layer with weights before each output.

    Works for every architecture, alone or inside another model. Compile the model afterwards.

    Returns:
        The number of trainable parameters.
    """
    heads = {id(layer) for layer in head_layers(network)}
    for layer in weighted_layers(network):
        layer.trainable = id(layer) in heads
    return trainable_parameters(network)


def unfreeze(network: Any, top: int | None = None) -> int:
    """Make the head and the last layers of the base trainable. Compile the model afterwards.

    Batch normalisation stays in inference mode and does not count as a layer.

    Args:
        network: a `keras.Model`.
        top: number of layers with weights to unfreeze, counted from the head; None for all. More than there are means
            all.

    Returns:
        The number of trainable parameters.

    Raises:
        UsageError: `top` is below 1.
    """
    if top is not None and top < 1:
        raise UsageError(f"Unfreeze at least one layer (leave it out to unfreeze all). Received: {top}.")
    keras = load_keras()
    freeze_base(network)
    frozen = [layer for layer in weighted_layers(network) if not layer.trainable]
    base = [layer for layer in frozen if not isinstance(layer, keras.layers.BatchNormalization)]
    for layer in base if top is None else base[-top:]:
        layer.trainable = True
    return trainable_parameters(network)


def trainable_parameters(network: Any) -> int:
    """The number of trainable parameters of a network."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def head_layers(network: Any) -> list[Any]:
    """The last layer with weights before each output of a network."""
    found: list[Any] = []
    edges = list(network.outputs)
    while edges:
        operation = edges.pop()._keras_history.operation
        if getattr(operation, "weights", None):
            found.append(operation)
        else:
            edges += load_keras().tree.flatten(operation.input)
    return found


def weighted_layers(network: Any) -> Iterator[Any]:
    """All layers with weights of their own, from input to output, those of nested models included."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from weighted_layers(layer)
        elif layer.weights:
            yield layer


def multiply_adds(network: Any) -> int:
    """Multiply-adds of one forward pass over one face: convolutions and dense layers, as papers count them.

    Normalisation, activations and pooling are left out; each weight of a kernel counts once per output position.
    """
    total = 0
    for layer in network._flatten_layers():
        kernel = getattr(layer, "kernel", None)
        if kernel is None or not hasattr(layer, "output"):
            continue
        # All axes between batch and channels are positions; a dense layer on a vector has none.
        total += math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])
    return total


def use_fused_normalization(network: Any) -> int:
    """Train batch normalisation through TensorFlow's fused kernel.

    Keras composes it of elementary operations, each of which passes over the whole activation: a third of a training
    step on TensorFlow's CPU build. The result is the same within float32 rounding, running statistics included. Layers
    keep their class, weights and configuration, so a saved model is plain Keras. Other backends (XLA fuses
    automatically), layers that do not take (N, height, width, channels), and inference are left as they are.

    Returns:
        The number of layers changed.
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


def use_fast_depthwise(network: Any) -> int:
    """Let depthwise 3x3 convolutions of a network learn through TensorFlow's fast kernel; returns how many do.

    TensorFlow's gradient by the input has a slow kernel, most of all in 16 bits. It is a depthwise convolution itself,
    by the kernel turned by 180 degrees, over what came back (with zeros between it where the convolution strides). Same
    result within rounding. Does nothing on other backends, and for other shapes than 3x3 over sides that the stride
    divides.
    """
    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        return 0
    fitting = [
        layer
        for layer in network._flatten_layers()
        if type(layer) is keras.layers.DepthwiseConv2D
        and layer.kernel_size == (3, 3)
        and layer.strides in ((1, 1), (2, 2))
        and layer.padding == "same"
        and layer.depth_multiplier == 1
        and not layer.use_bias
        and all(side and side % layer.strides[0] == 0 for side in layer.input.shape[1:3])
    ]
    for layer in fitting:
        layer.call = MethodType(_fast_depthwise_call, layer)
    return len(fitting)


def _fast_depthwise_call(self: Any, inputs: Any, training: bool | None = None) -> Any:
    import tensorflow as tf

    strides = [1, *self.strides, 1]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolved(x: Any, kernel: Any) -> Any:
        def gradient(back: Any) -> tuple[Any, Any]:
            height, width, channels = back.shape[1:]
            turned, spread = kernel[::-1, ::-1], back
            if self.strides == (2, 2):
                across = tf.stack([spread, tf.zeros_like(spread)], axis=3)
                spread = tf.reshape(across, [-1, height, 2 * width, channels])
                down = tf.stack([spread, tf.zeros_like(spread)], axis=2)
                spread = tf.reshape(down, [-1, 2 * height, 2 * width, channels])
                spread = tf.pad(spread, [[0, 0], [2, 0], [2, 0], [0, 0]])
                by_input = tf.nn.depthwise_conv2d(spread, turned, [1, 1, 1, 1], "VALID")
            else:
                by_input = tf.nn.depthwise_conv2d(spread, turned, [1, 1, 1, 1], "SAME")
            by_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=back, strides=strides, padding="SAME"
            )
            return by_input, by_kernel

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return convolved(inputs, tf.cast(self.kernel, inputs.dtype))


_FACES = 2048
_BATCH = 512
# Keras keeps the activations of all layers until the forward pass ends: 512 faces of 96x96 through a ResNet-50 are 20
# GB.
_NUMBERS = 2**29


def recalibrate_normalization(network: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Recompute the running statistics of batch normalisation on clean faces, without dropout.

    "Precise batch normalisation" (Wu & Johnson 2021). In training the statistics are averaged over augmented faces, and
    behind a dropout over activations whose variance it has raised ("variance shift", Li et al. 2019). Inference meets
    neither, and accuracy varies by percentage points from epoch to epoch with the misfit (docs/LOG.md has results).
    Weights stay as they are.

    Args:
        network: a `keras.Model`.
        faces: uint8 (N, height, width, channels); up to 2,048 of them, spread evenly, are passed once through it.
    """
    import numpy as np  # not at the top: the command line lists architectures without it

    keras = load_keras()
    layers = list(network._flatten_layers())
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [layer.momentum for layer in norms], [layer.rate for layer in dropouts]
    chosen = _spread(faces, _FACES)
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


def restore_normalization(network: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Give batch normalisation the statistics of faces and change its factors and offsets so that the network answers as before.

    Published networks have theirs folded into factors and offsets. Training would divide by the statistics of a batch,
    and the function would be another after the first step.

    Args:
        network: a `keras.Model` whose normalisations stand in itself, not in models inside.
        faces: uint8 (N, height, width, channels); up to 1,024 of them, spread evenly, are passed once through it.
    """
    import numpy as np

    keras = load_keras()
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    inputs = [keras.ops.cast(norm.input, "float32") for norm in norms]
    means = [keras.ops.mean(one, axis=(1, 2)) for one in inputs]
    squares = [keras.ops.mean(keras.ops.square(one), axis=(1, 2)) for one in inputs]
    chosen = _spread(faces, 1024).astype(np.float32)
    seen = keras.Model(network.input, means + squares).predict(chosen, batch_size=64, verbose=0)
    seen = [one.mean(axis=0, dtype=np.float64) for one in seen]
    for norm, mean, square in zip(norms, seen[: len(norms)], seen[len(norms) :], strict=True):
        gamma, beta, mean_before, variance_before = norm.get_weights()
        factor = gamma / np.sqrt(variance_before + norm.epsilon)
        variance = np.maximum(square - mean**2, 0)
        norm.set_weights(
            [factor * np.sqrt(variance + norm.epsilon), beta + factor * (mean - mean_before), mean, variance]
        )


def _spread(faces: npt.NDArray[np.uint8], most: int) -> npt.NDArray[np.uint8]:
    """At most that many of the faces, spread evenly."""
    import numpy as np

    places = np.unique(np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int))
    return np.take(faces, places, axis=0)


def _batch_of(layers: list[Any]) -> int:
    """The number of faces whose activations are at most `_NUMBERS` values, at most `_BATCH`."""
    numbers: int = sum(math.prod(layer.output.shape[1:]) for layer in layers if hasattr(layer, "output"))
    return max(min(_BATCH, _NUMBERS // numbers), 16)
