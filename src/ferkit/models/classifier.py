"""A trained model: faces in, calibrated probabilities out."""

import copy
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ferkit import labels
from ferkit.data import Faces, FaceSet
from ferkit.errors import DatasetError, ModelError, UsageError
from ferkit.labels import canonical
from ferkit.models import model_folder
from ferkit.models.calibration import adjust, apply_temperature, check_sensitivity
from ferkit.models.engines import Network, OpenedFile, Probabilities, onnx_network, open_file
from ferkit.models.foreign import AS_IT_IS, SOFTMAX, PixelScale, Told, assumed
from ferkit.models.keras_files import KerasNetwork, open_keras
from ferkit.sources import FaceInput

ENGINES = ("auto", "onnx", "keras")

# Larger batches are slower, as their activations do not fit the cache.
_BATCH = 64
_log = logging.getLogger(__name__)

# What an exported file says of the adjustments inside it.
_INSIDE = ("temperature", "temperature_inside", "sensitivity", "sensitivity_inside")


class Classifier(Protocol):
    """What recognition and evaluation need of a model: `EmotionClassifier`, `Ensemble`, `Augmented`, or your own."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def face_input(self) -> FaceInput: ...
    def predict_proba(self, faces: npt.NDArray[np.uint8], /) -> npt.NDArray[np.floating[Any]]: ...


Ask = Callable[[Faces], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class BareFile:
    """A network without a card of its own, and how it is taken.

    Attributes:
        opened: The network.
        scale: The pixels that it is given.
        kind: What its outputs are, one of `ferkit.models.foreign.OUTPUTS`.
    """

    opened: OpenedFile
    scale: PixelScale
    kind: str


class EmotionClassifier:
    """A trained network with its classes, input size and calibration.

    Attributes:
        name: The path or name that it was loaded from.
        classes: Class names in output order.
        face_input: Size, channels, margin and alignment of the faces that it takes.
        temperature: Divides the log-probabilities (Guo et al. 2017); 1 leaves them unchanged.
        card: The model card; empty for a bare file.
        sensitivity: How readily rare classes are predicted, 0 to 1; None where the card has no prior.
        bare: How a file without a card of its own is taken; None for every other model.
    """

    bare: BareFile | None = None
    # What `load` was told, so that another process can do the same.
    _opened: tuple[str, dict[str, Any]] | None = None

    def __init__(
        self,
        network: Network,
        *,
        name: str,
        classes: tuple[str, ...] = labels.EMOTIONS,
        face_input: FaceInput | None = None,
        temperature: float = 1.0,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.classes = classes
        self.face_input = face_input or FaceInput()
        self.temperature = temperature
        self.card = card or {}
        self.sensitivity: float | None = float(self.card.get("sensitivity", 0.0)) if "prior" in self.card else None

    @property
    def sha256(self) -> str | None:
        """SHA-256 of what it was loaded from, hex, as `model_folder.checksum` gives it; None without a file."""
        return None if self._opened is None else model_folder.checksum(Path(self._opened[0]))

    def __copy__(self) -> "EmotionClassifier":
        """Another with the same network: no file is opened again."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its name: another process opens the file again."""
        if self._opened is None:
            raise TypeError(
                f"{self.name} was not loaded from a file, so it cannot be pickled. Load it in each process."
            )
        model, told = self._opened
        return _opened_again, (type(self), model, {**told, "sensitivity": self.sensitivity}, self.name)

    def __repr__(self) -> str:
        return f"EmotionClassifier({self.name!r}, classes={self.classes}, face_input={self.face_input})"

    @classmethod
    def load(
        cls,
        model: str | Path = model_folder.DEFAULT,
        *,
        engine: str = "auto",
        threads: int | None = None,
        sensitivity: float | None = None,
        classes: str | Sequence[str] | None = None,
        pixel_scale: str | None = None,
    ) -> "EmotionClassifier":
        """Load a model folder, the packaged default, or a bare `.onnx`, `.tflite`, `.keras` or `.h5` file.

        Files that `ferkit export` wrote carry classes and all else. Of a file of other origin, `classes` and
        `pixel_scale` tell what it takes and gives, or a `card.json` beside it does. Where neither does, the usual is
        assumed, and logged: labels of FER-2013 in their order, pixels / 255 unless a scaling layer is inside. Logits
        and sigmoids become probabilities. No code from a file is ever run.

        Args:
            model: folder, file or "default".
            engine: of a folder: "onnx" (ONNX Runtime), "keras", or "auto": ONNX where the folder has it, in 32 bits or
                in eight.
            threads: how many ONNX Runtime or LiteRT may take; None leaves it to them. Keras has its own settings.
            sensitivity: how readily rare classes are named: 0 as common as in life, 1 every class alike; None takes the
                card's. Only for models whose card has a prior, as `default` has.
            classes: names in the order of the outputs of a bare file, as a sequence or `"a,b,c"`.
            pixel_scale: what a bare file was trained on: "0..1", "-1..1", "0..255" or "mean,std", which stands for
                (pixel - mean) / std.

        Raises:
            ModelError: nothing there, damaged, or asking to run code. UsageError: no such engine, no thread, a
            sensitivity that this model has not, or classes or a pixel scale that its card contradicts.
        """
        told = Told.parse(classes, pixel_scale)
        if engine not in ENGINES:
            raise UsageError(f"Unknown engine {engine!r}. Choices: {', '.join(ENGINES)}.")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more. Received: {threads}.")
        path = model_folder.find(model)
        loaded = (
            _read_file(path, threads, str(model), told)
            if path.is_file()
            else cls._load_folder(path, engine, threads, str(model), told)
        )
        told_again = {"engine": engine, "threads": threads, "classes": classes, "pixel_scale": pixel_scale}
        loaded._opened = str(path.absolute()), told_again
        return loaded if sensitivity is None else loaded.with_sensitivity(sensitivity)

    @classmethod
    def _load_folder(cls, path: Path, engine: str, threads: int | None, name: str, told: Told) -> "EmotionClassifier":
        card = model_folder.read_card(path)
        told.check(name, card)
        serving = model_folder.serving_file(card)
        if engine != "keras" and serving == model_folder.INT8_FILE:
            # It has made its own adjustments, which its own card tells.
            file = _read_file(model_folder.check_sum(path, serving, card), threads, name, told)
            file.card = {**card, **{key: file.card[key] for key in _INSIDE if key in file.card}}
            return file
        if engine == "onnx" or (engine == "auto" and serving):
            network = onnx_network(model_folder.check_sum(path, model_folder.ONNX_FILE, card), threads)
        elif serving and model_folder.KERAS_FILE not in card["sha256"]:
            raise ModelError(f"{path} has no Keras network, only {serving}. Use the model that it was exported from.")
        else:
            network = KerasNetwork(open_keras(model_folder.check_sum(path, model_folder.KERAS_FILE, card)))
        return cls(
            network,
            name=name,
            classes=tuple(card["classes"]),
            face_input=FaceInput(**card["face_input"]),
            temperature=float(card["temperature"]),
            card=card,
        )

    def with_sensitivity(self, sensitivity: float) -> "EmotionClassifier":
        """The same model, naming rare classes more (up to 1) or less readily (down to 0).

        Raises:
            UsageError: no number from 0 to 1, or a model whose card has no prior.
        """
        check_sensitivity(sensitivity)
        if self.sensitivity is None:
            raise UsageError(
                f"{self.name} has no sensitivity: its card has no prior (the class shares of its training data). "
                "Omit sensitivity, or use a model trained on votes, such as 'default'."
            )
        other = copy.copy(self)
        other.sensitivity = float(sensitivity)
        return other

    def with_pixel_scale(self, scale: PixelScale) -> "EmotionClassifier":
        """The same bare file, given pixels in another scale."""
        if self.bare is None:
            raise UsageError(f"{self.name} has a card: its pixel scale is fixed.")
        other = copy.copy(self)
        other.bare = replace(self.bare, scale=scale)
        other.network = self.bare.opened.adapted(scale, self.bare.kind)
        return other

    def predict_proba(self, faces: npt.NDArray[np.uint8]) -> Probabilities:
        """Probabilities of faces, float32 (N, classes), rows sum to 1, calibrated by the stored temperature.

        Args:
            faces: uint8 (N, height, width, channels) as `face_input` says.

        Raises:
            ModelError: another shape or type came, or the network's output is no probability.
        """
        wanted = (self.face_input.height, self.face_input.width, self.face_input.channels)
        if faces.ndim != 4 or faces.shape[1:] != wanted or faces.dtype != np.uint8:
            raise ModelError(f"{self.name} takes uint8 faces (N, {wanted}). Received: {faces.dtype} {faces.shape}.")
        if len(faces) == 0:
            return np.empty((0, len(self.classes)), np.float32)
        probabilities = self._run(np.ascontiguousarray(faces))
        if probabilities.shape != (len(faces), len(self.classes)):
            raise ModelError(
                f"{self.name} must give {len(self.classes)} numbers per face. Received: {probabilities.shape}."
            )
        sums = probabilities.sum(axis=1)
        if not (np.abs(sums - 1).max() < 1e-3 and probabilities.min() >= 0):  # false for NaN
            raise ModelError(
                f"{self.name} does not give probabilities: rows sum to {sums.min():.3g}..{sums.max():.3g}."
            )
        return self._calibrated(probabilities)

    def _calibrated(self, probabilities: Probabilities) -> Probabilities:
        if self.sensitivity is not None:
            # An exported file has made its own adjustment, and divided by its temperature after it.
            left = (self.sensitivity - self.card.get("sensitivity_inside", 0.0)) / self.card.get(
                "temperature_inside", 1.0
            )
            if left:
                probabilities = adjust(probabilities, self.card["prior"], left)
        return probabilities if self.temperature == 1 else apply_temperature(probabilities, self.temperature)

    def _run(self, faces: npt.NDArray[np.uint8]) -> Probabilities:
        if len(faces) <= _BATCH:
            return self.network(faces)
        return np.concatenate([self.network(faces[i : i + _BATCH]) for i in range(0, len(faces), _BATCH)])


