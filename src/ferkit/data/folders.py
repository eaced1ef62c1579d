"""Pictures in folders: a folder per class, with or without folders per split above, as most of the field keeps them."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ferkit.data.layouts import Placed, Published, find_layout
from ferkit.data.names import class_names, emotion_of, split_of, words_of
from ferkit.data.pictures import Picture, Shaper, shaped
from ferkit.data.records import Reading, Source
from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, order_classes
from ferkit.sources import Tree, is_media, other_files

# How the pictures of FER-2013 are named after the part of the set they come from.
_FER_NAMES = ("Training_", "PublicTest_", "PrivateTest_")
_FER_SPLITS = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
_SAMPLES = 32
_NAMED = 4  # folders in a message
Folders = tuple[str, ...]  # the folders that a picture is in


def read_folders(source: Source, tree: Tree, shaper: Shaper) -> Reading:
    """Read the pictures of a tree."""
    notes: list[str] = []
    found = place(source, notes)
    placed, classes = name_classes(source.name, found.placed, notes)
    if others := other_files(name for name in tree.names() if is_media(name)):
        notes.append(f"Left out: {others}.")
    shaper.cut = found.cut
    names = [one.name for one in placed]
    by_name = {one.name: one for one in placed}
    step = max(1, len(names) // _SAMPLES)
    shaper.settle(data for _, data in tree.contents(names[::step]))
    return Reading("folders", classes, shaped(_pictures(tree, by_name, classes), shaper, notes), len(names), notes)


def _pictures(tree: Tree, by_name: dict[str, Placed], classes: Sequence[str]) -> Iterator[Picture]:
    index = {name: number for number, name in enumerate(classes)}
    for row, (name, data) in enumerate(tree.contents(list(by_name))):
        one = by_name[name]
        yield Picture(name, data, index[one.folder], one.split, row, one.person)


LAYOUT = "Expected <class>/<picture>, or train/<class>/<picture> and test/<class>/<picture>."
# What a folder says: its split, and the folders below it (above it where the class comes first), the class among them.
_Said = tuple[str, Folders]


def place(source: Source, notes: list[str]) -> Published:
    """Find class and split of each picture by a published layout, else from its folders; notes say what is left out."""
    return find_layout(source, notes) or Published(_by_folders(source, notes))


def _by_folders(source: Source, notes: list[str]) -> list[Placed]:
    folder_of = {name: tuple(name.split("/")[:-1]) for name in source.pictures}
    folders = sorted(set(folder_of.values()) - {()})
    said = _with_splits(source.name, folders, notes)
    has_splits = bool(said)
    if not said:
        skip = _shared_folders(folders)
        said = {folder: ("", folder[skip:]) for folder in folders}
    skip = _shared_folders([rest for _, rest in said.values()])
    said = {folder: (split, rest[skip:]) for folder, (split, rest) in said.items()}
    placed = [Placed(name, said[folder][1][0], said[folder][0]) for name, folder in folder_of.items() if folder in said]
    if not placed:
        raise DatasetError(f"{source.name} holds {len(folder_of):,} pictures but no folder per class. {LAYOUT}")
    _check_level(source.name, [rest for _, rest in said.values()], notes)
    if left_out := [name for name, folder in folder_of.items() if folder not in said]:
        where = "train, val and test folders" if has_splits else "class folders"
        notes.append(f"{len(left_out):,} pictures outside of the {where} are ignored, {left_out[0]} first.")
    return _fer_splits(placed)


def _with_splits(source: str, folders: Sequence[Folders], notes: list[str]) -> dict[Folders, _Said]:
    """What each folder says where folders are named after splits, which stand above the classes or below them."""
    marks = _marks(folders)
    found: dict[Folders, tuple[int, int]] = {}
    for folder in folders:
        at = [depth for depth, split in enumerate(marks[folder]) if split]
        if len({marks[folder][depth] for depth in at}) > 1:
            raise DatasetError(
                f"{source} has the folder {'/'.join(folder)}, which names two splits. Name the folder to be read. {LAYOUT}"
            )
        if at:
            found[folder] = at[0], next(d for d in range(at[0], len(folder) + 1) if d == len(folder) or d not in at)
    if not found:
        return {}
    above, below = _above_and_below(found)
    emotions_above = _emotions(rest[0] for rest in above.values() if rest)
    emotions_below = _emotions(part for rest in below.values() for part in rest[:1])
    class_first = any(above.values()) and (len(emotions_above) > 1 or not any(below.values()))
    if class_first and len(emotions_below) > 1:
        raise DatasetError(f"{source} has emotions above and below its split folders. {LAYOUT}")
    rests = above if class_first else below
    known = {folder: spot for folder, spot in found.items() if rests[folder]}
    if not known:
        names = sorted({folder[first] for folder, (first, _) in found.items()})
        raise DatasetError(
            f"{source} has folders of splits ({_some(names)}) that hold pictures but no folder per class. {LAYOUT}"
        )
    # Some archives hold a second copy of themselves further down: the outermost counts.
    outermost = min(known.values())
    known = {folder: spot for folder, spot in known.items() if spot == outermost}
    if not class_first:
        _check_parents(source, [folder[: outermost[0]] for folder in known], [marks[folder] for folder in known])
    named: dict[str, set[str]] = defaultdict(set)
    for folder in known:
        named[marks[folder][outermost[0]]].add(folder[outermost[0]])
    notes += [f"{_some(sorted(one))} are read together as {split}." for split, one in named.items() if len(one) > 1]
    return {folder: (marks[folder][outermost[0]], rests[folder]) for folder in known}


def _marks(folders: Sequence[Folders]) -> dict[Folders, list[str]]:
    """The split that each part of a path means, "" for none."""
    siblings: dict[Folders, set[str]] = defaultdict(set)
    for folder in folders:
        for depth, part in enumerate(folder):
            siblings[folder[:depth]].add(part)
    meaning = {(parent, name): split for parent, names in siblings.items() for name, split in _meant(names).items()}
    marks = {folder: [meaning[folder[:depth], part] for depth, part in enumerate(folder)] for folder in folders}
    shared = next((d for d in range(min(map(len, folders), default=0)) if len({one[d] for one in folders}) > 1), 0)
    if any(any(one[shared:]) for one in marks.values()):
        # All is in one folder, `training_data/train`: its name tells nothing apart.
        marks = {folder: ["" if depth < shared else one for depth, one in enumerate(m)] for folder, m in marks.items()}
    return marks


def _meant(names: set[str]) -> dict[str, str]:
    """The split that each of some folders side by side means."""
    strict = {name: split_of(name) for name in names}
    if all(strict.values()):
        return strict
    # `company_train` beside `company_test`: other words tell nothing where all have one of a split.
    loose = {name: {split for word in words_of(name) if (split := split_of(word))} for name in names}
    if all(len(one) == 1 for one in loose.values()) and len(set.union(set(), *loose.values())) > 1:
        return {name: next(iter(one)) for name, one in loose.items()}
    return strict


def _above_and_below(found: Mapping[Folders, tuple[int, int]]) -> tuple[dict[Folders, Folders], dict[Folders, Folders]]:
    """The folders above the split's, without those that all share, and those below."""
    above = {folder: folder[:first] for folder, (first, _) in found.items()}
    lengths = range(min(map(len, above.values())))
    shared = next((d for d in lengths if len({one[d] for one in above.values()}) > 1), len(lengths))
    return (
        {folder: one[shared:] for folder, one in above.items()},
        {folder: folder[end:] for folder, (_, end) in found.items()},
    )


