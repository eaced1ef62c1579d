"""From one table of faces to a data set: which face is for training, which is held out, and what to say about it.

FER-2013 was collected by web search, so the same picture came in more than once, now and then under two labels. A
held-out face that also stands in training makes a score better than it is. Every split that is drawn here keeps copies
of a face (identical pixels) together; those between published splits are counted.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data.records import SPLIT_ALIASES, Dataset, FaceSet, FaceTable, Findings
from ferkit.data.votes import Votes
from ferkit.errors import DatasetError, UsageError

Prints = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def repeats(prints: Prints) -> npt.NDArray[np.bool_]:
    """True where the same print stands earlier, bool (N,)."""
    seen_before = np.ones(len(prints), bool)
    seen_before[np.unique(prints, return_index=True)[1]] = False
    return seen_before


def find_duplicates(
    prints: Sequence[Prints], labels: Sequence[npt.NDArray[np.int64]], names: Sequence[str], classes: Sequence[str]
) -> Findings:
    """Compare all faces of all splits, given in the splits' order."""
    across = {
        (names[a], names[b]): int(np.isin(prints[b], prints[a]).sum()) for b in range(len(names)) for a in range(b)
    }
    return Findings(
        within={name: int(repeats(one).sum()) for name, one in zip(names, prints, strict=True)},
        across={pair: count for pair, count in across.items() if count},
        redundant=int(repeats(np.concatenate(prints)).sum()),
        conflicts=_conflicts(prints, labels, names, classes),
    )


def _conflicts(
    prints: Sequence[Prints], labels: Sequence[npt.NDArray[np.int64]], names: Sequence[str], classes: Sequence[str]
) -> list[list[tuple[str, str]]]:
    joined, label = np.concatenate(prints), np.concatenate(labels)
    split = np.repeat(np.arange(len(prints)), [len(one) for one in prints])
    repeated = np.isin(joined, joined[repeats(joined)])
    groups: dict[int, list[tuple[int, int]]] = {}
    for key, where, which in zip(joined[repeated], split[repeated], label[repeated], strict=True):
        groups.setdefault(int(key), []).append((int(where), int(which)))
    return [
        [(names[where], classes[which]) for where, which in group]
        for group in groups.values()
        if len({which for _, which in group}) > 1
    ]


# Raise it when the same faces are split otherwise: cards and folders of folds say by which version they were.
SPLITTER = 2


def hold_out(prints: Prints, labels: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which faces to hold out, bool (N,): a share of the different faces of each class, copies of a face together.

    A class of two or more different faces keeps at least one on each side, a class of one is trained on.

    >>> hold_out(np.array([1, 2, 3, 3], np.uint64), np.array([0, 0, 1, 1]), 0.5, seed=42).tolist()
    [False, True, False, False]
    """
    held_out, copy_of, classes = _shuffled(prints, labels, seed)
    for members in classes:
        number = round(share * len(members))
        if len(members) > 1:
            number = min(max(number, 1), len(members) - 1)
        held_out[members[:number]] = 1
    return np.asarray(held_out[copy_of] == 1)


def assign_folds(prints: Prints, labels: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each face, int64 (N,), 0 to folds - 1: every class spread evenly, copies of a face together."""
    fold, copy_of, classes = _shuffled(prints, labels, seed)
    start = 0
    for members in classes:
        # Classes do not all begin at the first fold, which would then be the largest.
        fold[members] = (np.arange(len(members)) + start) % folds
        start += len(members)
    return fold[copy_of]


def _shuffled(prints: Prints, labels: npt.NDArray[np.int64], seed: int) -> tuple[Indices, Indices, list[Indices]]:
    """The one way of splitting: a zero for each different face, the different face of each face, those of each class at random.

    Different faces stand in the order of their first copies, whose labels they have.
    """
    _, first, copy_of = np.unique(prints, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(first), np.int64)
    place[order] = np.arange(len(first))
    label_of, rng = labels[first[order]], np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(label_of == label)) for label in np.unique(label_of)]
    return np.zeros(len(first), np.int64), place[copy_of], classes


