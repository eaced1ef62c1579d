"""What the network is asked to answer to each face: its label, the voters' shares, what other models say, or a mixture."""

import numpy as np
import numpy.typing as npt

from ferkit import metrics
from ferkit.datasets.records import FaceSet
from ferkit.denoising import labels_by_votes
from ferkit.errors import DatasetError
from ferkit.recipes import TrainConfig

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


def _one_hot(faces: FaceSet) -> Targets:
    return np.eye(len(faces.classes), dtype=np.float32)[faces.labels]


def _smoothed(targets: Targets, share: float) -> Targets:
    smoothed: Targets = targets * (1 - share) + share / targets.shape[1]
    return smoothed


def _votes(faces: FaceSet, wanted_by: str) -> Targets:
    if faces.votes is None:
        raise DatasetError(f"{wanted_by} asks for FER+ votes, and the data has none. Give them with --votes.")
    return faces.votes
