"""Networks with published weights, for fine-tuning: of `keras.applications`, and of packages that bring their weights.

Each is one flat graph of standard layers: the face enlarged, gray repeated as RGB, the network's own preprocessing, its
convolutions, global average pooling, dropout and one dense layer. They were designed for 224x224 pixels and halve them
five times: 48x48 would leave one or two positions a side, 96x96 leaves three, at a fifth of the cost of 224.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferkit._support.keras_backend import load_keras
from ferkit.errors import UsageError

if TYPE_CHECKING:
    import keras

# In the order that lists show them in.
NETWORKS: list[Callable[..., "keras.Model"]] = []
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
# The mean of dlib's training faces taken off (face-api.js), and the range of EfficientNet-Lite's builder.
_DLIB = _Preprocessing.standard((122.782, 117.001, 104.298), (255.0,) * 3)
_LITE = _Preprocessing.standard((127.0,) * 3, (128.0,) * 3)


def _architecture(preprocessing: _Preprocessing) -> Callable[[Callable[[Any], Any]], Callable[..., "keras.Model"]]:
    """Make an architecture of a base, which takes preprocessed pixels to features (N, features), under its name."""

    def decorate(base: Callable[[Any], Any]) -> Callable[..., "keras.Model"]:
        def build(
            num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
        ) -> "keras.Model":
            return _network(base.__name__, base, preprocessing, num_classes, input_shape, activation)

        for name in ("__name__", "__qualname__", "__doc__"):  # all of `functools.wraps` but the signature
            setattr(build, name, getattr(base, name))
        NETWORKS.append(build)
        return build

    return decorate


def _network(
    name: str,
    base: Callable[[Any], Any],
    preprocessing: _Preprocessing,
    num_classes: int,
    input_shape: tuple[int, int, int],
    activation: str,
) -> "keras.Model":
    """A base with what goes before and after it."""
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


@_architecture(_CAFFE)
def faceres(x: Any) -> Any:
    """MobileNetV1 pretrained on face recognition (VGGFace2), to fine-tune: thirteen blocks of a depthwise and a 1x1 convolution.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    3,236,039 parameters, 104.3 M multiply-adds per face at 48x48x1 with seven classes. Howard et al. 2017.
    """
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


# Named as in face-api.js: filters, and whether the block halves the side.
_DLIB_BLOCKS = (
    *("32_1", "32_2", "32_3", "64_down", "64_1", "64_2", "64_3", "128_down", "128_1", "128_2"),
    *("256_down", "256_1", "256_2", "256_down_out"),
)


@_architecture(_DLIB)
def dlibresnet(x: Any) -> Any:
    """ResNet of dlib, pretrained on face recognition, to fine-tune: 29 convolutions, all but the first of 3x3.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    5,587,175 parameters, 103.0 M multiply-adds per face at 48x48x1 with seven classes. King 2017, after He et al. 2016.
    """
    # The mean of the last block, (N, 256); the matrix to dlib's descriptor is left out.
    layers = load_keras().layers

    def normalized(x: Any, filters: int, name: str, *, kernel: int = 3, down: bool = False) -> Any:
        strides, padding = (2, "valid") if down else (1, "same")
        x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, name=name)(x)
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    stem = int(_DLIB_BLOCKS[0].partition("_")[0])
    x = layers.ReLU(name="stem_relu")(normalized(x, stem, f"conv{stem}_down", kernel=7, down=True))
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for block in _DLIB_BLOCKS:
        filters, down, name = int(block.partition("_")[0]), "down" in block, f"conv{block}"
        shortcut = layers.AveragePooling2D(2, name=f"{name}_shortcut")(x) if down else x
        if down and min(x.shape[1:3]) < 3:  # the last maps of small pictures
            x = layers.ZeroPadding2D([(0, max(3 - side, 0)) for side in x.shape[1:3]], name=f"{name}_pad")(x)
        x = layers.ReLU(name=f"{name}_relu1")(normalized(x, filters, f"{name}_conv1", down=down))
        x = normalized(x, filters, f"{name}_conv2")
        # Without padding an even side loses one row more than the shortcut; dlib adds what is missing as zeros.
        missing = [theirs - ours for theirs, ours in zip(shortcut.shape[1:3], x.shape[1:3], strict=True)]
        if any(missing):
            x = layers.ZeroPadding2D([(0, rows) for rows in missing], name=f"{name}_fill")(x)
        if new := filters - shortcut.shape[-1]:
            shortcut = load_keras().ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, new)))
        x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([shortcut, x]))
    return layers.GlobalAveragePooling2D(name="pool")(x)


@_architecture(_LITE)
def efficientnetlite0(x: Any) -> Any:
    """EfficientNet-Lite0 from ImageNet, to fine-tune: sixteen inverted residual blocks without squeeze-and-excitation.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    3,421,991 parameters, 70.5 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2019, Liu 2020.
    """
    return _efficientnetlite(x, width=1.0, depth=1.0)


@_architecture(_LITE)
def efficientnetlite1(x: Any) -> Any:
    """EfficientNet-Lite1 from ImageNet, to fine-tune: as Lite0, five blocks deeper.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    4,198,311 parameters, 92.1 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2019, Liu 2020.
    """
    return _efficientnetlite(x, width=1.0, depth=1.1)


@_architecture(_LITE)
def efficientnetlite2(x: Any) -> Any:
    """EfficientNet-Lite2 from ImageNet, to fine-tune: as Lite1, a tenth wider.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    4,878,135 parameters, 105.7 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2019, Liu 2020.
    """
    return _efficientnetlite(x, width=1.1, depth=1.2)


# Of Lite0, stage by stage (Tan & Le 2019): blocks, kernel, stride, factor of expansion, filters.
_LITE_STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
_LITE_STEM, _LITE_HEAD = 32, 1280


def _efficientnetlite(x: Any, *, width: float, depth: float) -> Any:
    """Stages that much wider and deeper than Lite0's; stem, head, first and last depth stay."""

    def rounded(filters: int) -> int:
        near = max(8, int(filters * width + 4) // 8 * 8)
        return near if near >= 0.9 * filters * width else near + 8

    layers = load_keras().layers

    def normalized(x: Any, name: str) -> Any:
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    def convolution(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
        make = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=name)
        return normalized(make(x), name)

    x = layers.ReLU(6.0, name="stem_relu")(convolution(x, _LITE_STEM, "conv_stem", 3, 2))
    block = 0
    for number, (count, kernel, stride, expansion, filters) in enumerate(_LITE_STAGES):
        for place in range(count if number in (0, len(_LITE_STAGES) - 1) else math.ceil(count * depth)):
            name, before, now = f"block{block}", x, stride if place == 0 else 1
            if expansion > 1:
                x = convolution(x, expansion * x.shape[-1], f"{name}_expand_conv")
                x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
            deep = f"{name}_depthwise_conv"
            x = layers.DepthwiseConv2D(kernel, strides=now, padding="same", use_bias=False, name=deep)(x)
            x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(normalized(x, deep))
            x = convolution(x, rounded(filters), f"{name}_project_conv")
            if now == 1 and before.shape[-1] == x.shape[-1]:
                x = layers.Add(name=f"{name}_add")([x, before])
            block += 1
    x = layers.ReLU(6.0, name="head_relu")(convolution(x, _LITE_HEAD, "conv_head"))
    return layers.GlobalAveragePooling2D(name="pool")(x)


@_architecture(_CAFFE)
def vgg16(x: Any) -> Any:
    """VGG16 of `keras.applications`, to fine-tune: thirteen convolutions of 64 to 512 filters.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    14,718,279 parameters, 2,819 M multiply-adds per face at 48x48x1 with seven classes. Simonyan & Zisserman 2015.
    """
    return load_keras().applications.VGG16(**_base_on(x)).output


@_architecture(_CAFFE)
def resnet50(x: Any) -> Any:
    """ResNet50 of `keras.applications`, to fine-tune: sixteen residual blocks of three convolutions.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    23,602,055 parameters, 708 M multiply-adds per face at 48x48x1 with seven classes. He et al. 2016.
    """
    return load_keras().applications.ResNet50(**_base_on(x)).output


@_architecture(_PLUS_MINUS_ONE)
def mobilenetv3(x: Any) -> Any:
    """MobileNetV3-Small of `keras.applications`, to fine-tune: the cheapest of these networks.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    943,159 parameters, 10.5 M multiply-adds per face at 48x48x1 with seven classes. Howard et al. 2019.
    """
    return load_keras().applications.MobileNetV3Small(**_base_on(x), include_preprocessing=False).output


@_architecture(_IMAGENET)
def efficientnetv2(x: Any) -> Any:
    """EfficientNetV2-B0 of `keras.applications`, to fine-tune: much accuracy per multiply-add.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    5,928,279 parameters, 132.5 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2021.
    """
    return load_keras().applications.EfficientNetV2B0(**_base_on(x), include_preprocessing=False).output


def _base_on(x: Any) -> dict[str, Any]:
    return {"input_tensor": x, "include_top": False, "weights": None, "pooling": "avg"}


@_architecture(_IMAGENET)
def convnexttiny(x: Any) -> Any:
    """ConvNeXt-Tiny of `keras.applications`, to fine-tune: convolutions of 7x7, without batch normalisation.

    Keras' own has layers that are slow on a CPU and that ONNX has no word for; this one takes its weights.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    27,825,511 parameters, 819 M multiply-adds per face at 48x48x1 with seven classes. Liu et al. 2022.
    """
    return convnext_tiny(x)


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
