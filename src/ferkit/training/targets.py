"""What the network is asked to answer to each face: its label, the voters' shares, what other models say, or a mixture."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit import metrics
from ferkit.classifier import EmotionClassifier
from ferkit.datasets.records import FaceSet
from ferkit.denoising import labels_by_votes
from ferkit.devices import has_accelerator
from ferkit.ensemble import Ensemble
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
    if faces.votes is not None and not (config.votes_weight or config.denoise):
        labels = faces.votes
    smoothed = _smoothed(labels, config.label_smoothing)
    if config.denoise:
        expected = labels_by_votes(_votes(faces, "denoise"), faces.labels)
        smoothed = (1 - config.denoise) * smoothed + config.denoise * expected
    if taught is not None:
        # The teachers' answers are soft already.
        softer = metrics.apply_temperature(taught, config.teacher_temperature)
        smoothed = (1 - config.teacher_share) * smoothed + config.teacher_share * softer
    if not config.votes_weight:
        return smoothed
    return np.concatenate([smoothed, _votes(faces, "votes_weight")], axis=1)


def check_targets(faces: FaceSet, config: TrainConfig) -> None:
    """Raise `DatasetError` where a target is asked for that the data does not have."""
    for name in ("votes_weight", "denoise"):
        if getattr(config, name):
            _votes(faces, name)


def validation_targets(faces: FaceSet, config: TrainConfig) -> Targets:
    """Targets of held-out faces: the labels as they are, with two heads the votes beside them."""
    labels = _one_hot(faces)
    return np.concatenate([labels, _votes(faces, "votes_weight")], axis=1) if config.votes_weight else labels


def open_teachers(config: TrainConfig, faces: FaceSet) -> Ensemble | None:
    """The teachers; raises `ModelError` for one that is not there, knows other classes or takes other faces."""
    if not config.teachers:
        return None
    # ONNX Runtime is the faster one on a processor, and has nothing else here.
    engine = "keras" if has_accelerator() else "auto"
    teachers = Ensemble([EmotionClassifier.load(one, engine=engine) for one in config.teachers])
    for teacher in teachers.members:
        if sorted(map(canonical, teacher.classes)) != sorted(map(canonical, faces.classes)):
            raise ModelError(
                f"The teacher {teacher.name} knows {', '.join(teacher.classes)}; the data has {', '.join(faces.classes)}. "
                "A teacher must have the classes of the data: leave it out, or train it on this data."
            )
    return teachers


def teachers_answers(teachers: Ensemble, config: TrainConfig, faces: FaceSet) -> Targets:
    """Mean of the teachers' calibrated probabilities for each face, over the views of `teacher_tta`.

    float32 (N, classes), in the order of the classes of the faces.
    """
    known = [canonical(name) for name in teachers.classes]
    columns = [known.index(canonical(name)) for name in faces.classes]
    answers = predict_proba(teachers, faces.images, config.teacher_tta)[:, columns]
    shares: Targets = (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def stored_answers(file: Path, faces: FaceSet) -> Targets | None:
    """The answers that a run to be resumed has kept; None if it has none. Raises `TrainingError` for those of other faces."""
    if not file.is_file():
        return None
    answers: Targets = np.load(file, allow_pickle=False)
    if answers.shape != (len(faces), len(faces.classes)):
        raise TrainingError(f"{file} holds answers to other faces: {answers.shape}. Start a new run.")
    return answers


def store_answers(answers: Targets, file: Path) -> None:
    """Keep them, so that a resumed run needs no teachers and learns the very same."""
    with write_atomically(file, TrainingError) as draft, draft.open("wb") as opened:
        np.save(opened, answers)


def _one_hot(faces: FaceSet) -> Targets:
    return np.eye(len(faces.classes), dtype=np.float32)[faces.labels]


def _smoothed(targets: Targets, share: float) -> Targets:
    smoothed: Targets = targets * (1 - share) + share / targets.shape[1]
    return smoothed


def _votes(faces: FaceSet, wanted_by: str) -> Targets:
    if faces.votes is None:
        raise DatasetError(f"{wanted_by} asks for FER+ votes, and the data has none. Give them with --votes.")
    return faces.votes
