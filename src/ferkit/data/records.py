"""The records of the room: a data set in memory, its splits, and before them what readers look at and produce."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import DatasetError, UsageError
from ferkit.sources import Opened, Tree

Faces = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

# What a label may be, and what to call it: the one that came with the face, what most people saw in it among the same
# classes, or FER+ as the literature has it.
TRUTHS = {"labels": "", "votes": "FER+ majority labels", "ferplus": "FER+ majority of eight classes"}

# The names FER-2013 was published with, and what everyone else calls those parts.
SPLIT_ALIASES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}


@dataclass(frozen=True)
class FaceSet:
    """Labelled faces of one split.

    images: uint8 (N, height, width, channels), channels 1 or 3 (RGB); may be memory-mapped and read-only.
    labels: int64 (N,), index into `classes`.
    classes: class names in model order.
    name: name of the split as published, e.g. "PublicTest".
    votes: float32 (N, len(classes)) soft targets whose rows sum to 1, or None.
    duplicate: bool (N,), True where the same pixels already stand in another split that comes first (Training before
        PublicTest before PrivateTest) or earlier in this one: the faces left out of a score "without duplicates".
    voted: bool (N,), False where nobody voted for any of the classes and `votes` holds the label instead; None where
        every row of `votes` is of votes.
    truth: what `labels` are, one of `TRUTHS`.
    rows: int64 (N,), position of each face in its source, from 0 and broken ones counted; None where nobody knows.
    together: uint64 (N,), equal for faces that no split may part: those of a person, where the source names people.
        None where only copies of a face belong together.
    """

    images: Faces
    labels: Labels
    classes: tuple[str, ...]
    name: str
    votes: npt.NDArray[np.float32] | None = None
    duplicate: npt.NDArray[np.bool_] | None = None
    voted: npt.NDArray[np.bool_] | None = None
    truth: str = "labels"
    rows: npt.NDArray[np.int64] | None = None
    together: npt.NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DatasetError(
                f"images must be uint8 (N, height, width, channels). Received: {self.images.dtype} {self.images.shape}."
            )
        if self.labels.shape != (n,):
            raise DatasetError(f"{n} images need labels of shape ({n},). Received: {self.labels.shape}.")
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise DatasetError(f"labels must be 0 to {len(self.classes) - 1}. Received: {np.unique(self.labels)}.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counts(self) -> dict[str, int]:
        """Faces per class."""
        counted = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counted, strict=True)}

    def select(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64], name: str | None = None) -> "FaceSet":
        """The faces that a mask or an index array picks."""
        return replace(
            self,
            images=self.images[which],
            labels=self.labels[which],
            name=name or self.name,
            votes=None if self.votes is None else self.votes[which],
            duplicate=None if self.duplicate is None else self.duplicate[which],
            voted=None if self.voted is None else self.voted[which],
            rows=None if self.rows is None else self.rows[which],
            together=None if self.together is None else self.together[which],
        )

    @property
    def strata(self) -> Labels:
        """What is spread evenly over splits, int64 (N,): the classes; of people, who have faces of several, nothing."""
        return self.labels if self.together is None else np.zeros_like(self.labels)

    @property
    def inseparable(self) -> npt.NDArray[np.uint64]:
        """Equal for faces that no split may part, uint64 (N,): those of a person, or copies of a face."""
        return pixel_prints(self.images) if self.together is None else self.together

    def by_votes(self) -> tuple["FaceSet", str]:
        """The faces with what most voters saw as their labels, and a note on those that are left out.

        Left out are faces without a vote for any of the classes, and faces whose voters were tied for the first place:
        they have no majority label, and any rule would make one up. Raises `DatasetError` where there are no votes.

        >>> votes = np.array([[0.7, 0.3], [0.5, 0.5]], np.float32)
        >>> faces = FaceSet(np.zeros((2, 4, 4, 1), np.uint8), np.array([1, 1]), ("happy", "sad"), "val", votes)
        >>> faces.by_votes()[0].labels.tolist()
        [0]
        """
        first = self.has_first_choice
        assert self.votes is not None  # noqa: S101 - for mypy; without votes the line above raised
        nobody = 0 if self.voted is None else int((~self.voted).sum())
        note = (
            f"Labels are the FER+ majority labels. Left out of {len(self):,} faces of {self.name}: "
            f"{nobody:,} without a vote for any class, {len(self) - int(first.sum()) - nobody:,} with a tie."
        )
        labels = self.votes[first].argmax(axis=1).astype(np.int64)
        return replace(self.select(first), labels=labels, truth="votes"), note

    @property
    def has_first_choice(self) -> npt.NDArray[np.bool_]:
        """Where one class has more votes than any other, bool (N,): the faces that `by_votes` keeps."""
        if self.votes is None:
            raise DatasetError(f"{self.name} has no FER+ votes. Load them with votes= (--votes FILE).")
        alone = (self.votes == self.votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return np.asarray(alone if self.voted is None else alone & self.voted)


@dataclass(frozen=True)
class Broken:
    """One row or picture that cannot be used.

    where: "row 17" as an editor numbers lines, or the path of a picture.
    reason: what came and what was expected.
    """

    where: str
    reason: str

    @property
    def kind(self) -> str:
        """What to call it: "row" or "image"."""
        return "row" if re.match(r"(row|line) \d+($| \()", self.where) else "image"


@dataclass(frozen=True)
class Findings:
    """What is repeated in a data set.

    within: split name -> faces whose pixels stand earlier in the same split.
    across: (earlier split, later split) -> faces of the later one whose pixels stand in the earlier one.
    redundant: faces that repeat an earlier one of the whole set.
    conflicts: groups of identical faces that carry more than one label; each is a list of (split, class name) pairs.
    """

    within: Mapping[str, int]
    across: Mapping[tuple[str, str], int]
    redundant: int
    conflicts: Sequence[Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Dataset:
    """Faces by split, with what a reader of the figures must know.

    splits: split name as published -> faces, in order Training, PublicTest, PrivateTest (or train, val, test).
    source: where it came from, for people.
    fingerprint: SHA-256 over pixels, labels and split of all faces, hex: same data, same print.
    notes: sentences about what was done or is missing, e.g. that there is no PrivateTest.
    broken: rows or pictures left out because they could not be read.
    findings: duplicates and conflicting labels; None for a set that was not searched for them.
    split_by: how faces came into their splits: `split`, `seed`, `held_out` (share that was drawn at random), `faces`
        (how many were split) and `splitter` (version of the way). Empty where nobody knows.
    """

    splits: Mapping[str, FaceSet]
    classes: tuple[str, ...]
    source: str
    fingerprint: str
    notes: Sequence[str] = field(default_factory=tuple)
    broken: Sequence[Broken] = ()
    findings: Findings | None = None
    split_by: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> FaceSet:
        """One split by its published name or by train, val, test, all.

        `test` of a set without PrivateTest is its held-out validation split (the notes say so).

        Raises `UsageError` for a name that no split has, `DatasetError` for one that this set has not.
        """
        if name == "all":
            return concatenate(list(self.splits.values()), "all")
        published_as = {published: alias for alias, published in SPLIT_ALIASES.items()}
        for candidate in (name, SPLIT_ALIASES.get(name, name), published_as.get(name, name)):
            if candidate in self.splits:
                return self.splits[candidate]
        if name == "test":
            return self.split("val")
        synonyms = {**SPLIT_ALIASES, **published_as}
        there = ", ".join(f"{one} (or {synonyms[one]})" if one in synonyms else one for one in self.splits)
        if name not in synonyms:
            choices = ", ".join(f"{published} (or {alias})" for alias, published in SPLIT_ALIASES.items())
            raise UsageError(f"Unknown split {name!r}. Choices: {choices}, all. {self.source} has: {there}.")
        raise DatasetError(f"{self.source} has no split {name!r}. It has: {there}, all.")

    @property
    def train(self) -> FaceSet:
        return self.split("train")

    @property
    def val(self) -> FaceSet:
        return self.split("val")

    @property
    def test(self) -> FaceSet:
        """PrivateTest or `test`; where there is none, the validation split."""
        return self.split("test")


def concatenate(sets: Sequence[FaceSet], name: str) -> FaceSet:
    """One set of all faces of several, in order."""
    with_votes = all(one.votes is not None for one in sets)
    marked = all(one.duplicate is not None for one in sets)
    placed = all(one.rows is not None for one in sets)
    # Where a set does not say who was voted on, all of its faces were.
    voted = [np.ones(len(one), np.bool_) if one.voted is None else one.voted for one in sets]
    return FaceSet(
        images=np.concatenate([one.images for one in sets]),
        labels=np.concatenate([one.labels for one in sets]),
        classes=sets[0].classes,
        name=name,
        votes=np.concatenate([one.votes for one in sets if one.votes is not None]) if with_votes else None,
        duplicate=np.concatenate([one.duplicate for one in sets if one.duplicate is not None]) if marked else None,
        voted=np.concatenate(voted) if with_votes and any(one.voted is not None for one in sets) else None,
        truth=sets[0].truth,
        rows=np.concatenate([one.rows for one in sets if one.rows is not None]) if placed else None,
        together=None
        if any(one.together is None for one in sets)
        else np.concatenate([one.inseparable for one in sets]),
    )


# What is being done, how much of it is done, and how much there is in all (bytes or pictures).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DataFile:
    """A file that holds many faces, itself the source or inside one.

    open: context manager that yields the unpacked stream and how far the packed bytes are read.
    size: packed bytes in all.
    path: its path or address, or None if it is inside an archive.
    """

    name: str
    open: Callable[[], Opened]
    size: int
    path: str | None = None

    def head(self, count: int = 1 << 16) -> bytes:
        with self.open() as (stream, _):
            return stream.read(count)


@dataclass(frozen=True)
class Source:
    """What readers look at: the files that may hold many faces, and the single pictures."""

    name: str
    size: int
    files: Sequence[DataFile]
    tree: Tree | None = None
    pictures: Sequence[str] = ()


@dataclass(frozen=True)
class Batch:
    """Some faces in source order.

    images: uint8 (N, height, width, channels); the same height, width and channels in all batches of a reading.
    labels: int64 (N,), index into the reading's classes.
    splits: N names of splits as published; "" where the source has none.
    rows: int64 (N,), position in the source counting broken ones too, from 0: what votes are joined by.
    done: how far the source is read, in the unit of `Reading.total`.
    people: whom each face shows, "" where nobody is named; none at all where the source names nobody.
    """

    images: Faces
    labels: Labels
    splits: Sequence[str]
    rows: npt.NDArray[np.int64]
    broken: Sequence[Broken] = ()
    done: int = 0
    people: Sequence[str] = ()


@dataclass(frozen=True)
class Reading:
    """A source being read: its form (a name of `READERS`), its classes, and its faces as they come.

    `notes`, and `classes` where they are a list, may change while the batches are drawn.
    """

    form: str
    classes: Sequence[str]
    batches: Iterable[Batch]
    total: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FaceTable:
    """Every usable face of a source.

    images: uint8 (N, height, width, channels), perhaps memory-mapped.
    labels: int64 (N,), index into `classes`.
    splits: int64 (N,), index into `split_names` ("" is a source without splits).
    rows: int64 (N,), position in the source, broken ones counted.
    prints: uint64 (N,), `pixel_prints` of the images.
    together: uint64 (N,), equal for faces of one person, where the source names people; else `prints`.
    form: name of the reader, e.g. "csv".
    """

    images: Faces
    labels: Labels
    splits: npt.NDArray[np.int64]
    split_names: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    prints: npt.NDArray[np.uint64]
    together: npt.NDArray[np.uint64]
    classes: tuple[str, ...]
    form: str
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()


def pixel_prints(images: Faces) -> npt.NDArray[np.uint64]:
    """The first 64 bits of SHA-256 of each image's pixels, uint64 (N,): equal prints, equal pixels.

    Among ten million different faces the chance of one false match is 3 in a million.
    """
    # Processors have instructions for SHA-256, which makes it several times as fast here as BLAKE2.
    joined = b"".join(_sha256(memoryview(image).cast("B")) for image in np.ascontiguousarray(images))
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def _sha256(pixels: memoryview) -> bytes:
    # Of up to 2,047 bytes hashlib keeps the interpreter's lock; to hand it over for each face, and wait to have it
    # back, takes far longer than to hash a face.
    digest = hashlib.sha256(pixels[:2047])
    digest.update(pixels[2047:])
    return digest.digest()[:8]