def _check_parents(source: str, parents: Sequence[Folders], marks: Sequence[Sequence[str]]) -> None:
    """Folds and several sets side by side: what one holds out, another may train on."""
    by_split: dict[str, set[Folders]] = defaultdict(set)
    for parent, mark in zip(parents, marks, strict=True):
        by_split[mark[len(parent)]].add(parent)
    if several := max((sorted(map("/".join, one)) for one in by_split.values() if len(one) > 1), default=[]):
        raise DatasetError(
            f"{source} has train, val or test folders in several folders ({_some(several)}), so a face may be trained "
            f"on in one and held out in another. Name one of them. {LAYOUT}"
        )


def _check_level(source: str, rests: Sequence[Folders], notes: list[str]) -> None:
    """Refuse what stands in the place of classes and is none."""
    names = sorted({rest[0] for rest in rests})
    below: dict[str, set[str]] = defaultdict(set)
    for rest in rests:
        below[rest[0]].update(rest[1:2])
    deeper = _emotions(part for rest in rests for part in rest[1:])
    if len(deeper) > 1 and len(_emotions(names)) < 2:
        raise DatasetError(
            f"{source} has emotions ({_some(sorted(deeper))}) below {_some(names)}, which are neither classes nor "
            f"known names of splits. {LAYOUT}"
        )
    if (
        len(names) > 1
        and not _emotions(names)
        and len(below[names[0]]) > 1
        and len(set(map(frozenset, below.values()))) == 1
    ):
        notes.append(f"Classes are {_some(names)}; the folders below ({_some(sorted(below[names[0]]))}) are merged.")


def _emotions(names: Iterable[str]) -> set[str]:
    return {name for name in names if emotion_of(name)}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _shared_folders(paths: Sequence[Sequence[str]]) -> int:
    """How many folders at the start all paths share, leaving each at least one."""
    if not paths:
        return 0
    shortest = min(len(parts) for parts in paths) - 1
    return next((i for i in range(shortest) if any(parts[i] != paths[0][i] for parts in paths)), max(shortest, 0))


def _fer_splits(placed: list[Placed]) -> list[Placed]:
    """Tell PublicTest from PrivateTest by the pictures' names, where they are named as FER-2013's are."""
    prefixes = [next((p for p in _FER_NAMES if one.name.split("/")[-1].startswith(p)), "") for one in placed]
    if not set(prefixes) & {"PublicTest_", "PrivateTest_"}:
        return placed
    return [
        Placed(one.name, one.folder, prefix.rstrip("_") or _FER_SPLITS.get(one.split, "Training"))
        for one, prefix in zip(placed, prefixes, strict=True)
    ]


def name_classes(source: str, placed: list[Placed], notes: list[str]) -> tuple[list[Placed], tuple[str, ...]]:
    """Pictures with the names of their classes as folders, and the classes in model order; notes say what is renamed."""
    folders = sorted({one.folder for one in placed})
    names = class_names(folders, notes)
    classes = _classes(source, placed, names, notes)
    return [replace(one, folder=names[one.folder]) for one in placed], classes


def _classes(source: str, placed: Sequence[Placed], names: Mapping[str, str], notes: list[str]) -> tuple[str, ...]:
    """The classes in model order, after looking for folders that are no class."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in placed:
        found[one.folder].add(one.split)
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
                f"{source} has the class folder {sorted(stray)[0]!r} in {train} only, which is not a class of FER-2013 "
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
