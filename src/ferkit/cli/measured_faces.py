"""The faces that commands measure models on: the options that ask for them, split as the models were trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ferkit.cli.console import notes

if TYPE_CHECKING:
    from ferkit.classifier import EmotionClassifier
    from ferkit.datasets import Dataset, FaceSet
    from ferkit.ensemble import Ensemble

Split = Annotated[
    str, typer.Option(help="Training, PublicTest, PrivateTest, train, val, test or all. Without a test split: val.")
]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes to join to the data.")]
Truth = Annotated[
    str, typer.Option(help="What is right: labels, or votes: the voters' first choice, on faces that have one.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave unreadable faces out.")]


@dataclass(frozen=True)
class MeasuredFaces:
    """The data as it was asked for. load: `load_dataset` with everything but size, channels and split."""

    name: str
    split: str
    truth: str
    load: "Callable[..., Dataset]"

    def faces_for(
        self, classifier: "EmotionClassifier | Ensemble", others: "Sequence[EmotionClassifier]" = ()
    ) -> "tuple[FaceSet, list[str]]":
        """The faces to measure a model on, in the size that it takes, and what must be said about them.

        others: models that are measured on the same faces: the splits are such that none of all was trained on them.
        """
        takes = classifier.face_input
        cards = [one.card for one in (*getattr(classifier, "members", [classifier]), *others)]
        with notes.status(f"Reading {escape(self.name)}"):
            dataset, messages = self._split_as_trained(cards, size=(takes.height, takes.width), channels=takes.channels)
        messages += [f"Note: {note}" for note in dataset.notes]
        faces = dataset.split(self.split)
        if self.truth == "votes":
            faces, note = faces.by_votes()
            messages.append(f"Note: {note}")
        return faces, messages

    def _split_as_trained(self, cards: Sequence[Mapping[str, Any]], **shape: Any) -> "tuple[Dataset, list[str]]":
        """The data in its published splits; in the random ones if the model was trained on these. With a warning, if due.

        A model that was trained on a random split has seen most of the published test split.
        """
        source = Path(self.name).name
        trained = [card.get("training", {}).get("data", {}) for card in cards]
        trained = [one for one in trained if one.get("source") == source]
        prints = {one["fingerprint"] for one in trained}
        dataset = published = self.load(**shape)
        if prints and published.fingerprint not in prints:
            for drop_duplicates in (False, True):
                at_random = self.load(**shape, split="random", drop_duplicates=drop_duplicates)
                if at_random.fingerprint in prints:
                    dataset = at_random
                    break
        others = [one for one in trained if one["fingerprint"] != dataset.fingerprint]
        if any(dataset is not published or set(one["faces"]) != set(dataset.splits) for one in others):
            return dataset, [
                f"Warning: the model was trained on other splits of {source}, so it may have seen the faces it is "
                "measured on."
            ]
        return dataset, []