def _read_file(path: Path, threads: int | None, name: str, told: Told) -> EmotionClassifier:
    opened = open_file(path, threads)
    if opened.card is None:
        return _read_bare(path, opened, name, told)
    card = opened.card
    told.check(name, card)
    face_input, classes = FaceInput(**card["face_input"]), tuple(card["classes"])
    _check_sides(path, opened, face_input)
    scale, kind = PixelScale.parse(card.get("pixel_scale", 1.0)), card.get("outputs", SOFTMAX)
    if opened.outputs not in (None, len(classes), 1 if kind != SOFTMAX and len(classes) == 2 else None):
        raise ModelError(f"{path} has {opened.outputs} outputs and a card of {len(classes)} classes. Export it again.")
    return EmotionClassifier(
        opened.adapted(scale, kind),
        name=name,
        classes=classes,
        face_input=face_input,
        temperature=float(card["temperature"]),
        card=card,
    )


def _check_sides(path: Path, opened: OpenedFile, face_input: FaceInput) -> None:
    takes = (face_input.height, face_input.width, face_input.channels)
    if any(side not in (None, wanted) for side, wanted in zip(opened.shape, takes, strict=True)):
        raise ModelError(f"{path} takes faces of {opened.shape}, and its card says {takes}. Export the model again.")


