"""Whether an exported network answers as the original does, on a thousand stored faces.

A trained network in other formats, each compared with the original before it is left on disk.

An exported file stands on its own: it carries a card (`ferkit.models.model_files` says where), and `EmotionClassifier.load`
reads it as it reads a model folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferkit._support.files import write_atomically
from ferkit.errors import ModelError, UsageError
from ferkit.models import model_folder
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.engines import Network, Probabilities, keras_network, onnx_network, open_keras
from ferkit.models.export_formats import (
    FORMATS,
    Faces,
    Original,
    real_looking_faces,
    serving_graph,
    stored_faces,
)
from ferkit.models.model_files import KERAS_SUFFIXES
from ferkit.sources import FaceInput

# Greatest difference of a probability between a network and its export (float32 rounding is about 1e-6).
TOLERANCE = 1e-4
# What eight bits may cost. Drawn faces are hard to name, so many are close calls: on photographed faces the labels agree
# more often than here, and the accuracy falls by 0.3 points at most.
MEAN_TOLERANCE, LEAST_AGREEMENT = 0.02, 0.95


@dataclass(frozen=True)
class Parity:
    """How far two networks are apart: over `faces` faces, differences of probabilities, 0 to 1.

    agreement: share of faces on which the most probable class is the same. rounded: whether the exported network
    computes in eight bits, where a mean and an agreement are asked for instead of a greatest difference.
    """

    faces: int
    max_difference: float
    mean_difference: float
    agreement: float
    rounded: bool = False

    @property
    def problem(self) -> str | None:
        """What is wrong, in half a sentence; None if nothing is. NaN is wrong."""
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
    """Compare float32 (N, classes) with the same of an export."""
    difference = np.abs(original - exported)
    same = original.argmax(axis=1) == exported.argmax(axis=1)
    return Parity(len(original), float(difference.max()), float(difference.mean()), float(same.mean()), rounded)


_BATCH = 100
# Faces whose activations an eight-bit network is fitted to; more change nothing.
_CALIBRATION = 512


def export(model: str | Path, path: Path, format_name: str, *, calibration: Faces | None = None) -> Parity:
    """Write a stored model in another format; returns how far its answers are from the original's.

    Args:
        model: model folder, "default", or a `.keras` or `.h5` file.
        path: file to write; it ends as the format wants it.
        format_name: one of `FORMATS`.
        calibration: uint8 (N, height, width, channels), faces like those that will come; `onnx-int8` fits the range of
            its numbers to them. None: faces that come with ferkit.

    Raises:
        UsageError: no such format, or a file name of another one. ModelError: the model cannot be read, or the export
        differs by more than its format may; nothing is written then.
    """
    return write(open_original(model), path, format_name, calibration=calibration)


def write(original: Original, path: Path, format_name: str, *, calibration: Faces | None = None) -> Parity:
    """`export` of a model that is open already."""
    chosen = FORMATS[format_name]
    check_name(path, format_name)
    face_input = original.classifier.face_input
    if calibration is None:
        calibration = real_looking_faces(face_input, _CALIBRATION)
    spread = np.linspace(0, len(calibration) - 1, min(len(calibration), _CALIBRATION)).astype(int)
    with write_atomically(path, ModelError) as draft:
        chosen.write(original, draft, calibration[spread])
        # Read as any user reads it: this checks the card as well.
        exported = EmotionClassifier.load(draft)
        faces = stored_faces(face_input)
        answers = (one.predict_proba(faces) for one in (original.classifier, exported))
        return _checked(compare(*answers, rounded=chosen.rounded), path)


def check_name(path: Path, format_name: str) -> None:
    """Refuse a file name that a format cannot have: readers go by the suffix. `UsageError` also for no such format."""
    suffix = FORMATS[format_name].suffix
    if path.suffix != suffix:
        raise UsageError(f"A file of format {format_name} ends in {suffix}. Received: {path.name}.")


def to_onnx(model: Any, face_input: FaceInput, path: Path) -> float:
    """Write the serving copy of a `keras.Model` for a model folder: the network alone, probabilities as they are.

    Takes uint8 faces (N, height, width, channels) of exactly the network's size. Returns the greatest difference to the
    original over the stored faces.

    Raises:
        ModelError: the two differ by more than `TOLERANCE`; nothing is written then.
        MissingDependencyError: no TensorFlow, which the conversion goes through.
    """
    with write_atomically(path, ModelError) as draft:
        serving_graph(model, draft)
        faces = stored_faces(face_input)
        found = compare(_answers(keras_network(model), faces), _answers(onnx_network(draft), faces))
        return _checked(found, path).max_difference


def open_original(model: str | Path) -> Original:
    """A model folder or a `.keras` or `.h5` file, ready to be exported."""
    path = model_folder.find(model)
    if path.is_file() and path.suffix not in KERAS_SUFFIXES:
        raise ModelError(f"{path} cannot be exported: it is an export. Take the model folder that it was made from.")
    return Original(EmotionClassifier.load(model, engine="keras"))


def open_network(model: str | Path) -> Any:
    """The plain `keras.Model` of a model folder or file."""
    path = model_folder.find(model)
    if path.is_dir():
        path = model_folder.check_sum(path, model_folder.KERAS_FILE, model_folder.read_card(path))
    return open_keras(path)


def _checked(found: Parity, path: Path) -> Parity:
    if found.problem:
        raise ModelError(f"{path} would not answer as its original: {found.problem}. Not written.")
    return found


def _answers(network: Network, faces: Faces) -> Probabilities:
    return np.concatenate([network(faces[i : i + _BATCH]) for i in range(0, len(faces), _BATCH)])
