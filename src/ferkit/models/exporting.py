"""Export of trained models to other formats, each compared with the original on a thousand stored faces.

An exported file carries its card (`ferkit.models.model_files` says where), so `EmotionClassifier.load` reads it like a
model folder.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferkit._support.files import blame, write_atomically
from ferkit.data import load_dataset
from ferkit.errors import ModelError, UsageError, count
from ferkit.models import model_folder
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.engines import Network, Probabilities, onnx_network
from ferkit.models.export_formats import (
    FORMATS,
    Faces,
    Format,
    Original,
    kind_of_face,
    real_looking_faces,
    serving_graph,
    stored_faces,
)
from ferkit.models.keras_files import KerasNetwork, open_keras
from ferkit.sources import FaceInput

# Maximum difference of a probability between a network and its export (float32 rounding is about 1e-6).
TOLERANCE = 1e-4
# The same for int8. Many of the synthetic faces are close calls: on photographs the labels agree more often than here,
# and the accuracy falls by at most 0.3 percentage points.
MEAN_TOLERANCE, LEAST_AGREEMENT = 0.02, 0.95


@dataclass(frozen=True)
class Largest:
    """Where two networks differ most.

    Attributes:
        face: Index of the face.
        column: Index of the class.
        original: Its probability there, of the original.
        exported: The same of the export.
        labels: Indices of the classes that the two predict for this face.
        surest_change: Confidence of the original on the most confident face whose class changed; None if none did.
    """

    face: int
    column: int
    original: float
    exported: float
    labels: tuple[int, int]
    surest_change: float | None


@dataclass(frozen=True)
class Parity:
    """Difference between the predictions of two networks.

    Attributes:
        faces: Number of faces compared.
        max_difference: Maximum difference of a probability.
        mean_difference: Mean difference of the probabilities.
        agreement: Share of faces with the same predicted class.
        rounded: Whether the export is an int8 network, which is held to the mean difference and the agreement instead
            of the maximum difference.
        largest: Where the difference is largest.
    """

    faces: int
    max_difference: float
    mean_difference: float
    agreement: float
    rounded: bool = False
    largest: Largest | None = None

    def explain(self, classes: Sequence[str]) -> str:
        """Where the largest difference is, and what the differences mean for the predicted classes, in two sentences."""
        if self.largest is None:
            return ""
        one, kind = self.largest, kind_of_face(self.largest.face, self.faces)
        before, after = (classes[label] for label in one.labels)
        label = f"its class stays {before}" if before == after else f"its class changes from {before} to {after}"
        changed = round(self.faces * (1 - self.agreement))
        means = (
            "No class changes."
            if one.surest_change is None
            else (
                f"The class changes on {count(changed, 'face')}; the original's confidence there is at most "
                f"{one.surest_change:.0%}."
            )
        )
        return (
            f"Largest difference: {classes[one.column]} {one.original:.2f} -> {one.exported:.2f} on face {one.face} of the "
            f"check, {kind}; {label}. {means}"
        )

    @property
    def problem(self) -> str | None:
        """Why the export is rejected, or None. NaN is rejected."""
        if self.rounded:
            good = self.mean_difference <= MEAN_TOLERANCE and self.agreement >= LEAST_AGREEMENT
            limit = f"at most {MEAN_TOLERANCE:g} on average, and {LEAST_AGREEMENT:.0%} of the labels"
        else:
            good, limit = self.max_difference <= TOLERANCE, f"at most {TOLERANCE:g}"
        return None if good else f"{self}; allowed: {limit}"

    def __str__(self) -> str:
        largest = f"probabilities differ by at most {self.max_difference:.2g}"
        if not self.rounded:
            return f"{largest} on {self.faces:,} faces"
        return f"{largest}, {self.mean_difference:.2g} on average, {self.agreement:.1%} of {self.faces:,} labels agree"


def compare(original: Probabilities, exported: Probabilities, *, rounded: bool = False) -> Parity:
    """Compare the probabilities of a network and of its export, float32 (N, classes)."""
    difference = np.abs(original - exported)
    labels = original.argmax(axis=1), exported.argmax(axis=1)
    same = labels[0] == labels[1]
    face, column = (int(one) for one in np.unravel_index(difference.argmax(), difference.shape))
    largest = Largest(
        face,
        column,
        float(original[face, column]),
        float(exported[face, column]),
        (int(labels[0][face]), int(labels[1][face])),
        None if same.all() else float(original[~same].max()),
    )
    mean = float(difference.mean())
    return Parity(len(original), float(difference.max()), mean, float(same.mean()), rounded, largest)


_BATCH = 100
# Faces that an int8 network is calibrated on; more change nothing.
_CALIBRATION = 512


@dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
        path: The file.
        format: Its format, a name in `FORMATS`.
        parity: How far its predictions are from the original's.
        instructions: Five lines of Python that use the file without ferkit.
        explanation: Of an int8 file: where the difference is largest, and what it means for the predicted classes.
    """

    path: Path
    format: str
    parity: Parity
    instructions: str
    explanation: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit export`."""
        return {
            "file": str(self.path),
            "format": self.format,
            "bytes": sum(one.stat().st_size for one in (self.path, *self.path.glob("*")) if one.is_file()),
            "faces": self.parity.faces,
            "max_difference": self.parity.max_difference,
            "mean_difference": self.parity.mean_difference,
            "agreement": self.parity.agreement,
            "run": self.instructions,
            "explanation": self.explanation,
        }


def export(
    model: str | Path,
    path: str | Path,
    format_name: str,
    *,
    calibration: Faces | str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
) -> Export:
    """Export a model to ONNX, int8 ONNX, LiteRT, Keras or HDF5, or make a model folder of a bare file.

    The predictions of the file are compared with the original's on a thousand stored faces before it is written.

    Args:
        model: Model folder, "default", or a `.keras` or `.h5` file; for a folder also a bare `.onnx` file.
        path: File to write, with the suffix of the format, or a new folder.
        format_name: One of `FORMATS`: onnx, onnx-int8, onnx-fixed, litert, keras, h5 or folder.
        calibration: For `onnx-int8`: faces that are typical of later input, uint8 (N, height, width, channels), or a
            data set, whose training faces are taken. None takes faces that come with ferkit.
        classes: Names in the order of the outputs of a bare file; see `EmotionClassifier.load`.
        pixel_scale: Pixels that a bare file was trained on: "0..1", "-1..1", "0..255" or "mean,std".

    Returns:
        The export, with the differences that were measured.

    Raises:
        UsageError: Unknown format, a suffix of another format, or a `calibration` that the format does not need.
        ModelError: The model cannot be read, or its export differs by more than the format may. Nothing is written
            then.
        MissingDependencyError: A package that writes the format is not installed.

    Example:
        exported = ferkit.export("runs/mine", "emotions.onnx", "onnx")
        print(exported.parity.max_difference)
    """
    path, chosen = Path(path), FORMATS[format_name]
    if chosen.suffix and path.suffix != chosen.suffix:
        raise UsageError(f"A file of format {format_name} ends in {chosen.suffix}. Received: {path.name}.")
    if calibration is not None and not chosen.rounded:
        raise UsageError(f"Only int8 formats are calibrated on faces (--data). Leave them out for {format_name}.")
    original = _open_original(model, chosen, classes, pixel_scale)
    faces = _calibration_faces(calibration, original.classifier.face_input)
    with write_atomically(path, ModelError) if chosen.suffix else _drafted_folder(path) as draft:
        chosen.write(original, draft, faces)
        # Loaded as any user loads it, which checks the card too.
        exported = EmotionClassifier.load(draft)
        stored = stored_faces(original.classifier.face_input)
        predictions = (one.predict_proba(stored) for one in (original.classifier, exported))
        found = compare(*predictions, rounded=chosen.rounded)
        explanation = found.explain(original.classifier.classes) if chosen.rounded else ""
        hint = " Calibrate it on faces like yours: --data DATA." if chosen.rounded and calibration is None else ""
        parity = _checked(found, path, f" {explanation}{hint}".rstrip())
    return Export(path, format_name, parity, chosen.instructions(path, original), explanation)


def _calibration_faces(given: Faces | str | Path | None, face_input: FaceInput) -> Faces:
    """The faces that an int8 network is calibrated on, at most `_CALIBRATION`, spread evenly over those given."""
    if given is None:
        return real_looking_faces(face_input, _CALIBRATION)
    faces: Faces
    if isinstance(given, str | Path):
        size = face_input.height, face_input.width
        faces = load_dataset(given, size=size, channels=face_input.channels).train.images
    else:
        faces = given
    chosen: Faces = faces[np.linspace(0, len(faces) - 1, min(len(faces), _CALIBRATION)).astype(int)]
    return chosen


def to_onnx(model: Any, face_input: FaceInput, path: Path) -> float:
    """Write the serving copy of a `keras.Model` for a model folder: the network alone, without its temperature.

    Args:
        model: The `keras.Model`.
        face_input: The faces that it takes. The copy takes uint8 faces of exactly this size.
        path: The `.onnx` file to write.

    Returns:
        The maximum difference of a probability over the stored faces.

    Raises:
        ModelError: The two differ by more than `TOLERANCE`. Nothing is written then.
        MissingDependencyError: TensorFlow, which converts the model, is not installed.
    """
    with write_atomically(path, ModelError) as draft:
        serving_graph(model, draft)
        faces = stored_faces(face_input)
        found = compare(_answers(KerasNetwork(model), faces), _answers(onnx_network(draft), faces))
        return _checked(found, path).max_difference


@contextmanager
def _drafted_folder(path: Path) -> Iterator[Path]:
    """A new folder that appears when all of it is there."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} is there already. Name a new folder.")
    with blame(path, ModelError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as room:
            draft = Path(room) / path.name
            draft.mkdir()
            yield draft
            if path.exists():
                path.rmdir()
            draft.replace(path)


def _open_original(
    model: str | Path, chosen: Format, classes: str | Sequence[str] | None, pixel_scale: str | None
) -> Original:
    """A model folder or a `.keras` or `.h5` file, ready to be exported; a bare `.onnx` file becomes a folder."""
    path = model_folder.find(model)
    classifier = EmotionClassifier.load(model, engine="keras", classes=classes, pixel_scale=pixel_scale)
    if isinstance(classifier.network, KerasNetwork):
        return Original(classifier, path)
    if classifier.bare is None or path.suffix.lower() != ".onnx":
        raise ModelError(f"{path} cannot be exported: it is an export. Use the model folder that it was made from.")
    if chosen.suffix:
        raise ModelError(f"{path} has no Keras network to export. Make a model folder of it: --format folder")
    return Original(classifier, path)


def open_network(model: str | Path) -> Any:
    """The plain `keras.Model` of a model folder or file."""
    path = model_folder.find(model)
    if path.is_dir():
        card = model_folder.read_card(path)
        return open_keras(model_folder.check_sum(path, model_folder.KERAS_FILE, card))
    return open_keras(path)


def _checked(found: Parity, path: Path, hint: str = "") -> Parity:
    if found.problem:
        raise ModelError(
            f"Export check failed, {path} not written: its predictions differ from the original's: {found.problem}.{hint}"
        )
    return found


def _answers(network: Network, faces: Faces) -> Probabilities:
    return np.concatenate([network(faces[i : i + _BATCH]) for i in range(0, len(faces), _BATCH)])