def _read_bare(path: Path, opened: OpenedFile, name: str, told: Told) -> EmotionClassifier:
    """A file without a card inside: what is told of it, by the user or a card beside it, and else the usual."""
    height, width, channels = opened.shape
    shape = (height or 48, width or 48, channels or 1)
    beside = model_folder.card_beside(path, shape) or {}
    if beside:
        known = Told.parse(beside.get("classes"), beside.get("pixel_scale"))
        told.check(name, {"classes": known.classes or told.classes, "pixel_scale": known.scale or told.scale or 1.0})
        told = Told(told.classes or known.classes, told.scale or known.scale)
    classes, scale, note = assumed(name, opened.outputs, told, opened.usual_scale)
    if opened.takes_bytes and scale != AS_IT_IS:
        raise UsageError(f"{name} takes bytes, so its pixel scale is 0..255. Received: {scale}.")
    if len(scale.mean) not in (1, shape[2]):
        raise UsageError(f"{name} takes gray faces, so its pixel scale has one mean and one std. Received: {scale}.")
    face_input = FaceInput(**beside["face_input"]) if beside else FaceInput(*shape)
    _check_sides(path, opened, face_input)
    kind = opened.tell_kind((face_input.height, face_input.width, face_input.channels), scale, path)
    if note:
        _say_once(note)
    loaded = EmotionClassifier(
        opened.adapted(scale, kind),
        name=name,
        classes=classes,
        face_input=face_input,
        temperature=float(beside.get("temperature", 1.0)),
        card=beside if "classes" in beside else None,
    )
    loaded.bare = BareFile(opened, scale, kind)
    return loaded


