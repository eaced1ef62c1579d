"""The faces that commands measure models on: the options that ask for them, split as the models were trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ferkit.cli.console import notes

if TYPE_CHECKING:
    from ferkit.data import Dataset, FaceSet
    from ferkit.models import EmotionClassifier, Ensemble
    from ferkit.sources import FaceInput

Split = Annotated[
    str, typer.Option(help="Training, PublicTest, PrivateTest, train, val, test or all. Without a test split: val.")
]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes to join to the data.")]
Truth = Annotated[
    str, typer.Option(help="What is right: labels, or votes: the voters' first choice, on faces that have one.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave unreadable faces out.")]


# How `load_dataset` makes splits.
_Way = tuple[tuple[str, Any], ...]
_PUBLISHED: _Way = ()
_WAYS: tuple[_Way, ...] = (_PUBLISHED, (("split", "random"),), (("split", "random"), ("drop_duplicates", True)))


@dataclass(frozen=True)
class MeasuredFaces:
    """The data as it was asked for. load: `load_dataset` with everything but size, channels and split."""

    name: str
    split: str
    truth: str
    load: "Callable[..., Dataset]"

    def faces_for(self, *classifiers: "EmotionClassifier | Ensemble") -> "tuple[list[FaceSet], list[str]]":
        """The same faces for each model, in the size that it takes, and what must be said about them.

        The splits are those that the models were trained on: the published ones, or the random ones where some model knows
        these and none the published. A model that was trained on a random split has seen most of the published test split.
        """
        members = [member for one in classifiers for member in getattr(one, "members", [one])]
        loaded = _Loaded(self.load)
        with notes.status(f"Reading {escape(self.name)}"):
            ways = {id(one): self._trained_in(one, loaded) for one in members}
            known = [way for way in ways.values() if way is not None]
            way = known[0] if known and _PUBLISHED not in known else _PUBLISHED
            datasets = [loaded(way, one.face_input) for one in classifiers]
        first = datasets[0]
        messages = []
        if any(self._may_have_seen(one, ways[id(one)], way, first) for one in members):
            messages.append(
                f"Warning: the model was trained on other splits of {Path(self.name).name}, so it may have seen the faces "
                "it is measured on."
            )
        messages += [f"Note: {note}" for note in first.notes]
        sets = [one.split(self.split) for one in datasets]
        if self.truth == "votes":
            both = [one.by_votes() for one in sets]
            sets = [faces for faces, _ in both]
            messages.append(f"Note: {both[0][1]}")
        return sets, messages

    def _trained_on(self, model: "EmotionClassifier") -> Mapping[str, Any] | None:
        """What a model's card says about this data; None where it was trained on other data."""
        from ferkit.models import model_folder

        trained = model_folder.trained_on(model.card)
        return trained if trained.get("source") == Path(self.name).name else None

    def _trained_in(self, model: "EmotionClassifier", loaded: "_Loaded") -> _Way | None:
        """The splits that a model was trained on, None if they are none of this data's."""
        trained = self._trained_on(model)
        if trained is None:
            return None
        # A fingerprint is of the faces as the model takes them.
        return next((way for way in _WAYS if loaded(way, model.face_input).fingerprint == trained["fingerprint"]), None)

    def _may_have_seen(
        self, model: "EmotionClassifier", trained_in: _Way | None, way: _Way, dataset: "Dataset"
    ) -> bool:
        from ferkit.data import are_published, may_share_faces
        from ferkit.models import model_folder

        if any(may_share_faces(data, dataset) for data in model_folder.learnt_from(model.card)):
            return True
        trained = self._trained_on(model)
        if trained is None or trained_in == way:
            return False
        # Published splits stay what they are, also in a copy of the data that lacks one of them. Those drawn at random are
        # others after every change of the data.
        if way == _PUBLISHED and are_published(trained["faces"]) and are_published(dataset.splits):
            return False
        if way != _PUBLISHED or set(trained["faces"]) != set(dataset.splits):
            return True
        return dataset.split(self.split).name != "test"


@dataclass(frozen=True)
class _Loaded:
    """The data in any splits and size, each read once."""

    load: "Callable[..., Dataset]"
    known: "dict[tuple[_Way, tuple[int, int, int]], Dataset]" = field(default_factory=dict)

    def __call__(self, way: _Way, takes: "FaceInput") -> "Dataset":
        shape = (takes.height, takes.width, takes.channels)
        if (way, shape) not in self.known:
            self.known[way, shape] = self.load(size=shape[:2], channels=shape[2], **dict(way))
        return self.known[way, shape]
