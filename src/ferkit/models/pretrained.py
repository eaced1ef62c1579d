"""Weights that a network starts from: those it was trained to on ImageNet, or a file."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit.download import TIMEOUT, fetch
from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.files import cache_folder, write_atomically
from ferkit.keras_backend import load_keras
from ferkit.models.transfer import head_layers, weighted_layers

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
    """Layer by layer, from pixels to answer. Ours may hold the same numbers in another shape, see `ferkit.models.convnext`."""
    for theirs, ours in zip(weighted_layers(base), weighted_layers(network), strict=False):  # the head is left over
        values = zip(theirs.get_weights(), ours.get_weights(), strict=True)
        ours.set_weights([value.reshape(own.shape) for value, own in values])
