"""What the network is asked to answer to each face: its label, the voters' shares, what other models say, or a mixture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit.classifier import EmotionClassifier
from ferkit.datasets.records import FaceSet
from ferkit.errors import DatasetError, ModelError, TrainingError
from ferkit.files import write_atomically
from ferkit.labels import canonical
from ferkit.recipes import TrainConfig
from ferkit.tta import predict_proba

Targets = npt.NDArray[np.float32]


def training_targets(faces: FaceSet, config: TrainConfig, taught: Targets | None = None) -> Targets:
    """Targets of training faces, float32 (N, classes), rows sum to 1; with two heads (N, 2 x classes), votes last.

    taught: the teachers' answers, (N, classes).
    Smoothing goes into the targets, not into the loss, so that the validation loss stays a plain log loss.
    """
    labels = _one_hot(faces)
    if faces.votes is not None and not config.votes_weight:
        labels = faces.votes
    smoothed = _smoothed(labels, config.label_smoothing)
    if taught is not None:
        # The teachers' answers are soft already.
        softer = taught ** (1 / config.teacher_temperature)
        softer /= softer.sum(axis=1, keepdims=True)
        smoothed = (1 - config.teacher_share) * smoothed + config.teacher_share * softer
    if not config.votes_weight:
        return smoothed
    return np.concatenate([smoothed, _votes(faces)], axis=1)


def validation_targets(faces: FaceSet, config: TrainConfig) -> Targets:
    """Targets of held-out faces: the labels as they are, with two heads the votes beside them."""
    labels = _one_hot(faces)
    return np.concatenate([labels, _votes(faces)], axis=1) if config.votes_weight else labels


def open_teachers(names: Sequence[str], faces: FaceSet) -> list[EmotionClassifier]:
    """The teachers; raises `ModelError` for one that is not there, knows other classes or takes other faces."""
    teachers = [EmotionClassifier.load(name) for name in names]
    for teacher in teachers:
        _columns(teacher, faces)
        takes = teacher.face_input
        if faces.images.shape[1:] != (takes.height, takes.width, takes.channels):
            raise ModelError(
                f"The teacher {teacher.name} takes faces of {takes.height}x{takes.width}x{takes.channels}; the data has "
                f"{'x'.join(map(str, faces.images.shape[1:]))}. A teacher must take the same faces."
            )
    return teachers


def teachers_answers(teachers: Sequence[EmotionClassifier], faces: FaceSet, stored: Path) -> Targets:
    """Mean of the teachers' calibrated probabilities for each face and its mirror image, float32 (N, classes).

    Kept in `stored`, so that a resumed run asks for the very same. Raises `TrainingError` if that is of other faces.
    """
    if stored.is_file():
        answers: Targets = np.load(stored, allow_pickle=False)
        if answers.shape != (len(faces), len(faces.classes)):
            raise TrainingError(f"{stored} holds answers to other faces: {answers.shape}. Start a new run.")
        return answers
    total = np.zeros((len(faces), len(faces.classes)), np.float64)
    for teacher in teachers:
        columns = _columns(teacher, faces)
        total += predict_proba(teacher, faces.images, "flip")[:, columns]
    answers = (total / total.sum(axis=1, keepdims=True)).astype(np.float32)
    with write_atomically(stored, TrainingError) as draft, draft.open("wb") as file:
        np.save(file, answers)
    return answers


def _columns(teacher: EmotionClassifier, faces: FaceSet) -> list[int]:
    """Which output of the teacher belongs to each class of the faces."""
    known, wanted = [canonical(name) for name in teacher.classes], [canonical(name) for name in faces.classes]
    if sorted(known) != sorted(wanted):
        raise ModelError(
            f"The teacher {teacher.name} knows {', '.join(known)}; the data has {', '.join(wanted)}. "
            "A teacher must have the classes of the data: leave it out, or train it on this data."
        )
    return [known.index(name) for name in wanted]


def _one_hot(faces: FaceSet) -> Targets:
    return np.eye(len(faces.classes), dtype=np.float32)[faces.labels]


def _smoothed(targets: Targets, share: float) -> Targets:
    smoothed: Targets = targets * (1 - share) + share / targets.shape[1]
    return smoothed


def _votes(faces: FaceSet) -> Targets:
    if faces.votes is None:
        raise DatasetError("votes_weight asks for a head on FER+ votes, and the data has none. Give them with --votes.")
    return faces.votes
