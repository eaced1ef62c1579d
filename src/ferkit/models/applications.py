"""Networks of `keras.applications`, to be fine-tuned from what they learnt on ImageNet (`ferkit.models.pretrained`).

Each is one flat graph of standard layers: the face enlarged, gray repeated as RGB, the network's own preprocessing, its
convolutions, the mean over the picture, dropout and one dense layer. They were made for pictures of 224x224, and halve
them five times: of 48x48 one or two positions a side would be left, of 96x96 three are, at a fifth of the price of 224.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferkit.errors import UsageError
from ferkit.keras_backend import load_keras
from ferkit.models.convnext import convnext_tiny
from ferkit.models.registry import architecture

if TYPE_CHECKING:
    import keras

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


@architecture
def vgg16(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """VGG16 of `keras.applications`, to fine-tune: thirteen convolutions of 64 to 512 filters.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    14,718,279 parameters, 2,819 M multiply-adds per face at 48x48x1 with seven classes. Simonyan & Zisserman 2015.
    """
    return _network("vgg16", _vgg16, _CAFFE, num_classes, input_shape, activation)


@architecture
def resnet50(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """ResNet50 of `keras.applications`, to fine-tune: sixteen residual blocks of three convolutions.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    23,602,055 parameters, 708 M multiply-adds per face at 48x48x1 with seven classes. He et al. 2016.
    """
    return _network("resnet50", _resnet50, _CAFFE, num_classes, input_shape, activation)


@architecture
def mobilenetv3(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """MobileNetV3-Small of `keras.applications`, to fine-tune: the cheapest of these networks.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    943,159 parameters, 10.5 M multiply-adds per face at 48x48x1 with seven classes. Howard et al. 2019.
    """
    return _network("mobilenetv3", _mobilenetv3, _PLUS_MINUS_ONE, num_classes, input_shape, activation)


@architecture
def efficientnetv2(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """EfficientNetV2-B0 of `keras.applications`, to fine-tune: much accuracy per multiply-add.

    Input: pixels 0..255, (N, 48, 48, 1), enlarged to 96x96. Output: probabilities, float32 (N, 7).
    5,928,279 parameters, 132.5 M multiply-adds per face at 48x48x1 with seven classes. Tan & Le 2021.
    """
    return _network("efficientnetv2", _efficientnetv2, _IMAGENET, num_classes, input_shape, activation)


@architecture
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


def _vgg16(x: Any) -> Any:
    return load_keras().applications.VGG16(**_base_on(x)).output


def _resnet50(x: Any) -> Any:
    return load_keras().applications.ResNet50(**_base_on(x)).output


def _mobilenetv3(x: Any) -> Any:
    return load_keras().applications.MobileNetV3Small(**_base_on(x), include_preprocessing=False).output


def _efficientnetv2(x: Any) -> Any:
    return load_keras().applications.EfficientNetV2B0(**_base_on(x), include_preprocessing=False).output


def _base_on(x: Any) -> dict[str, Any]:
    # weights=None: Keras would fetch them in its own way, with a progress bar on standard output.
    return {"input_tensor": x, "include_top": False, "weights": None, "pooling": "avg"}
