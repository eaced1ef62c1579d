"""The faces that models are evaluated on: of the splits they were trained with, so that none is asked about what it knows.

A random split drawn again is another split: a model that was trained on the old one has seen most of the new test
faces. The card of a model tells the fingerprint of the splits it was trained on; where it fits none, a warning is
logged.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ferkit.data import TRUTHS, Dataset, FaceSet, are_published, load_dataset, may_share_faces
from ferkit.errors import DatasetError, UsageError
from ferkit.models import TTA, Classifier, model_folder
from ferkit.sources import FaceInput

_log = logging.getLogger(__name__)

Data = FaceSet | Dataset | str | Path
Progress = Callable[[str, int, int], None]

# How `load_dataset` makes splits.
_Way = tuple[tuple[str, Any], ...]
_PUBLISHED: _Way = ()
_WAYS: tuple[_Way, ...] = (_PUBLISHED, (("split", "random"),), (("split", "random"), ("drop_duplicates", True)))


def check_options(*, tta: str | None, truth: str, votes: Path | None = None, data: Data = "") -> None:
    """Raise `UsageError` for options that do not fit, before minutes of loading."""
    if tta is not None:
        TTA[tta]
    if truth not in TRUTHS:
        raise UsageError(f"Unknown truth {truth!r}. Choices: {', '.join(TRUTHS)}.")
    if truth != "labels" and votes is None and isinstance(data, str | Path):
        raise UsageError(f"--truth {truth} needs the votes: add --votes FILE.")


def faces_for(
    classifiers: Sequence[Classifier],
    data: Data,
    *,
    split: str,
    truth: str,
    votes: Path | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> list[FaceSet]:
    """The same faces for each classifier, in the size that it takes.

    Faces that are given are taken as they are. Of data named by its path the splits are those that the models were
    trained on: the published ones, or the random ones where some model knows these and none the published. What must be
    said about them is logged.
    """
    if isinstance(data, FaceSet):
        sets = [data] * len(classifiers)
    elif isinstance(data, Dataset):
        sets = [_faces_of(data, split)] * len(classifiers)
    else:
        loaded_as = "ferplus" if truth == "ferplus" else "labels"
        load = partial(load_dataset, data, votes=votes, truth=loaded_as, skip_broken=skip_broken, progress=progress)
        sets = [_faces_of(one, split) for one in _Source(str(data), split, _Loaded(load)).datasets(classifiers)]
    if truth == "ferplus" and any(one.truth != truth for one in sets):
        raise UsageError("These faces have other labels than FER+'s eight. Load them with votes= and truth='ferplus'.")
    if truth == "votes":
        both = [one.by_votes() for one in sets]
        sets = [faces for faces, _ in both]
        _log.info("Note: %s", both[0][1])
    return sets


def _faces_of(dataset: Dataset, split: str) -> FaceSet:
    faces = dataset.split(split)
    if not len(faces):
        there = [name for name, one in dataset.splits.items() if len(one)]
        raise DatasetError(
            f"The split {faces.name} of {dataset.source} has no faces. Evaluate another: --split {' or '.join(there)}."
        )
    return faces


@dataclass(frozen=True)
class _Loaded:
    """The data in any splits and size, each read once."""

    load: Callable[..., Dataset]
    known: dict[tuple[_Way, tuple[int, int, int]], Dataset] = field(default_factory=dict)

    def __call__(self, way: _Way, takes: FaceInput) -> Dataset:
        shape = (takes.height, takes.width, takes.channels)
        if (way, shape) not in self.known:
            self.known[way, shape] = self.load(size=shape[:2], channels=shape[2], **dict(way))
        return self.known[way, shape]


@dataclass(frozen=True)
class _Source:
    """Data by its path, and the split that is asked for."""

    name: str
    split: str
    loaded: _Loaded

    def datasets(self, classifiers: Sequence[Classifier]) -> list[Dataset]:
        members = [member for one in classifiers for member in getattr(one, "members", [one])]
        ways = {id(one): self._trained_in(one) for one in members}
        known = [way for way in ways.values() if way is not None]
        way = known[0] if known and _PUBLISHED not in known else _PUBLISHED
        datasets = [self.loaded(way, one.face_input) for one in classifiers]
        if any(self._may_have_seen(one, ways[id(one)], way, datasets[0]) for one in members):
            _log.warning(
                "Warning: the model was trained on other splits of %s, so it may have seen the faces it is measured on.",
                Path(self.name).name,
            )
        for note in datasets[0].notes:
            _log.info("Note: %s", note)
        return datasets

    def _trained_on(self, model: Classifier) -> Mapping[str, Any] | None:
        """What a model's card says about this data; None where it was trained on other data."""
        trained = model_folder.trained_on(_card(model))
        return trained if trained.get("source") == Path(self.name).name else None

    def _trained_in(self, model: Classifier) -> _Way | None:
        """The splits that a model was trained on, None if they are none of this data's."""
        trained = self._trained_on(model)
        if trained is None:
            return None
        # Cards of today say how the data was split; those of before do not, so every way is tried.
        split = trained.get("split_by", {}).get("split")
        ways = [way for way in _WAYS if split in (None, dict(way).get("split", "official"))]
        # A fingerprint is of the faces as the model takes them.
        fingerprint = trained["fingerprint"]
        return next((way for way in ways if self.loaded(way, model.face_input).fingerprint == fingerprint), None)

    def _may_have_seen(self, model: Classifier, trained_in: _Way | None, way: _Way, dataset: Dataset) -> bool:
        if any(may_share_faces(data, dataset) for data in model_folder.learnt_from(_card(model))):
            return True
        trained = self._trained_on(model)
        if trained is None or trained_in == way:
            return False
        # Published splits stay what they are, also in a copy of the data that lacks one of them. Those drawn at random
        # are others after every change of the data.
        if way == _PUBLISHED and are_published(trained["faces"]) and are_published(dataset.splits):
            return False
        if way != _PUBLISHED or set(trained["faces"]) != set(dataset.splits):
            return True
        return dataset.split(self.split).name != "test"


def _card(model: Classifier) -> dict[str, Any]:
    """What a classifier says of itself; nothing where it is one of a user's own."""
    card = getattr(model, "card", None)
    return card if isinstance(card, dict) else {}
