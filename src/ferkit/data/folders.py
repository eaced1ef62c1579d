"""Pictures in folders: a folder per class, with or without folders per split above, as most of the field keeps them."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferkit.data.pictures import Picture, Shaper, shaped
from ferkit.data.records import Reading
from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, canonical, order_classes

if TYPE_CHECKING:
    from ferkit.data.readers import Source
    from ferkit.sources import Tree

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "publictest": "val",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
# How the pictures of FER-2013 are named after the part of the set they come from.
_FER_NAMES = ("Training_", "PublicTest_", "PrivateTest_")
_FER_SPLITS = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
_SAMPLES = 32


@dataclass(frozen=True)
class Placed:
    """A picture by its folders: class as its folder is named, split "" where there is none."""

    name: str
    folder: str
    split: str


def read_folders(source: "Source", tree: "Tree", shaper: Shaper) -> Reading:
    """Read the pictures of a tree."""
    notes: list[str] = []
    placed = place(source, notes)
    classes = class_names(source.name, placed, notes)
    names = [one.name for one in placed]
    by_name = {one.name: one for one in placed}
    step = max(1, len(names) // _SAMPLES)
    shaper.settle(data for _, data in tree.contents(names[::step]))
    return Reading("folders", classes, shaped(_pictures(tree, by_name, classes), shaper, notes), len(names), notes)


def _pictures(tree: "Tree", by_name: dict[str, Placed], classes: Sequence[str]) -> Iterator[Picture]:
    index = {name: number for number, name in enumerate(classes)}
    for row, (name, data) in enumerate(tree.contents(list(by_name))):
        one = by_name[name]
        yield Picture(name, data, index[canonical(one.folder)], one.split, row)


def place(source: "Source", notes: list[str]) -> list[Placed]:
    """Find class and split of each picture from its path; what does not fit the layout is left out with a note."""
    folders = {name: name.split("/")[:-1] for name in source.pictures}
    depths = {name: _split_depth(parts) for name, parts in folders.items()}
    known = [depth for depth in depths.values() if depth is not None]
    if known:
        # Some archives hold a second copy of themselves further down: the outermost counts.
        outermost = min(known)
        placed = [
            Placed(name, parts[outermost + 1], SPLIT_FOLDERS[parts[outermost].lower()])
            for name, parts in folders.items()
            if depths[name] == outermost
        ]
    else:
        inside = {name: parts for name, parts in folders.items() if parts}
        skip = _shared_folders(list(inside.values()))
        placed = [Placed(name, parts[skip], "") for name, parts in inside.items()]
    left_out = len(folders) - len(placed)
    if left_out and placed:
        where = "train, val and test folders" if known else "class folders"
        notes.append(f"{left_out:,} pictures outside of the {where} are ignored.")
    if not placed:
        raise DatasetError(
            f"{source.name} holds {len(folders):,} pictures but no folder per class. Expected <class>/<picture> or "
            "train/<class>/<picture> and test/<class>/<picture>."
        )
    return _fer_splits(placed)


def _split_depth(parts: Sequence[str]) -> int | None:
    """Where in a path the split's folder stands; a class folder must follow."""
    return next((depth for depth, part in enumerate(parts[:-1]) if part.lower() in SPLIT_FOLDERS), None)


def _shared_folders(paths: Sequence[Sequence[str]]) -> int:
    """How many folders at the start all paths share, leaving each at least one."""
    if not paths:
        return 0
    shortest = min(len(parts) for parts in paths) - 1
    return next((i for i in range(shortest) if any(parts[i] != paths[0][i] for parts in paths)), shortest)


def _fer_splits(placed: list[Placed]) -> list[Placed]:
    """Tell PublicTest from PrivateTest by the pictures' names, where they are named as FER-2013's are."""
    prefixes = [next((p for p in _FER_NAMES if one.name.split("/")[-1].startswith(p)), "") for one in placed]
    if not set(prefixes) & {"PublicTest_", "PrivateTest_"}:
        return placed
    return [
        Placed(one.name, one.folder, prefix.rstrip("_") or _FER_SPLITS.get(one.split, "Training"))
        for one, prefix in zip(placed, prefixes, strict=True)
    ]


def class_names(source: str, placed: Sequence[Placed], notes: list[str]) -> tuple[str, ...]:
    """The classes in model order, after looking for folders that are no class."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in placed:
        found[one.folder].add(one.split)
    names = {folder: canonical(folder) for folder in found}
    emotions = {name for name in names.values() if name in EMOTIONS}
    splits = {one.split for one in placed}
    train = next((name for name in ("Training", "train") if name in splits), None)

    for folder in sorted(folder for folder, name in names.items() if name not in EMOTIONS):
        near = difflib.get_close_matches(names[folder], EMOTIONS, n=1, cutoff=0.7)
        if len(emotions) >= 2 and near:
            raise DatasetError(
                f"{source} has a class folder {folder!r} among emotions. Did you mean {near[0]!r}? Rename the folder."
            )
    if train is not None:
        trained = {names[folder] for folder, where in found.items() if train in where}
        for folder, where in sorted(found.items()):
            if names[folder] not in trained:
                raise DatasetError(
                    f"{source} has the class folder {folder!r} in {', '.join(sorted(where))} but not in {train}, "
                    f"which has: {', '.join(order_classes(sorted(trained)))}. Rename or remove it."
                )
        stray = [folder for folder, where in found.items() if where == {train} and names[folder] not in EMOTIONS]
        if len(splits) > 1 and stray and len(emotions) >= 2 and len(stray) < len(emotions):
            raise DatasetError(
                f"{source} has the class folder {sorted(stray)[0]!r} in {train} only, and it is no emotion of FER-2013 "
                f"({', '.join(EMOTIONS)}). Rename or remove it."
            )
    classes = order_classes(sorted(set(names.values())))
    if len(classes) < 2:
        count = Counter(one.split for one in placed).total()
        raise DatasetError(
            f"{source} has only one class, {classes[0]!r} ({count:,} pictures). Expected at least two class folders."
        )
    own = [name for name in classes if name not in EMOTIONS]
    if own and len(emotions) >= 2:
        notes.append(f"Not among the seven emotions of FER-2013, so classes of their own: {', '.join(own)}.")
    return classes
