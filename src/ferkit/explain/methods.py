"""The ways of explaining an answer: what all of them are, and which one to take."""

import functools
import logging
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError
from ferkit.images import FaceInput
from ferkit.registry import Registry

Faces = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

AUTO = "auto"
# What to do where gradients cannot be had.
INSTEAD = "Take --method occlusion, which needs only the model's answers."

_log = logging.getLogger(__name__)


class Explains(Protocol):
    """What is needed of a classifier; `EmotionClassifier` and `Ensemble` have it."""

    @property
    def face_input(self) -> FaceInput: ...

    def predict_proba(self, faces: Faces, /) -> npt.NDArray[np.floating[Any]]: ...


class Method(Protocol):
    """One way, opened for one classifier. Several threads may share it.

    name: its own in `METHODS`. in_probability: whether its maps are changes of the probability; else only their shape
    means anything.
    """

    name: str
    in_probability: bool

    def __call__(self, faces: Faces, classes: npt.NDArray[np.integer[Any]], /) -> Maps:
        """How much each place speaks for a class; below 0 it speaks against it.

        faces: uint8 (N, height, width, channels) as the classifier's `face_input` says.
        classes: which class to explain of each face, by its place in the classifier's `classes`, (N,).
        Returns: float32 (N, height, width).
        """
        ...


class RegisteredMethod(Protocol):
    """A method that has a name; its first line of docstring is what lists show."""

    def __call__(self, classifier: Explains, /) -> Method: ...

    def problem(self, classifier: Explains, /) -> str | None:
        """Why it cannot be used for this classifier, in a sentence; None where it can. Opens and imports nothing."""
        ...


METHODS: Registry[RegisteredMethod] = Registry("method of explanation")


class NoGradients(FerkitError):  # noqa: N818 - "auto" takes another way then
    """Grad-CAM cannot be had: no Keras, or a model without a Keras network."""


def available(classifier: Explains) -> list[str]:
    """Names of the methods that can be used for a classifier, the one that needs least last."""
    return [name for name, method in METHODS.items() if method.problem(classifier) is None]


def open_method(classifier: Explains, name: str = AUTO) -> Method:
    """Make a method ready for a classifier; "auto" takes Grad-CAM where Keras and a Keras network are there, else occlusion.

    Raises `UsageError` for an unknown name, `ModelError` and `NoGradients` where the method asked for cannot be had.
    """
    if name != AUTO:
        return METHODS[name](classifier)
    try:
        return METHODS["grad-cam"](classifier)
    except NoGradients as problem:
        _say_once(str(problem).removesuffix(INSTEAD).strip())
        return METHODS["occlusion"](classifier)


@functools.cache
def _say_once(reason: str) -> None:
    _log.info("Explained by occlusion: %s", reason)
