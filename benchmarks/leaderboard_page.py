"""The page of the leaderboard: runs that differ in the seed alone as one row, and what each table says."""

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ferkit.evaluation.metrics import wilson_interval
from ferkit.models import model_folder
from ferkit.models.tta import TTA

Record = dict[str, Any]

INTRODUCTION = """# Leaderboard

Accuracy, calibration, size and speed of every trained model, with the commands to reproduce each row ([Reproduce](#reproduce)).
`benchmarks/leaderboard.py` computes all metrics and writes this page. Human agreement with the labels of FER-2013 is 65 ± 5%
(Goodfellow et al. 2013).

The row of the packaged model `fer2013` is marked; `fer2013-int8` is its int8 (quantized) version. The packaged model `default`
predicts the FER+ majority label instead of the FER-2013 label. Its metrics are in the last section and in its
[model card](../src/ferkit/models/packaged/README.md).
"""

# What the reader of a split must know about it.
ABOUT = {
    "PublicTest": """These results are optimistic: epochs, temperatures, recipes and their lengths, teachers, the distance of `shift` and the
packaged seed were all selected on this split. The copy of FER-2013 that was used has no PrivateTest. If yours has it, evaluate there with
`python benchmarks/leaderboard.py DATA --votes VOTES --split PrivateTest fer2013`.""",
    "PrivateTest": "Nothing was selected on this split.",
}

COMMANDS = """
Run the commands in the root of a clone, with the environment `.venv` of `make test` activated. `DATA` is FER-2013, as CSV or in any
layout that `ferkit data` reads; `VOTES` is the table of FER+ (`fer2013new.csv`).
"""


@dataclass(frozen=True)
class Row:
    """One row: the runs of a recipe, or an ensemble. The mean over runs is what it says of any figure."""

    name: str
    runs: Sequence[Record]
    members: Sequence[Record] | None = None

    def values(self, *path: str) -> list[float]:
        """A figure of every run that has it."""
        found: list[Any] = list(self.runs)
        for key in path:
            found = [one.get(key) for one in found if one]
        return [one for one in found if one is not None]

    def mean(self, *path: str) -> float | None:
        values = self.values(*path)
        return statistics.fmean(values) if values else None

    def total(self, *path: str) -> float | None:
        """A figure of the network; of an ensemble, the sum over its members, if all are known."""
        if self.members is None:
            return self.mean(*path)
        known = [Row("", [one]).mean(*path) for one in self.members]
        return sum(one for one in known if one is not None) if known and None not in known else None

    @property
    def title(self) -> str:
        count = len(self.runs[0]["members"]) if "members" in self.runs[0] else 0
        if count:
            return f"`{self.name}` ({count} models)"
        packaged = [one["name"] for one in self.runs if is_packaged(one)]
        if not packaged or self.name == model_folder.FER2013:
            return f"`{self.name}`"
        run = f"its run `{packaged[0]}` is " if len(self.runs) > 1 else ""
        return f"`{self.name}` ({run}packaged as `{model_folder.FER2013}`)"


def is_packaged(record: Record) -> bool:
    """Whether the packaged model is a copy of this run, which gave its card the story of its training.

    No two trainings take as long to a tenth of a second, let alone of the same network at the same commit. The head on votes
    comes out of the same training, and is another model.
    """
    card = model_folder.read_card(model_folder.find(model_folder.FER2013))
    training = card["training"]
    return not record["name"].endswith("/votes") and (
        training["seconds"] / 60,
        training["epochs_done"],
        training["recipe"]["seed"],
        card["parameters"],
        ((training.get("sittings") or [{}])[0].get("commit") or "")[:10],
    ) == tuple(record.get(name) for name in ("minutes", "epochs", "seed", "parameters", "commit"))


FERPLUS = """
In FER+, ten people voted on each face (Barsoum et al. 2016). This section follows the protocol of the literature: eight classes including
contempt, labelled by majority vote. Faces without a majority, or with the majority "unknown" or "no face", are excluded. Papers report
accuracy on PrivateTest: 84.99% for VGG13 (Barsoum et al.), about 87% for ResNet-18, 88 to 89% for SCN, 90 to 92% for networks pretrained on
faces.

- *accuracy*: over all {n:,} faces of {split}, with its 95% Wilson interval. A model without the class contempt is wrong on every such face.
- *its classes*: accuracy over the faces of the classes that the model has. Macro-F1 and ECE are over the same faces.

The models were selected on this split, so these results are optimistic.
"""


