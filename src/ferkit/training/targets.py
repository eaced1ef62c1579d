"""The target of each face: its label, the voters' shares, the answer of teachers, or a mixture.

Ten views of 28,709 faces take minutes of a CPU, and every seed and trial of the same recipe needs the same answers, so
teachers are evaluated once: their answers are kept with the run, and in the cache for the next one.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit._support.devices import has_accelerator
from ferkit._support.files import cache_folder, sweep, write_atomically
from ferkit.data import FaceSet
from ferkit.errors import DatasetError, FerkitError, ModelError, TrainingError
from ferkit.labels import canonical
from ferkit.models import EmotionClassifier, Ensemble, apply_temperature, augmented, model_folder
from ferkit.training.config import TrainConfig

Targets = npt.NDArray[np.float32]


def training_targets(faces: FaceSet, config: TrainConfig, distilled: Targets | None = None) -> Targets:
    """Targets of training faces, float32 (N, classes), rows sum to 1; with two heads (N, 2 x classes), votes last.

    distilled: the teachers' answers, (N, classes).
    Smoothing goes into the targets, not into the loss, so that the validation loss stays a plain log loss.
    """
    labels = _one_hot(faces)
    if faces.votes is not None and not config.votes_weight:
        labels = faces.votes
    smoothed = _smoothed(labels, config.label_smoothing)
    if distilled is not None:
        # The teachers' answers are soft already.
        softer = apply_temperature(distilled, config.teacher_temperature)
        smoothed = (1 - config.teacher_share) * smoothed + config.teacher_share * softer
    if not config.votes_weight:
        return smoothed
    return np.concatenate([smoothed, _votes(faces)], axis=1)


def check_targets(faces: FaceSet, config: TrainConfig) -> None:
    """Raise `DatasetError` where a target is asked for that the data does not have."""
    if config.votes_weight:
        _votes(faces)


def validation_targets(faces: FaceSet, config: TrainConfig) -> Targets:
    """Targets of held-out faces: the labels as they are, with two heads the votes beside them."""
    labels = _one_hot(faces)
    return np.concatenate([labels, _votes(faces)], axis=1) if config.votes_weight else labels


def _one_hot(faces: FaceSet) -> Targets:
    return np.eye(len(faces.classes), dtype=np.float32)[faces.labels]


def _smoothed(targets: Targets, share: float) -> Targets:
    smoothed: Targets = targets * (1 - share) + share / targets.shape[1]
    return smoothed


def _votes(faces: FaceSet) -> Targets:
    if faces.votes is None:
        raise DatasetError("votes_weight asks for FER+ votes, and the data has none. Give them with --votes.")
    return faces.votes


# Part of every key: raise it when the same teachers answer otherwise.
_VERSION = 1


def open_teachers(config: TrainConfig, faces: FaceSet) -> Ensemble | None:
    """The teachers; raises `ModelError` for one that is not there, knows other classes or takes other faces."""
    if not config.teachers:
        return None
    teachers = Ensemble([EmotionClassifier.load(one, engine=_engine()) for one in config.teachers])
    for teacher in teachers.members:
        if sorted(map(canonical, teacher.classes)) != sorted(map(canonical, faces.classes)):
            raise ModelError(
                f"The teacher {teacher.name} knows {', '.join(teacher.classes)}; the data has {', '.join(faces.classes)}. "
                "A teacher must have the classes of the data: leave it out, or train it on this data."
            )
    return teachers


def teachers_answers(teachers: Ensemble, config: TrainConfig, faces: FaceSet) -> Targets:
    """Mean of the teachers' calibrated probabilities for each face, over the views of `teacher_tta`.

    float32 (N, classes), in the order of the classes of the faces. From the cache, if these teachers were asked before.
    """
    cached = cache_folder() / "teachers" / f"{_key(config, faces)}.npy"
    with suppress(TrainingError, ValueError, OSError, EOFError):  # whatever is wrong with it, they are asked again
        if (answers := stored_answers(cached, faces)) is not None:
            return answers
    known = [canonical(name) for name in teachers.classes]
    columns = [known.index(canonical(name)) for name in faces.classes]
    answers = augmented(teachers, config.teacher_tta).predict_proba(faces.images)[:, columns]
    shares: Targets = (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32)
    with suppress(FerkitError, OSError):  # an unwritable cache costs time, never the run
        cached.parent.mkdir(parents=True, exist_ok=True)
        sweep(cached.parent)
        store_answers(shares, cached)
    return shares


def stored_answers(file: Path, faces: FaceSet) -> Targets | None:
    """Answers that were kept; None where there are none. Raises `TrainingError` for those of other faces."""
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


def _engine() -> str:
    # ONNX Runtime is the faster one on a processor, and has nothing else here.
    return "keras" if has_accelerator() else "auto"


def _key(config: TrainConfig, faces: FaceSet) -> str:
    """By what decides the answers: the teachers' files and cards, the views, the pixels of the faces, their classes."""
    about = [
        _VERSION,
        _engine(),
        config.teacher_tta,
        *faces.classes,
        faces.images.shape,
        *map(_identity, config.teachers),
    ]
    digest = hashlib.sha256(json.dumps(about).encode())
    digest.update(np.ascontiguousarray(faces.images).data)
    return digest.hexdigest()[:32]


def _identity(teacher: str) -> str:
    """A checksum of all that a model's answers follow from."""
    path = model_folder.find(teacher)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    card = model_folder.read_card(path)
    parts = [card.get(name) for name in ("sha256", "temperature", "classes", "face_input", "prior", "sensitivity")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
