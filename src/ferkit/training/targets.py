"""The target of each face: its label, the voters' shares, the answer of teachers, or a mixture.

Ten views of 28,709 faces take minutes of a CPU, and every seed and trial of the same recipe needs the same answers, so
teachers are evaluated once: their answers are kept with the run, and in the cache for the next one.

A student that is shown an augmented face learns most from what the teacher says of that very view. For this there is a
bank: some fixed views of each face, and the answers to each, which are in the cache for all runs.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.devices import has_accelerator
from ferkit._support.files import blame, cache_folder, sweep, write_atomically
from ferkit._support.keras_backend import load_keras
from ferkit.data import Faces, FaceSet
from ferkit.errors import DatasetError, FerkitError, ModelError, TrainingError
from ferkit.labels import canonical
from ferkit.models import (
    FOLDS_FILE,
    Classifier,
    Ensemble,
    OutOfFold,
    StoredAnswers,
    apply_temperature,
    augmented,
    members_of,
    model_folder,
    open_classifier,
)
from ferkit.training.augmentation import Augmentation, augmenter
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
        raise DatasetError("votes_weight needs FER+ votes, but the data has none. Add them with --votes FILE.")
    return faces.votes


# Part of every key: raise it when the same teachers answer otherwise.
_VERSION = 2
# Faces that are augmented at once for the bank of views.
_FACES = 512


def open_teachers(config: TrainConfig, faces: FaceSet) -> list[Classifier]:
    """The teachers; raises `ModelError` for one that is not there, knows other classes or takes other faces."""
    teachers = [open_classifier(one, engine=_engine()) for one in config.teachers]
    for teacher in teachers:
        if sorted(map(canonical, teacher.classes)) != sorted(map(canonical, faces.classes)):
            raise ModelError(
                f"The teacher {teacher.name} knows {', '.join(teacher.classes)}; the data has {', '.join(faces.classes)}. "
                "A teacher must have the classes of the data: leave it out, or train it on this data."
            )
        takes, shape = teacher.face_input, faces.images.shape[1:]
        if isinstance(teacher, _KNOWS_FACES) and (takes.height, takes.width, takes.channels) != shape:
            raise ModelError(
                f"The teacher {teacher.name} knows faces of {takes.height}x{takes.width}x{takes.channels}; the data has "
                f"{'x'.join(map(str, shape))}. Train it on faces of the same size."
            )
    return teachers


_KNOWS_FACES = (OutOfFold, StoredAnswers)


def teachers_answers(
    teachers: Sequence[Classifier], config: TrainConfig, faces: FaceSet, views: Faces | None = None
) -> Targets:
    """Mean of the teachers' calibrated probabilities for each face, over the test-time views of `teacher_tta`.

    float32 (N, classes), in the order of the classes of the faces. Networks that were trained out of fold answer the
    faces that they did not see. From the cache, if these teachers were asked before.

    views: augmented faces, in place of the faces themselves.
    """
    images = faces.images if views is None else views
    cached = cache_folder() / "teachers" / f"{_key(config, faces, images)}.npy"
    with suppress(TrainingError, ValueError, OSError, EOFError):  # whatever is wrong with it, they are asked again
        if (answers := stored_answers(cached, faces)) is not None:
            return answers
    answers = np.mean([_answers(one, config.teacher_tta, faces, images) for one in teachers], axis=0)
    shares: Targets = (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32)
    with suppress(FerkitError, OSError):  # an unwritable cache costs time, never the run
        cached.parent.mkdir(parents=True, exist_ok=True)
        sweep(cached.parent)
        store_answers(shares, cached)
    return shares


def _answers(teacher: Classifier, tta: str | None, faces: FaceSet, images: Faces) -> npt.NDArray[np.floating[Any]]:
    known = [canonical(name) for name in teacher.classes]
    columns = [known.index(canonical(name)) for name in faces.classes]
    if isinstance(teacher, _KNOWS_FACES):
        asked = augmented(teacher, tta)
        assert isinstance(asked, _KNOWS_FACES)  # noqa: S101 - for mypy: they are augmented by themselves
        return asked.answers(images, faces.images)[:, columns]
    # An ensemble, for it brings faces to the size that a teacher takes.
    return augmented(Ensemble([teacher]), tta).predict_proba(images)[:, columns]


def view_bank(
    teachers: Sequence[Classifier], config: TrainConfig, faces: FaceSet, say: Callable[[str], object]
) -> tuple[list[Faces], list[Targets]]:
    """The `teacher_views` of each face, memory-mapped uint8 (N, height, width, channels), and the answers to each.

    Views follow from their number and the augmentation, so all runs share them, and a bank that was cut off, or is of
    fewer views, is gone on with. Raises `TrainingError` if the cache folder cannot hold them.
    """
    about = [config.to_dict()["augmentation"], faces.images.shape]
    digest = hashlib.sha256(json.dumps(about).encode())
    digest.update(np.ascontiguousarray(faces.images).data)
    folder = cache_folder() / "views" / digest.hexdigest()[:32]
    with blame(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    views, answers = [], []
    for number in range(config.teacher_views):
        file = folder / f"{number}.npy"
        if not file.is_file():
            with write_atomically(file, TrainingError) as draft, draft.open("wb") as opened:
                np.save(opened, _view(faces.images, config.augmentation, number))
        views.append(np.load(file, mmap_mode="r", allow_pickle=False))
        say(f"View {number + 1} of {config.teacher_views}, in {folder}")
        answers.append(teachers_answers(teachers, config, faces, views[-1]))
    return views, answers


def _view(images: Faces, augmentation: Augmentation, number: int) -> Faces:
    layer = augmenter(augmentation, seed=number)
    ops = load_keras().ops
    parts = (layer(images[start : start + _FACES], training=True) for start in range(0, len(images), _FACES))
    varied = np.concatenate([ops.convert_to_numpy(part) for part in parts])
    return np.asarray(np.rint(np.clip(varied, 0, 255)), np.uint8)


def stored_answers(file: Path, faces: FaceSet) -> Targets | None:
    """Answers that were kept; None where there are none. Raises `TrainingError` for those of other faces."""
    if not file.is_file():
        return None
    answers: Targets = np.load(file, allow_pickle=False)
    if answers.shape != (len(faces), len(faces.classes)):
        raise TrainingError(f"{file} contains predictions for other faces: {answers.shape}. Start a new run.")
    return answers


def store_answers(answers: Targets, file: Path) -> None:
    """Keep them, so that a resumed run needs no teachers and learns the very same."""
    with write_atomically(file, TrainingError) as draft, draft.open("wb") as opened:
        np.save(opened, answers)


def _engine() -> str:
    # ONNX Runtime is the faster one on a processor, and has nothing else here.
    return "keras" if has_accelerator() else "auto"


def _key(config: TrainConfig, faces: FaceSet, images: Faces) -> str:
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
    for one in (faces.images, images):
        digest.update(np.ascontiguousarray(one).data)
    return digest.hexdigest()[:32]


def _identity(teacher: str) -> str:
    """A checksum of all that a model's answers follow from."""
    if (folds := Path(teacher) / FOLDS_FILE).is_file():
        parts = [hashlib.sha256(folds.read_bytes()).hexdigest(), *map(_identity, members_of(teacher))]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = model_folder.find(teacher)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    card = model_folder.read_card(path)
    about = [card.get(name) for name in ("sha256", "temperature", "classes", "face_input", "prior", "sensitivity")]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
