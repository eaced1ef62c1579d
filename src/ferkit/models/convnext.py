"""ConvNeXt-Tiny from layers that every backend and every exported format has."""

from typing import Any

from ferkit.keras_backend import load_keras

# Depth and filters of each stage (Liu et al. 2022).
_STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))


def convnext_tiny(x: Any) -> Any:
    """Preprocessed pixels to features (N, 768), as `keras.applications.ConvNeXtTiny` computes them.

    Its layers with weights come in the same order and hold the same numbers; two kinds hold them in another shape. Its
    convolutions in groups of one channel, which TensorFlow compiles one by one and tf2onnx refuses, are depthwise
    convolutions here, and its own layer that scales channels is one of 1x1.
    """
    layers = load_keras().layers
    for number, (depth, filters) in enumerate(_STAGES):
        if number == 0:
            x = layers.Conv2D(filters, 4, strides=4, name="stem_conv")(x)
            x = _norm(x, "stem_norm")
        else:
            x = _norm(x, f"stage{number}_norm")
            x = layers.Conv2D(filters, 2, strides=2, name=f"stage{number}_conv")(x)
        for block in range(depth):
            x = _block(x, filters, f"stage{number}_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _norm(x, "norm")


def _block(x: Any, filters: int, name: str) -> Any:
    """A wide convolution by channel, two dense layers over channels, added to what came in."""
    layers = load_keras().layers
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = _norm(y, f"{name}_norm")
    y = layers.Dense(4 * filters, name=f"{name}_widen")(y)
    y = _gelu(y)
    y = layers.Dense(filters, name=f"{name}_narrow")(y)
    # Every block starts as nearly nothing (Touvron et al. 2021).
    y = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer=_almost_zero(), name=f"{name}_scale")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _gelu(x: Any) -> Any:
    # TensorFlow writes its own with an operation that tf2onnx does not know.
    erf = load_keras().ops.erf
    return 0.5 * x * (1 + erf(x * 0.5**0.5))


def _norm(x: Any, name: str) -> Any:
    return load_keras().layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _almost_zero() -> Any:
    return load_keras().initializers.Constant(1e-6)
