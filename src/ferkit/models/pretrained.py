"""Fine-tuning in two phases: first the new head alone on a base that stays as it is, then the base with it, slowly.

So Keras' guide to transfer learning has it (https://keras.io/guides/transfer_learning/): gradients of a head that knows
nothing yet would spoil what the base knows. Batch normalisation of the base stays in inference mode in both phases, with
the statistics and factors that it was trained with; those of a small data set would spoil them as well.

Both functions only set `trainable` of layers, so the model must be compiled after them: what learns and what is kept
in a compiled step and in an optimizer is settled there.

Weights that a network starts from: those it was trained to on ImageNet, or a file.

Networks of `keras.applications`, to be fine-tuned from what they learnt on ImageNet (`ferkit.models.pretrained`).

Each is one flat graph of standard layers: the face enlarged, gray repeated as RGB, the network's own preprocessing, its
convolutions, the mean over the picture, dropout and one dense layer. They were made for pictures of 224x224, and halve
them five times: of 48x48 one or two positions a side would be left, of 96x96 three are, at a fifth of the price of 224.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferkit._support.download import TIMEOUT, fetch
from ferkit._support.files import cache_folder, write_atomically
from ferkit._support.keras_backend import load_keras
from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.models.architectures import architecture, convnext_tiny

if TYPE_CHECKING:
    import keras


def freeze_base(network: Any) -> int:
    """Let only the head learn: the last layers with weights, one for each answer of the network.

    Works for every architecture, before or after it was put into a model for training; compile after it.
    Returns how many numbers learn.
    """
    heads = {id(layer) for layer in head_layers(network)}
    for layer in weighted_layers(network):
        layer.trainable = id(layer) in heads
    return learning_parameters(network)


def thaw(network: Any, top: int | None = None) -> int:
    """Let the head learn and, of the base, the last `top` layers with weights or all (None); compile after it.

    Batch normalisation counts as no layer and stays in inference mode. More layers than there are mean all.
    Returns how many numbers learn. Raises `UsageError` for a `top` below 1.
    """
    if top is not None and top < 1:
        raise UsageError(f"At least 1 layer of the base must thaw. Received: {top}. Leave it out to thaw all.")
    keras = load_keras()
    freeze_base(network)
    frozen = [layer for layer in weighted_layers(network) if not layer.trainable]
    base = [layer for layer in frozen if not isinstance(layer, keras.layers.BatchNormalization)]
    for layer in base if top is None else base[-top:]:
        layer.trainable = True
    return learning_parameters(network)


def learning_parameters(network: Any) -> int:
    """How many numbers of a network learn."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def head_layers(network: Any) -> list[Any]:
    """The last layers with weights on the way to the answer: one, or one for each of several answers."""
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
    """All layers that have weights of their own, from pixels to answer, those inside layers of layers too."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from weighted_layers(layer)
        elif layer.weights:
            yield layer


NONE, IMAGENET = "none", "imagenet"

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
# The largest has 111 MB. A server that sends less than 50,000 bytes per second is given up.
_LIMIT = 120_000_000
_SLOWEST = 50_000


@dataclass(frozen=True)
class ImageNetWeights:
    """A file of `keras.applications`: weights of a network without its last layer.

    application: what Keras calls the network. path: below Keras' store. digest: MD5 or SHA-256 in hexadecimal letters.
    """

    application: str
    path: str
    digest: str

    @property
    def url(self) -> str:
        return f"{_STORE}/{self.path}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def is_right(self, content: bytes) -> bool:
        # MD5 tells a broken file; that nobody forged it, only https says. Keras goes by the same.
        algorithm = "sha256" if len(self.digest) == 64 else "md5"
        return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == self.digest


# Addresses and checksums are those of Keras 3.15, where they stand in private tables.
IMAGENET_WEIGHTS = {
    "vgg16": ImageNetWeights(
        "VGG16", "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "6d6bbae143d832006294945121d1f1fc"
    ),
    "resnet50": ImageNetWeights(
        "ResNet50", "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"
    ),
    "mobilenetv3": ImageNetWeights(
        "MobileNetV3Small",
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "efficientnetv2": ImageNetWeights(
        "EfficientNetV2B0", "efficientnet_v2/efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"
    ),
    "convnexttiny": ImageNetWeights(
        "ConvNeXtTiny",
        "convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
}


def take_weights(network: Any, weights: str | Path) -> None:
    """Give a network, all but its head, weights to start from.

    network: an architecture as it was built; its name says which weights are its own.
    weights: "none" leaves it as it is; "imagenet" fetches those of `keras.applications` (once, into the cache), for the
        networks that have them; anything else is the path of an HDF5 file of weights: the `..._notop.h5` that
        `keras.applications` has for these networks, or what `save_weights` wrote of their base; for other networks what
        it wrote of the same network, whatever its classes.

    Raises:
        UsageError: there are no ImageNet weights for this network. DownloadError: they cannot be fetched.
        ModelError: the file cannot be read, or is another network's.
    """
    if weights == NONE:
        return
    _load(network, imagenet_file(network.name) if weights == IMAGENET else Path(weights))


def imagenet_file(name: str) -> Path:
    """The file of an architecture's ImageNet weights: from ferkit's or Keras' cache, else fetched into the former."""
    if name not in IMAGENET_WEIGHTS:
        raise UsageError(
            f"There are no ImageNet weights for {name}, only for {', '.join(IMAGENET_WEIGHTS)}. "
            "Choose one of those, give a file of weights, or start from none."
        )
    wanted = IMAGENET_WEIGHTS[name]
    target = cache_folder() / "weights" / wanted.name
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    for path in (target, keras_home / "models" / wanted.name):
        if path.is_file() and wanted.is_right(path.read_bytes()):
            return path
    try:
        content = fetch(wanted.url, limit=_LIMIT, seconds=TIMEOUT + _LIMIT / _SLOWEST)
        if not wanted.is_right(content):
            raise DownloadError(
                f"Refused {wanted.url}: its {len(content):,} bytes have another checksum than Keras says."
            )
    except DownloadError as problem:
        raise DownloadError(
            f"No ImageNet weights for {name}. {problem} Fetch that file elsewhere and give it with --weights FILE, "
            "or start from random weights with --weights none."
        ) from problem
    with write_atomically(target, DownloadError) as draft:
        draft.write_bytes(content)
    return target