def page(records: Sequence[Record]) -> str:
    second = [one for one in records if one.get("track") == "ferplus"]
    records = [one for one in records if "track" not in one]
    splits = dict.fromkeys(one["split"] for one in records)
    text = INTRODUCTION
    for split in splits:
        here = [one for one in records if one["split"] == split]
        rows = sorted(rows_of(here), key=lambda row: -(row.mean("accuracy") or 0))
        text += f"\n## {split}\n\n{ABOUT.get(split, '')}\n" + "".join(table(rows) for table in TABLES)
    return text + "".join(ferplus_section(second, split) for split in dict.fromkeys(one["split"] for one in second))


def ferplus_section(records: Sequence[Record], split: str) -> str:
    """The second track; a row is a model."""
    here = sorted((one for one in records if one["split"] == split), key=lambda one: -float(one["accuracy"]))
    lines = [
        "| model | accuracy | its classes | macro-F1 | ECE | parameters | training command | evaluation command | date |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in here:
        low, high = wilson_interval(round(one["accuracy"] * one["n"]), one["n"])
        packaged = one["name"] in model_folder.PACKAGED
        # Other models of the package have their commands in their cards.
        trained = "its card" if packaged else f"`{one['train_command']}`" if one["train_command"] else "as above"
        folder = one["name"] if packaged else f"runs/{one['name']}"
        cells = (
            f"`{one['name']}`",
            f"**{percent(one['accuracy'])}** ({100 * low:.1f} to {100 * high:.1f})",
            f"{percent(one['known_accuracy'])} of {one['known_n']:,}",
            plain(one["macro_f1"]),
            plain(one["ece"]),
            plain(one["parameters"], ",.0f"),
            trained,
            f"`python benchmarks/leaderboard.py DATA --votes VOTES --ferplus --split {split} {folder}`",
            one["date"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return f"\n## FER+, {split}\n{FERPLUS.format(n=here[0]['n'], split=split)}\n" + "\n".join(lines) + "\n"


def rows_of(records: Sequence[Record]) -> Iterator[Row]:
    by_name = {one["name"]: one for one in records}
    groups: dict[str, list[Record]] = {}
    for one in records:
        if "members" in one:
            members = [by_name[name] for name in one["members"] if name in by_name]
            yield Row(one["name"], [one], members if len(members) == len(one["members"]) else [])
        else:
            groups.setdefault(one["row"], []).append(one)
    short = [_short(group) for group in groups.values()]
    for name, group in zip(short, groups.values(), strict=True):
        yield Row(name if short.count(name) == 1 else group[0]["name"], group)


def _short(group: Sequence[Record]) -> str:
    """`strong-s1`, `strong-s2` are the seeds of `strong`; one run keeps its name."""
    name = str(group[0]["name"])
    return re.sub(r"[-_]?(s|seed)?[-_]?\d+(?=$|/)", "", name) or name if len(group) > 1 else name


def percent(share: float | None, digits: int = 2) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}%"


def plain(value: float | None, style: str = ".3f") -> str:
    return "-" if value is None else format(value, style)


def table(about: str, headings: Sequence[str], cells: Callable[[Row], Sequence[str]], rows: Sequence[Row]) -> str:
    text = f"\n{about.strip()}\n\n| model | {' | '.join(headings)} |\n|---|{'---|' * len(headings)}\n"
    return text + "".join(f"| {row.title} | {' | '.join(cells(row))} |\n" for row in rows)


def accuracy_table(rows: Sequence[Row]) -> str:
    sizes = sorted(
        {(one["n"], one["distinct_n"], (one["voters"] or {}).get("n")) for row in rows for one in row.runs}, key=str
    )
    n, distinct, voted = sizes[-1]
    about = f"""
### Accuracy

- *accuracy*: mean of the runs over {n:,} faces, with its 95% Wilson interval
- *spread*: lowest and highest accuracy of the runs, their standard deviation, and the best run
- *distinct*: accuracy over the {distinct or 0:,} faces whose pixels occur neither in Training nor earlier in the split
- *at 80% coverage*: accuracy without the least confident 20% of the faces
- *FER+ majority*: accuracy on the FER+ majority label, over {voted or 0:,} faces; ties and faces without votes are excluded
"""

    def cells(row: Row) -> list[str]:
        accuracies = row.values("accuracy")
        mean = statistics.fmean(accuracies)
        low, high = wilson_interval(round(mean * row.runs[0]["n"]), row.runs[0]["n"])
        best = max(row.runs, key=lambda one: float(one["accuracy"]))
        spread = "one run"
        if len(accuracies) > 1:
            spread = (
                f"{100 * min(accuracies):.2f} to {percent(max(accuracies))}, sd {100 * statistics.stdev(accuracies):.2f}, "
                f"{len(accuracies)} seeds, best `{best['name']}`"
            )
        elif row.members is not None:
            spread = "-"
        return [
            f"**{percent(mean)}** ({100 * low:.1f} to {100 * high:.1f})",
            spread,
            percent(row.mean("distinct_accuracy")),
            plain(row.mean("macro_f1")),
            percent(row.mean("surest")),
            percent(row.mean("voters", "accuracy")),
        ]

    return table(about, ("accuracy", "spread", "distinct", "macro-F1", "at 80% coverage", "FER+ majority"), cells, rows)


def calibration_table(rows: Sequence[Row]) -> str:
    about = """
### Calibration and test-time augmentation

- *ECE*: expected calibration error over 15 bins, before and after temperature scaling. An ensemble of calibrated members has a temperature
  of its own, fitted on the validation split.
- *log loss*: in nats, after temperature scaling
- other columns: accuracy with test-time augmentation, and its gain in percentage points. The heading shows how many times as long it takes.
"""

    def cells(row: Row) -> list[str]:
        looked_once = row.mean("accuracy") or 0.0
        views = []
        for name in TTA:
            accuracy = row.mean("tta", name, "accuracy")
            views.append("-" if accuracy is None else f"{percent(accuracy)} ({100 * (accuracy - looked_once):+.2f})")
        return [
            f"{plain(row.mean('ece_uncalibrated'))} -> {plain(row.mean('ece'))}",
            plain(row.mean("nll")),
            *views,
        ]

    return table(about, ("ECE", "log loss", *(f"`{name}`, {_views(name)} x" for name in TTA)), cells, rows)


def _views(name: str) -> int:
    import numpy as np

    return len(list(TTA[name](np.zeros((1, 48, 48, 1), np.uint8))))


def size_table(rows: Sequence[Row]) -> str:
    about = """
### Size and speed

*ms/face* is the median over 200 single faces in ONNX Runtime on one thread, without decoding and detection. The last three columns are
for the int8 export (`ferkit export --format onnx-int8`). The rows were timed on different days with different load on the CPU: compare the
times within a row only. Networks of the same size take the same time.
"""

    def cells(row: Row) -> list[str]:
        size, small = row.total("float32", "bytes"), row.total("int8", "bytes")
        operations = row.total("multiply_adds")
        return [
            plain(row.total("parameters"), ",.0f"),
            "-" if operations is None else f"{operations / 1e6:.1f} M",
            "-" if size is None else f"{size / 1e6:.1f} MB",
            plain(row.total("float32", "ms_per_face"), ".2f"),
            percent(row.mean("int8", "accuracy")),
            "-" if small is None else f"{small / 1e6:.1f} MB",
            plain(row.total("int8", "ms_per_face"), ".2f"),
        ]

    headings = ("parameters", "multiply-adds", "ONNX", "ms/face", "int8: accuracy", "ONNX", "ms/face")
    return table(about, headings, cells, rows)


def command_table(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        first = row.runs[0]
        voted = " --votes VOTES" if first["voters"] else ""
        split = "" if first["split"] == "PublicTest" else f" --split {first['split']}"
        start = f"`python benchmarks/leaderboard.py DATA{voted}{split}"
        if "members" in first:
            members = ",".join(f"runs/{name}" for name in first["members"])
            return ["-", f"{start} --ensemble {row.name}={members}`", "-", first["date"]]
        runs = sorted(row.runs, key=lambda one: int(one["seed"]))
        made = f"{statistics.fmean(one['minutes'] for one in runs):.0f} min of steps, {runs[0]['epochs']} epochs"
        commits = dict.fromkeys(f"`{one['commit']}`" for one in runs)
        folders = " ".join(one["name"] if one["row"] == model_folder.FER2013 else f"runs/{one['name']}" for one in runs)
        return [
            "<br>".join(f"`{one['train_command']}`" for one in runs),
            f"{start} {folders}`",
            f"{runs[0]['backend']}, {made}, {', '.join(commits)}",
            max(one["date"] for one in runs),
        ]

    return table(
        f"### Reproduce\n{COMMANDS}", ("training command", "evaluation command", "trained on", "date"), cells, rows
    )


TABLES = (accuracy_table, calibration_table, size_table, command_table)