SPLITS = {
    "official": "the splits that the data set was published with",
    "random": "80 % train, 20 % val at random in each class, as in the tutorial",
}
HELD_OUT_OF_ALL = 0.2
HELD_OUT_OF_TRAINING = 0.1

_ORDER = [name for pair in zip(SPLIT_ALIASES.values(), SPLIT_ALIASES, strict=True) for name in pair]
_TRAINING = ("Training", "train")


def are_published(names: Iterable[str]) -> bool:
    """Whether all of these splits are those that FER-2013 was published with: no face ever goes from one to another."""
    return set(names) <= set(SPLIT_ALIASES.values())


def is_of(trained: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a card speaks of this data set, packed and split in whatever way. trained: as `may_share_faces` takes it."""
    stems = [Path(str(one)).name.split(".")[0] for one in (trained.get("source"), dataset.source)]
    return trained.get("fingerprint") == dataset.fingerprint or stems[0] == stems[1]


def may_share_faces(trained: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a model may have learnt faces that this data set holds out, because it was split in another way then.

    trained: what the model's card says of its data, under `training.data`.
    """
    if trained.get("fingerprint") == dataset.fingerprint or not is_of(trained, dataset):
        return False
    # The same way of splitting as many faces holds out the same ones, in whatever size they are seen.
    if dataset.split_by and trained.get("split_by") == dict(dataset.split_by):
        return False
    return not (are_published(trained.get("faces", ())) and are_published(dataset.splits))


def make_dataset(
    table: FaceTable,
    source: str,
    *,
    split: str = "official",
    drop_duplicates: bool = False,
    votes: Votes | None = None,
    notes: Sequence[str] = (),
    seed: int = 42,
    truth: str = "labels",
) -> Dataset:
    """Split a table. `votes`: on all of its faces, in their order. truth: what its labels are."""
    if split not in SPLITS:
        raise UsageError(f"Unknown split {split!r}. Choices: {', '.join(SPLITS)}.")
    if not len(table.images):
        broken = table.broken
        first = f" {len(broken):,} are invalid; {broken[0].where}: {broken[0].reason}." if broken else ""
        raise DatasetError(f"{source} holds no usable face.{first} Expected at least one row or picture with a label.")
    said = [*table.notes, *notes]
    parts, held_out = _random(table, said, seed) if split == "random" else _official(table, said, seed)
    if drop_duplicates:
        parts = _without_leaks(table, parts, said)
    for name, indices in parts.items():
        missing = [table.classes[c] for c in set(range(len(table.classes))) - set(table.labels[indices].tolist())]
        if missing:
            said.append(f"{name} has no face of: {', '.join(sorted(missing))}.")

    joined = np.concatenate(list(parts.values()))
    duplicate = repeats(table.prints[joined])
    splits = {}
    start = 0
    for name, indices in parts.items():
        splits[name] = FaceSet(
            images=_pick(table.images, indices),
            labels=table.labels[indices],
            classes=table.classes,
            name=name,
            votes=None if votes is None else votes.targets[indices],
            voted=None if votes is None else votes.given[indices],
            duplicate=duplicate[start : start + len(indices)],
            rows=table.rows[indices],
            together=table.together[indices] if _names_people(table) else None,
            truth=truth,
        )
        start += len(indices)
    return Dataset(
        splits=splits,
        classes=table.classes,
        source=source,
        fingerprint=_fingerprint(table, parts),
        split_by={
            "split": split,
            "seed": seed,
            "held_out": held_out,
            "faces": len(table.images),
            "splitter": SPLITTER,
        },
        notes=tuple(said),
        broken=table.broken,
        findings=find_duplicates(
            [table.prints[one] for one in parts.values()],
            [table.labels[one] for one in parts.values()],
            list(parts),
            table.classes,
        ),
    )


def _official(table: FaceTable, notes: list[str], seed: int) -> tuple[dict[str, Indices], float]:
    """The faces of each split, and the share that was held out here because none was published."""
    if table.split_names == ("",):
        notes.append("The source has no splits of its own.")
        return _random(table, notes, seed)
    names = sorted(table.split_names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    parts = {name: np.flatnonzero(table.splits == table.split_names.index(name)) for name in names}
    share = 0.0
    has = {alias: name for alias, published in SPLIT_ALIASES.items() for name in (alias, published) if name in parts}
    if "train" in has and "val" not in has:
        name, share = has["train"], HELD_OUT_OF_TRAINING
        trained, held_out = _held_out(table, parts[name], share, seed)
        parts = {name: trained, "val": held_out, **{one: parts[one] for one in parts if one != name}}
        of = "people" if _names_people(table) else "each class"
        notes.append(
            f"There is no validation split: {len(held_out):,} faces ({share:.0%} of {of} of {name}, seed {seed}) are held "
            "out as val."
        )
        if "test" not in has:
            notes.append("There is no test split either: test means val.")
    elif "train" in has and "test" not in has:
        untouched = SPLIT_ALIASES["test"] if has["val"] == SPLIT_ALIASES["val"] else "test"
        notes.append(f"There is no {untouched}: test means {has['val']}, the split that models are chosen on.")
    elif "train" not in has:
        notes.append("There is no training split: this set can be evaluated, not trained on.")
    return parts, share


def _random(table: FaceTable, notes: list[str], seed: int) -> tuple[dict[str, Indices], float]:
    train, val = _held_out(table, np.arange(len(table.labels)), HELD_OUT_OF_ALL, seed)
    copies = int(repeats(table.prints).sum())
    together = f" Copies of a face stay together ({copies:,} repeat an earlier face)." if copies else ""
    of = "of the people" if _names_people(table) else "of each class"
    notes.append(
        f"Split at random: {len(train):,} faces train, {len(val):,} val ({HELD_OUT_OF_ALL:.0%} {of}, seed "
        f"{seed}).{together}"
    )
    return {"train": train, "val": val}, HELD_OUT_OF_ALL


def _names_people(table: FaceTable) -> bool:
    return not np.array_equal(table.together, table.prints)


def _held_out(table: FaceTable, indices: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """The indices kept and those held out, each in ascending order."""
    labels = table.labels[indices]
    # A person has faces of several classes, so whole people are drawn.
    strata = np.zeros_like(labels) if _names_people(table) else labels
    chosen = hold_out(table.together[indices], strata, share, seed)
    return indices[~chosen], indices[chosen]


def _without_leaks(table: FaceTable, parts: dict[str, Indices], notes: list[str]) -> dict[str, Indices]:
    name = next((one for one in _TRAINING if one in parts), None)
    if name is None:
        notes.append("There is no training split to drop duplicates from.")
        return parts
    training = table.prints[parts[name]]
    held_out = [table.prints[indices] for other, indices in parts.items() if other != name]
    leaks = np.isin(training, np.concatenate(held_out)) if held_out else np.zeros(len(training), bool)
    again = repeats(training) & ~leaks
    notes.append(
        f"Dropped {int((leaks | again).sum()):,} duplicates from {name}: {int(leaks.sum()):,} that are also in a "
        f"held-out split, {int(again.sum()):,} that repeat an earlier face of {name}."
    )
    return {**parts, name: parts[name][~(leaks | again)]}


def _pick(images: npt.NDArray[np.uint8], indices: Indices) -> npt.NDArray[np.uint8]:
    """Images by index; a run without gaps stays a view, so a memory-mapped split is not copied."""
    if len(indices) and int(indices[-1]) - int(indices[0]) == len(indices) - 1:
        return images[int(indices[0]) : int(indices[-1]) + 1]
    return images[indices]


def _fingerprint(table: FaceTable, parts: dict[str, Indices]) -> str:
    """SHA-256 over the print of each face's pixels, its label and its split, in order."""
    digest = hashlib.sha256(repr((table.images.shape[1:], table.classes)).encode())
    for name, indices in parts.items():
        digest.update(name.encode())
        digest.update(table.prints[indices].astype("<u8").tobytes())
        digest.update(table.labels[indices].astype("<i8").tobytes())
    return digest.hexdigest()
