"""What is in a data set, as a report: counts per class and split, duplicates, label conflicts, invalid rows."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ferkit.data.records import Dataset, Findings
from ferkit.errors import count
from ferkit.render import Block, Bullets, ClassName, DataTable, Document, Row, Section, Text, percent

# A terminal page of them says enough; the JSON document has all.
_SHOWN = 20
_CONFLICTS = 5


def overview(dataset: Dataset) -> Document:
    """The data set as sections; its JSON document has the counts and all findings."""
    height, width, channels = _shape(dataset)
    n = sum(len(one) for one in dataset.splits.values())
    colour = "gray" if channels == 1 else "colour"
    sections = [Section("", (_counts(dataset, n),))]
    if dataset.findings is not None:
        sections.append(Section("Duplicates (identical pixels)", tuple(_duplicates(dataset.findings))))
        sections.append(Section("Label conflicts", tuple(_conflicts(dataset, dataset.findings))))
    if dataset.broken:
        shown = tuple(f"{one.where}: {one.reason}" for one in dataset.broken[:_SHOWN])
        more = len(dataset.broken) - len(shown)
        rest = (Text(f"and {more:,} more (--json lists all)"),) if more else ()
        # How many were left out stands in the notes.
        sections.append(Section(f"Invalid {dataset.broken[0].kind}s", (Bullets(shown), *rest)))
    if dataset.notes:
        sections.append(Section("Notes", (Bullets(tuple(dataset.notes)),)))
    about = f"{count(n, 'face')}, {len(dataset.classes)} classes, {width}x{height} {colour}"
    return Document(dataset.source, about, tuple(sections), _data(dataset, n))


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    """Height, width and channels of a face."""
    height, width, channels = next(iter(dataset.splits.values())).images.shape[1:]
    return height, width, channels


def _data(dataset: Dataset, n: int) -> dict[str, Any]:
    found = dataset.findings
    return {
        "source": dataset.source,
        "n": n,
        "classes": list(dataset.classes),
        "image": dict(zip(("height", "width", "channels"), _shape(dataset), strict=True)),
        "splits": {name: {"n": len(one), "counts": one.counts} for name, one in dataset.splits.items()},
        "duplicates": found
        and {
            "within": dict(found.within),
            "across": [{"in": a, "also_in": b, "n": n} for (a, b), n in found.across.items()],
            "redundant": found.redundant,
        },
        "conflicts": found and [[{"split": s, "label": c} for s, c in group] for group in found.conflicts],
        "broken": [{"where": one.where, "reason": one.reason} for one in dataset.broken],
        "notes": list(dataset.notes),
        "fingerprint": dataset.fingerprint,
    }


def _counts(dataset: Dataset, total: int) -> DataTable:
    columns = [(name, one.counts, len(one)) for name, one in dataset.splits.items()]
    whole = {label: sum(counts[label] for _, counts, _ in columns) for label in dataset.classes}
    columns.append(("all", whole, total))
    rows: list[Row] = [
        (ClassName(label), *(_share(counts[label], n) for _, counts, n in columns)) for label in dataset.classes
    ]
    rows.append(("all", *(_share(n, n) for _, _, n in columns)))
    return DataTable(("class", *(name for name, _, _ in columns)), tuple(rows))


def _share(n: int, total: int) -> str:
    return f"{n:,} {percent(n / max(total, 1)):>7}"


def _duplicates(found: Findings) -> Iterator[Block]:
    yield Text(f"{count(found.redundant, 'face')} like an earlier one")
    within = [f"{n:,} within {name}" for name, n in found.within.items() if n]
    across = [f"{n:,} of {later} also in {earlier}" for (earlier, later), n in found.across.items()]
    if within or across:
        yield Bullets((*within, *across))


def _conflicts(dataset: Dataset, found: Findings) -> Iterator[Block]:
    yield Text(f"{count(len(found.conflicts), 'group')} of identical faces with more than one label")
    kinds: Counter[tuple[str, ...]] = Counter()
    for group in found.conflicts:
        labels = {label for _, label in group}
        kinds[tuple(one for one in dataset.classes if one in labels)] += 1
    if kinds:
        yield Text("Most often: " + ", ".join(f"{' / '.join(kind)} ({n})" for kind, n in kinds.most_common(_CONFLICTS)))