@functools.cache
def _say_once(note: str) -> None:
    # A warning, which Python shows where nobody has set up logging: wrong classes make every answer wrong.
    _log.warning(note)


def matched(classifier: Classifier, faces: FaceSet) -> tuple[FaceSet, Ask]:
    """Match a classifier to labelled faces.

    Returns:
        The faces, with the classes added that only the model has; and a function that predicts their probabilities in
        the order of these classes, uint8 (N, height, width, channels) -> float32 (N, K).

    Raises:
        ModelError: The data has classes that the model does not have.
        DatasetError: There are no faces, or they have another size than the model takes.
    """
    faces, columns = _with_classes_of(classifier, faces)
    _check_faces(classifier, faces)
    return faces, lambda images: classifier.predict_proba(images)[:, columns]


def _with_classes_of(classifier: Classifier, faces: FaceSet) -> tuple[FaceSet, list[int]]:
    """The faces with the classes added that only the model has, and the index of the output for each class."""
    outputs = [canonical(name) for name in classifier.classes]
    wanted = [canonical(name) for name in faces.classes]
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set(outputs):
        raise ModelError(
            f"The model {classifier.name} knows {', '.join(outputs)}; the data has {', '.join(wanted)}. "
            "The model must know every class of the data: choose another model or train one on this data."
        )
    absent = [name for name in outputs if name not in wanted]
    if absent:
        votes = None if faces.votes is None else np.pad(faces.votes, ((0, 0), (0, len(absent))))
        faces = replace(faces, classes=(*faces.classes, *absent), votes=votes)
    return faces, [outputs.index(name) for name in (*wanted, *absent)]


def _check_faces(classifier: Classifier, faces: FaceSet) -> None:
    if not len(faces):
        raise DatasetError(f"The split {faces.name} has no faces.")
    takes = classifier.face_input
    if faces.images.shape[1:] != (takes.height, takes.width, takes.channels):
        height, width, channels = faces.images.shape[1:]
        raise DatasetError(
            f"The model {classifier.name} takes faces of {takes.height}x{takes.width}x{takes.channels}; "
            f"the data has {height}x{width}x{channels}. Load it with load_dataset(..., size=, channels=)."
        )


def _opened_again(kind: type[EmotionClassifier], model: str, told: dict[str, Any], name: str) -> EmotionClassifier:
    opened = kind.load(model, **told)
    opened.name = name
    return opened
