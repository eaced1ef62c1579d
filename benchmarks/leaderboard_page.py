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

Every figure was written by `benchmarks/leaderboard.py`, none by hand; the last table of each section has the commands.
Human agreement on the labels of FER-2013 is 65 +- 5 % (Goodfellow et al. 2013).

The model that the package carries as `fer2013` is marked; `fer2013-int8` is the same row in eight bits. The packaged `default`
is another network. It predicts what most of ten people would say, which is another question than that of these
rows; its figures stand in the second track below and in [its own card](../src/ferkit/models/packaged/README.md).
"""

# What the reader of a split must know about it.
ABOUT = {
    "PublicTest": """Everything was chosen on this split: epochs and temperatures, but also recipes, their lengths, teachers, the pixel by
which `shift` moves, and which seed is packaged. So expect less on unseen faces. The data that these figures were made with has
no PrivateTest, and so another fingerprint than the full file; who has it measures there with
`python benchmarks/leaderboard.py DATA --votes VOTES --split PrivateTest fer2013`.""",
    "PrivateTest": "Nothing was chosen on this split.",
}

COMMANDS = """
From the root of a clone, after `make test` has set up `.venv`. `DATA` is FER-2013 as a file, CSV or any layout that
`ferkit data` reads; `VOTES` is FER+ (`fer2013new.csv`).
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
Faces relabelled by ten people each (Barsoum et al. 2016), in the protocol of the literature: eight classes, contempt among them,
labelled by the majority; faces without one, or whose majority says unknown or no face, are left out. Papers report PrivateTest:
VGG13 84.99 % (the authors), ResNet-18 about 87, SCN 88 to 89, networks pretrained on faces 90 to 92. *Accuracy* is over all {n:,} faces
of {split}, with its 95 % Wilson interval; a model without contempt is wrong on each such face. *Its classes*: over the faces of the classes
that the model has, as `ferkit evaluate` says; macro-F1 and ECE too. Models were chosen on this split, so expect less on unseen faces.
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
        "| model | accuracy | its classes | macro-F1 | ECE | parameters | trained with | measured with | date |",
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
    return "-" if share is None else f"{100 * share:.{digits}f} %"


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

Over {n:,} faces, the mean of the runs with its 95 % Wilson interval: what remains plausible after so many faces. *Spread*:
lowest and highest of the runs, their standard deviation, the best run. *Distinct*: over the {distinct or 0:,} faces whose pixels
stand neither in Training nor earlier in the split. *Surest 80 %*: the least confident fifth left unanswered. *FER+ choice*:
against what most voters of FER+ saw, over {voted or 0:,} faces with a first choice, a tie or no vote left out.
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

    return table(about, ("accuracy", "spread", "distinct", "macro-F1", "surest 80 %", "FER+ choice"), cells, rows)


def calibration_table(rows: Sequence[Row]) -> str:
    about = """
### Calibration and test-time augmentation

*ECE*: expected calibration error over 15 bins, before and after the temperature; an ensemble, whose members are
calibrated, has one of its own, fitted on the validation split. *Log loss* in nats, after it. The other columns are accuracy
with test-time augmentation, what it gains in points, and how many times as long it takes.
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

*ms/face*: median over 200 single faces through ONNX Runtime on one thread, without decoding and detection. The last three
columns are of the network in eight bits (`ferkit export --format onnx-int8`), where it lies in the folder as
`model.int8.onnx`. Rows were timed on different days, with other work on the processor: compare the times of one row, for
networks of one size take the same.
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
        f"### How each row was made\n{COMMANDS}", ("trained with", "measured with", "trained on", "date"), cells, rows
    )


TABLES = (accuracy_table, calibration_table, size_table, command_table)
