"""The ways of explaining an answer: what all of them are, and which one to take.

Occlusion: what the model says when a part of the face is covered.

Grad-CAM: which parts of the last feature map speak for a class.
"""

import functools
import importlib.util
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ferkit._support.keras_backend import load_keras
from ferkit._support.registry import Registry
from ferkit.errors import FerkitError, MissingDependencyError, ModelError, UsageError
from ferkit.models import Classifier, KerasNetwork, model_folder, open_keras

Faces = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

AUTO = "auto"
# It explains the network that answers, whatever runs it, in the shell as on the page. Grad-CAM loads Keras, 0.7 GB, so
# it has to be asked for.
USUAL: Literal["occlusion"] = "occlusion"
# What to do where gradients cannot be had.
INSTEAD = "Use --method occlusion, which needs only predictions."

_log = logging.getLogger(__name__)


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

    def __call__(self, classifier: Classifier, /) -> Method: ...

    def problem(self, classifier: Classifier, /) -> str | None:
        """Why it cannot be used for this classifier, in a sentence; None where it can. Opens and imports nothing."""
        ...


class NoGradients(FerkitError):  # noqa: N818 - "auto" takes another way then
    """Grad-CAM cannot be had: no Keras, or a model without a Keras network."""


def available(classifier: Classifier) -> list[str]:
    """Names of the methods that can be used for a classifier, the one that needs least last."""
    return [name for name, method in METHODS.items() if method.problem(classifier) is None]


def open_method(classifier: Classifier, name: str = AUTO) -> Method:
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


# Of the shorter side of a face: 12 and 4 of 48 pixels. A patch as large as an eye or half a mouth; smaller ones point
# no better at what matters (docs/explain.md).
_PATCH, _STRIDE = 1 / 4, 1 / 12
# Faces that go through the network together: no more, so that live frames are not kept waiting.
_BATCH = 32


