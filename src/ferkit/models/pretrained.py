"""Weights that a network starts from: those it was trained to on ImageNet, or a file."""

from pathlib import Path
from typing import Any

NONE, IMAGENET = "none", "imagenet"


def take_weights(network: Any, weights: str | Path) -> None:
    """Give a network, all but its head, weights to start from.

    network: an architecture as it was built; its name says which weights are its own.
    weights: "none" leaves it as it is; "imagenet" fetches those of `keras.applications` (once, into the cache), for the
        networks that have them; anything else is the path of an HDF5 file of weights, as Keras writes them: a
        `..._notop.h5` of `keras.applications`, or a `.weights.h5` of the same network with or without its head.

    Raises:
        UsageError: there are no ImageNet weights for this network. DownloadError: they cannot be fetched.
        ModelError: the file cannot be read, or is another network's.
    """
    raise NotImplementedError
