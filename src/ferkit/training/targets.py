"""Labels with less noise in them: what label faces with such votes bear on average.

Of two faces that look alike FER-2013 calls one sad and the other neutral, and a network has to learn one of these by
heart. Ten voters tell which faces look alike; the shares of the labels among them are a target that is right on average
and does not jump.

What the network is asked to answer to each face: its label, the voters' shares, what other models say, or a mixture.

What other models say of the training faces: asked once, kept with the run and in the cache for the next one.

Ten views of 28,709 faces take minutes of a processor, and every seed and trial of the same recipe would ask again.
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
from ferkit.models import EmotionClassifier, Ensemble, apply_temperature, model_folder, predict_proba
from ferkit.training.config import TrainConfig

# Of the fit, which is as good as done then; log loss on PublicTest moves by less than 0.001 from 100 to 400.
_STEPS = 200
_RIDGE = 1e-3


def labels_by_votes(votes: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """P(label | votes) of each face, float32 (N, classes), rows sum to 1.

    votes: shares, float32 (N, classes). labels: (N,).
    Multinomial logistic regression on the votes, their roots and products in pairs, fitted to these very faces by
    Newton steps with a fixed bound of the Hessian (Böhning 1992), which needs no step size and always goes down. It has
    36 numbers a class, too few to learn single faces by heart.
    """
    classes = votes.shape[1]
    seen = _features(votes.astype(np.float64))
    truth = np.eye(classes)[labels]
    step = 2 * np.linalg.inv(seen.T @ seen + _RIDGE * np.eye(seen.shape[1])) @ seen.T
    weights = np.zeros((seen.shape[1], classes))
    for _ in range(_STEPS):
        weights += step @ (truth - _softmax(seen @ weights))
    found: npt.NDArray[np.float32] = _softmax(seen @ weights).astype(np.float32)
    return found


def _features(votes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, classes) -> (N, 1 + 2 x classes + pairs)."""
    first, second = np.triu_indices(votes.shape[1], 1)
    return np.hstack([np.ones((len(votes), 1)), votes, np.sqrt(votes), votes[:, first] * votes[:, second]])


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


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
        softer = apply_temperature(taught, config.teacher_temperature)
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


def _one_hot(faces: FaceSet) -> Targets:
    return np.eye(len(faces.classes), dtype=np.float32)[faces.labels]


def _smoothed(targets: Targets, share: float) -> Targets:
    smoothed: Targets = targets * (1 - share) + share / targets.shape[1]
    return smoothed


def _votes(faces: FaceSet, wanted_by: str) -> Targets:
    if faces.votes is None:
        raise DatasetError(f"{wanted_by} asks for FER+ votes, and the data has none. Give them with --votes.")
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
    answers = predict_proba(teachers, faces.images, config.teacher_tta)[:, columns]
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
    parts = [card.get(name) for name in ("sha256", "temperature", "classes", "face_input")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