class Occlusion:
    """Covers one place after the other and sees how far the probability falls; needs nothing but the model's answers.

    Zeiler and Fergus 2014: a square slides over the face; the map has, at its middle, by how much the class became less
    probable. The square has the face's mean, which is less of an edge than black or grey.

    patch: side of the square, stride: how far it moves, both in pixels of the network's face; None: a quarter and a
        twelfth of its shorter side. So many answers are asked for as strides fit into the face: 144.

    Raises `UsageError` for a patch or a stride that makes no sense.
    """

    name = "occlusion"
    in_probability = True

    def __init__(self, classifier: Classifier, /, *, patch: int | None = None, stride: int | None = None) -> None:
        face_input = classifier.face_input
        side = min(face_input.height, face_input.width)
        self.patch = max(1, round(side * _PATCH)) if patch is None else patch
        self.stride = max(1, round(side * _STRIDE)) if stride is None else stride
        for name, value in (("patch", self.patch), ("stride", self.stride)):
            if not 1 <= value <= side:
                raise UsageError(f"{name} must be 1 to {side} pixels, as the face has. Received: {value}.")
        self.classifier = classifier

    @staticmethod
    def problem(classifier: Classifier, /) -> str | None:
        return None

    def __call__(self, faces: Faces, classes: npt.NDArray[np.integer[Any]], /) -> Maps:
        if not len(faces):
            return np.empty(faces.shape[:3], np.float32)
        whole = self.classifier.predict_proba(faces)[np.arange(len(faces)), classes]
        found = (self._map(face, int(one), p) for face, one, p in zip(faces, classes, whole, strict=True))
        return np.stack(list(found))

    def _map(self, face: Faces, one: int, probability: float) -> npt.NDArray[np.float32]:
        height, width = face.shape[:2]
        rows, columns = _parts(height, self.stride), _parts(width, self.stride)
        covered = self._covered(face, rows, columns)
        answers = [self.classifier.predict_proba(covered[i : i + _BATCH]) for i in range(0, len(covered), _BATCH)]
        falls = probability - np.concatenate(answers)[:, one].astype(np.float32).reshape(rows, columns)
        # The middles of the squares are those of the cells of a grid, which is what enlarging takes them for.
        return np.asarray(cv2.resize(falls, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _covered(self, face: Faces, rows: int, columns: int) -> Faces:
        """A copy of a face for each place of the square, row by row."""
        height, width = face.shape[:2]
        mean = np.rint(face.mean(axis=(0, 1))).astype(np.uint8)
        copies = np.repeat(face[None], rows * columns, axis=0)
        ups, lefts = (_starts(side, parts, self.patch) for side, parts in ((height, rows), (width, columns)))
        places = ((up, left) for up in ups for left in lefts)
        for copy, (up, left) in zip(copies, places, strict=True):
            copy[max(up, 0) : up + self.patch, max(left, 0) : left + self.patch] = mean
        return copies


def _parts(side: int, stride: int) -> int:
    return max(1, round(side / stride))


def _starts(side: int, parts: int, patch: int) -> list[int]:
    """Where the squares begin whose middles are those of so many equal parts; at the edge they reach outside."""
    return [round((part + 0.5) * side / parts - patch / 2) for part in range(parts)]


class GradCam:
    """Asks the network itself: which places of its last feature map raise the score of the class. Needs Keras.

    Selvaraju et al. 2017: the channels of the last convolutional feature map, each weighed by the mean gradient of the
    class's score (before the softmax) with respect to it, summed; what is below 0 is cut off. On a network that ends in
    a mean over the picture this is the class activation map of Zhou et al. 2016. The map is as fine as that feature
    map, 6x6 for `compact`, and enlarged to the face.

    Raises `NoGradients` where Keras or a Keras network is missing, `ModelError` where the network has no feature map.
    """

    name = "grad-cam"
    in_probability = False

    def __init__(self, classifier: Classifier, /) -> None:
        problem = self.problem(classifier)
        if problem is not None:
            raise NoGradients(f"{problem} {INSTEAD}")
        self._parts = split(_keras_network(classifier).standard)

    @staticmethod
    def problem(classifier: Classifier, /) -> str | None:
        if importlib.util.find_spec("keras") is None:
            return "Grad-CAM needs Keras: pip install 'ferkit[train]'."
        if isinstance(getattr(classifier, "network", None), KerasNetwork) or _folder(classifier) is not None:
            return None
        return f"Grad-CAM needs a Keras network, and {classifier.name} has no {model_folder.KERAS_FILE}."

    def __call__(self, faces: Faces, classes: npt.NDArray[np.integer[Any]], /) -> Maps:
        height, width = faces.shape[1:3]
        if not len(faces):
            return np.empty((0, height, width), np.float32)
        maps, gradients = self._parts.gradients(faces.astype(np.float32), classes)
        weighed = (maps * gradients.mean(axis=(1, 2), keepdims=True)).sum(axis=3)
        large = [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in np.maximum(weighed, 0)]
        return np.stack(large).astype(np.float32, copy=False)


METHODS: Registry[RegisteredMethod] = Registry.of(
    "method of explanation", {"occlusion": Occlusion, "grad-cam": GradCam}
)


def _keras_network(classifier: Classifier) -> KerasNetwork:
    """The classifier's own network, or the one that lies beside the serving copy which it runs."""
    try:
        load_keras()
    except MissingDependencyError as problem:
        raise NoGradients(f"{problem} {INSTEAD}") from problem
    network, folder = getattr(classifier, "network", None), _folder(classifier)
    if isinstance(network, KerasNetwork):
        return network
    if folder is None:
        raise NoGradients(f"Grad-CAM needs a Keras network. {INSTEAD}")
    card = getattr(classifier, "card", {})
    return KerasNetwork(open_keras(model_folder.check_sum(folder, model_folder.KERAS_FILE, card)))


def _folder(classifier: Classifier) -> Path | None:
    """The model folder that a classifier came from, if it has a Keras network."""
    if model_folder.KERAS_FILE not in getattr(classifier, "card", {}).get("sha256", {}):
        return None
    try:
        path = model_folder.find(classifier.name)
    except ModelError:
        return None
    return path if path.is_dir() else None


@dataclass(frozen=True)
class Parts:
    """A network cut at its last feature map: models one after the other.

    before: pixels to feature maps. after: those to the scores of the classes, (N, classes). logarithm: whether scores
    are probabilities, of which the logarithm is to be taken.
    """

    before: Sequence[Any]
    after: Sequence[Any]
    logarithm: bool

    def gradients(
        self, pixels: npt.NDArray[np.float32], classes: npt.NDArray[np.integer[Any]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Feature maps, and the gradients of the classes' scores with respect to them, both float32 (N, h, w, channels)."""
        keras = load_keras()
        ops = keras.ops
        chosen = ops.one_hot(np.asarray(classes), self.after[-1].output_shape[-1])

        def score(maps: Any) -> Any:
            scores = ops.cast(_through(self.after, maps), "float32")
            # A face's score depends on that face alone, so one sum serves all.
            return ops.sum(chosen * (ops.log(scores + 1e-30) if self.logarithm else scores))

        maps = _through(self.before, ops.convert_to_tensor(pixels))
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(maps)
                total = score(maps)
            found = tape.gradient(total, maps)
        elif keras.backend.backend() == "jax":
            import jax

            found = jax.grad(score)(maps)
        else:
            raise NoGradients(f"Grad-CAM needs Keras on TensorFlow or JAX, not {keras.backend.backend()}. {INSTEAD}")
        first, second = (np.asarray(ops.convert_to_numpy(ops.cast(one, "float32"))) for one in (maps, found))
        return first, second


def _through(models: Sequence[Any], value: Any) -> Any:
    for model in models:
        value = model(value, training=False)
    return value


def split(model: Any) -> Parts:
    """Cut a `keras.Model` at the last feature map before its answer, also inside models that it is made of.

    That is the tensor (N, h, w, channels) nearest to the answer, before pooling and dropout, which only make it
    coarser; one place is no map. Raises `ModelError` where there is none, or where a path leads past it.
    """
    try:
        pieces = _cut(model)
        if pieces is None:
            raise ModelError(f"{model.name} has no convolutional feature map, which Grad-CAM needs. {INSTEAD}")
        before, after = pieces
        *rest, last = after
        ends, logarithm = _without_softmax(last)
    except (ValueError, AttributeError) as problem:
        if isinstance(problem, ModelError):
            raise
        raise ModelError(f"{model.name} cannot be cut in two at its last feature map. {INSTEAD}") from problem
    return Parts(before, [*rest, *ends], logarithm)


def _cut(model: Any) -> tuple[list[Any], list[Any]] | None:
    for tensor in _backwards(model.outputs[0]):
        operation = tensor._keras_history.operation
        if _is_chain(operation):
            inner = _cut(operation)
            if inner is None:
                continue
            before, after = inner
            (taken,) = _taken_by(tensor)
            return [*_between(model.inputs[0], taken), *before], [*after, *_between(tensor, model.outputs[0])]
        if _is_map(tensor) and not isinstance(operation, _coarser()):
            return _between(model.inputs[0], tensor), _between(tensor, model.outputs[0])
    return None


def _backwards(tensor: Any) -> Iterator[Any]:
    """Tensors of a graph, from the one given to the inputs, nearest first."""
    waiting, seen = deque([tensor]), set()
    while waiting:
        one = waiting.popleft()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting.extend(_taken_by(one))


def _taken_by(tensor: Any) -> list[Any]:
    """What the operation took that made a tensor."""
    operation, call, _ = tensor._keras_history
    # Not `operation.input`, which a layer that is used twice does not have, and which of a model is its own.
    return list(operation._inbound_nodes[call].input_tensors)


def _between(first: Any, last: Any) -> list[Any]:
    return [] if first is last else [load_keras().Model(first, last)]


def _is_chain(operation: Any) -> bool:
    """Whether an operation is a model with one input and one output."""
    return len(getattr(operation, "inputs", None) or ()) == len(getattr(operation, "outputs", None) or ()) == 1


def _is_map(tensor: Any) -> bool:
    # Of one or three channels are pixels; of one place the gates of squeeze-and-excitation.
    return len(tensor.shape) == 4 and 1 not in tensor.shape[1:3] and tensor.shape[3] not in (1, 3)


def _coarser() -> tuple[type, ...]:
    layers = load_keras().layers
    return (layers.MaxPooling2D, layers.AveragePooling2D, layers.Dropout, layers.SpatialDropout2D)


def _without_softmax(model: Any) -> tuple[list[Any], bool]:
    """The same without the softmax at its end, and whether that could not be done."""
    keras = load_keras()
    output = model.outputs[0]
    operation = output._keras_history.operation
    if _is_chain(operation):
        (taken,) = _taken_by(output)
        ends, logarithm = _without_softmax(operation)
        return [*_between(model.inputs[0], taken), *ends], logarithm
    is_softmax = isinstance(operation, keras.layers.Softmax) or (
        getattr(operation, "activation", None) is keras.activations.softmax
    )
    if is_softmax and isinstance(operation, keras.layers.Softmax | keras.layers.Activation):
        return _between(model.inputs[0], _taken_by(output)[0]), False
    if is_softmax and isinstance(operation, keras.layers.Dense):
        (taken,) = _taken_by(output)
        linear = keras.layers.Dense(operation.units, use_bias=operation.use_bias, dtype="float32")
        scores = linear(taken)
        linear.set_weights(operation.get_weights())
        return [keras.Model(model.inputs[0], scores)], False
    return [model], True