def _load(network: Any, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"No file of weights at {path}. Expected none, imagenet, or the path of such a file.")
    _refuse_other_formats(path)
    known = IMAGENET_WEIGHTS.get(network.name)
    base = _base_of(network) if known is None else _application(known.application)
    try:
        base.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError, IndexError, AttributeError) as problem:
        first = str(problem).strip().split("\n")[0].rstrip(".")
        raise ModelError(
            f"{path} does not fit {network.name} ({first}). Expected weights of that network: "
            f"{'what its save_weights() writes' if known is None else known.name}."
        ) from problem
    if known is not None:
        _copy(base, network)


def _refuse_other_formats(path: Path) -> None:
    import h5py  # comes with Keras

    if path.suffix not in (".h5", ".hdf5") or not h5py.is_hdf5(path):
        raise ModelError(
            f"{path} is no file of weights. Expected HDF5 that ends in .h5, as Keras writes it; a whole model is "
            "started from with --init."
        )


def _application(name: str) -> Any:
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return getattr(keras.applications, name)(include_top=False, weights=None, pooling="avg")
    finally:
        keras.config.set_dtype_policy(before)


def _base_of(network: Any) -> Any:
    return load_keras().Model(network.input, head_layers(network)[0].input)


def _copy(base: Any, network: Any) -> None:
    """Layer by layer, from pixels to answer. Ours may hold the same numbers in another shape, see `ferkit.models.architectures`."""
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
