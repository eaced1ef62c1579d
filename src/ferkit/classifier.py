"""A trained model: faces in, calibrated probabilities out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit import labels, model_folder
from ferkit.errors import ModelError
from ferkit.images import FaceInput
from ferkit.metrics import apply_temperature

Probabilities = npt.NDArray[np.float32]

# One network, whatever runs it: float32 or uint8 pixels 0..255 (N, height, width, channels) -> (N, classes).
Network = Callable[[npt.NDArray[np.uint8]], Probabilities]

# Large enough to keep all cores busy, small enough to stay within tens of megabytes of activations.
_BATCH = 256


class EmotionClassifier:
    """A network with what is needed to read its answers.

    name: where it came from. classes: names in output order. face_input: what it takes. temperature: divides the
    log-probabilities (Guo et al. 2017); 1 leaves them. card: the whole card; empty for a bare file.
    """

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

    def __repr__(self) -> str:
        return f"EmotionClassifier({self.name!r}, classes={self.classes}, face_input={self.face_input})"

    @classmethod
    def load(cls, model: str | Path = model_folder.DEFAULT, *, engine: str = "auto") -> "EmotionClassifier":
        """Load a model folder, the packaged default, or a bare `.keras` or `.h5` file.

        A bare file is taken by the tutorial's conventions: labels of FER-2013 in their order, pixels / 255 unless a
        scaling layer is inside. No code from a file is ever run.

        Args:
            model: folder, file or "default".
            engine: "onnx" (ONNX Runtime), "keras", or "auto": ONNX where the folder has it.

        Raises:
            ModelError: nothing there, damaged, or asking to run code.
        """
        path = model_folder.find(model)
        if path.is_file():
            return _load_bare(path)
        card = model_folder.read_card(path)
        use_onnx = engine == "onnx" or (engine == "auto" and model_folder.ONNX_FILE in card.get("sha256", {}))
        if use_onnx:
            network = onnx_network(model_folder.check_sum(path, model_folder.ONNX_FILE, card))
        else:
            network = keras_network(open_keras(model_folder.check_sum(path, model_folder.KERAS_FILE, card)))
        return cls(
            network,
            name=str(model),
            classes=tuple(card["classes"]),
            face_input=FaceInput(**card["face_input"]),
            temperature=float(card["temperature"]),
            card=card,
        )

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
        parts = [self.network(np.ascontiguousarray(faces[i : i + _BATCH])) for i in range(0, len(faces), _BATCH)]
        probabilities = np.concatenate(parts).astype(np.float32)
        if probabilities.shape != (len(faces), len(self.classes)):
            raise ModelError(
                f"{self.name} must give {len(self.classes)} numbers per face. Received: {probabilities.shape}."
            )
        sums = probabilities.sum(axis=1)
        if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
            raise ModelError(
                f"{self.name} does not give probabilities: rows sum to {sums.min():.3g}..{sums.max():.3g}."
            )
        return apply_temperature(probabilities, self.temperature).astype(np.float32)


def onnx_network(path: Path) -> Network:
    """Run a serving copy with ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # ONNX Runtime's errors share no base but Exception
        raise ModelError(f"{path} is not a network that ONNX Runtime can run.") from problem
    entry = session.get_inputs()[0]

    def run(faces: npt.NDArray[np.uint8]) -> Probabilities:
        pixels = faces if entry.type == "tensor(uint8)" else faces.astype(np.float32)
        try:
            result: Probabilities = session.run(None, {entry.name: pixels})[0]
        except Exception as problem:
            raise ModelError(f"{path} takes {entry.type} {entry.shape}. Received: {pixels.shape}.") from problem
        return result

    return run


def keras_network(model: Any, scale: float = 1.0) -> Network:
    """Run a `keras.Model`; `scale` multiplies the pixels for networks without a scaling layer."""

    def run(faces: npt.NDArray[np.uint8]) -> Probabilities:
        return np.asarray(model.predict_on_batch(faces.astype(np.float32) * np.float32(scale)), np.float32)

    return run


def open_keras(path: Path) -> Any:
    """Load a `.keras` or `.h5` file as a `keras.Model`, after looking that it asks for no code; else a `ModelError`."""
    from ferkit.keras_backend import load_keras

    model_folder.refuse_code(path)
    try:
        # Safe mode is Keras' default; it is written out because nothing else may ever stand here.
        return load_keras().saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise ModelError(f"Keras cannot load {path}: {first}") from problem


def _load_bare(path: Path) -> EmotionClassifier:
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ModelError(f"{path} is no model that ferkit reads. Expected a model folder, .keras or .h5.")
    model = open_keras(path)
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in (1, 3):
        raise ModelError(f"{path} must take pictures (N, height, width, 1 or 3). Received: {shape}.")
    outputs = model.output_shape[-1]
    if outputs != len(labels.EMOTIONS):
        raise ModelError(
            f"{path} has {outputs} outputs, and a bare file carries no class names: expected the "
            f"{len(labels.EMOTIONS)} of FER-2013. Use a model folder for other classes."
        )
    scaled_inside = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    return EmotionClassifier(
        keras_network(model, scale=1.0 if scaled_inside else 1 / 255),
        name=str(path),
        face_input=FaceInput(height=shape[1] or 48, width=shape[2] or 48, channels=shape[3]),
    )
