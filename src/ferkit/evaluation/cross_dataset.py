"""Cross-dataset evaluation: a model on data with other classes, by those that both know.

Data sets differ in what they name: one has contempt, another lacks disgust, a third says anger for angry. Faces of the
shared classes are evaluated twice: with predictions among all classes of the model, as in use, and restricted to the
shared ones, as if the model had been asked the question that the labels answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data import FaceSet
from ferkit.errors import DatasetError, ModelError, UsageError, count
from ferkit.evaluation.report import Report, measure
from ferkit.labels import canonical
from ferkit.render import ClassName, Column, DataTable, Row, Section, Text, interval, number, percent

# Stands for every class that the map does not name.
OTHERS = "*"


def read_label_map(text: str) -> dict[str, str]:
    """Class of the data -> class of the model, "" to leave it out, from `anger=angry,contempt=` or from a file.

    A file holds a JSON object (null leaves a class out) or one `name=class` a line; `#` begins a remark. The name `*`
    stands for all that are not named. Names are in lower case and aliases of emotions taken for these.
    Raises `UsageError` for other text, `DatasetError` for a file that cannot be read.

    >>> read_label_map("Anger=angry, contempt=")
    {'angry': 'angry', 'contempt': ''}
    """
    path = Path(text).expanduser()
    if "=" not in text and path.is_file():
        pairs = _read_file(path)
    else:
        pairs = [_pair(part, text) for part in text.split(",") if part.strip()]
    found: dict[str, str] = {}
    for name, target in pairs:
        key, value = canonical(name), canonical(target) if target.strip() else ""
        if found.setdefault(key, value) != value:
            raise UsageError(f"The label map sends {key} to {found[key]!r} and to {value!r}. Expected one of them.")
    if not found:
        raise UsageError(f"A label map is a file, or like anger=angry,contempt=. Received: {text!r}.")
    return found


def _read_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.lstrip().startswith("{"):
            lines = (line.split("#")[0].strip() for line in text.splitlines())
            return [_pair(line, str(path)) for line in lines if line]
        pairs = json.loads(text)
        if not all(isinstance(value, str | None) for value in pairs.values()):
            raise ValueError("a class is a name or null")
        return [(name, value or "") for name, value in pairs.items()]
    except (OSError, ValueError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise DatasetError(
            f"{path} is not a label map ({problem}). Expected a JSON object or lines like anger=angry."
        ) from problem


def _pair(part: str, text: str) -> tuple[str, str]:
    name, equals, target = part.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"A label map is a file, or like anger=angry,contempt=. Received: {text!r}.")
    return name, target


@dataclass(frozen=True)
class Matched:
    """How the classes of the data and those of a model belong together.

    mapped: class of the data -> class of the model, of those that have faces. counts: class of the data -> its faces.
    left_out: class of the data that has no place in the model -> its faces, which are not measured.
    absent: classes of the model that no face is of; predictions of these are wrong.
    same: whether data and model name the same classes, so that there is nothing to say.
    """

    mapped: dict[str, str]
    counts: dict[str, int]
    left_out: dict[str, int]
    absent: tuple[str, ...]
    same: bool

    def keeps(self, faces: FaceSet) -> npt.NDArray[np.bool_]:
        """Which of the faces that were matched have a place in the model, bool (N,)."""
        place = np.array([canonical(name) not in self.left_out for name in faces.classes])
        return np.asarray(place[faces.labels])

    @property
    def note(self) -> str:
        """What was done, in a sentence; empty where nothing was."""
        renamed = [f"{a} counts as {b}" for a, b in self.mapped.items() if a != b]
        gone = [f"{name} ({count(n, 'face')}) is left out" for name, n in self.left_out.items()]
        return f"Classes of the data: {', '.join(renamed + gone)}." if renamed or gone else ""


@dataclass(frozen=True, eq=False)
class CrossDataset:
    """The metrics on the classes that data and model share.

    everything: with predictions among all classes of the model. common: among the shared ones only, whose
    probabilities are made to sum to 1: the same report where these are all, None where only one is shared.
    """

    matched: Matched
    everything: Report
    common: Report | None
    key: str = field(default="crossing", init=False)

    def to_dict(self) -> dict[str, Any]:
        """What stands under `crossing` in the JSON of `ferkit evaluate`."""
        return {
            "mapped": self.matched.mapped,
            "counts": self.matched.counts,
            "left_out": self.matched.left_out,
            "absent": list(self.matched.absent),
            "all_classes": _figures(self.everything),
            "common_classes": self.common and _figures(self.common),
        }

    def section(self) -> Section:
        """Which classes match, both results, and each class."""
        columns = ("Prediction among", "Accuracy", "95% interval", "Balanced accuracy", "Macro-F1")
        both = DataTable(columns, tuple((name, *_scores(report)) for name, report in self.choices()))
        blocks = (Text(_sentence(self.matched)), both, _per_class(self), _mapping(self.matched))
        return Section("Cross-dataset evaluation", blocks, wide=True, key=self.key, data=self.to_dict())

    @property
    def restricted(self) -> Report | None:
        """`common` where it says something of its own."""
        return None if self.common is self.everything else self.common

    def choices(self) -> list[tuple[str, Report]]:
        """Each report with what was to be chosen from, in words."""
        choices = [(f"all {len(self.everything.classes)} classes", self.everything)]
        if self.restricted is not None:
            choices.append((f"the {len(self.restricted.classes)} shared", self.restricted))
        return choices


def match_classes(
    classes: Sequence[str], faces: FaceSet, label_map: Mapping[str, str] | None = None, *, model: str = "The model"
) -> tuple[FaceSet, Matched]:
    """The faces of the classes that data and model share, under the model's names; and how the classes match.

    classes: of the model. label_map: as `read_label_map` gives it; classes that it does not name match by name or
        alias.
    model: what to call it in errors.
    Raises `UsageError` if the map names a class that the model lacks, `DatasetError` if it names one that the data
    lacks or no face is left, `ModelError` if the data has a class that neither map nor model knows.
    """
    label_map = label_map or {}
    ours, theirs = [canonical(name) for name in classes], [canonical(name) for name in faces.classes]
    _check_map(label_map, ours, theirs, model)
    targets = [label_map.get(name, name if name in ours else label_map.get(OTHERS)) for name in theirs]
    unknown = [name for name, target in zip(theirs, targets, strict=True) if target is None]
    if unknown:
        raise ModelError(
            f"{model} knows {', '.join(ours)}; the data has {', '.join(theirs)}. Say what becomes of the others: "
            f"--label-map {unknown[0]}= leaves {unknown[0]} out, {unknown[0]}={ours[0]} counts it as {ours[0]}."
        )
    counts = dict.fromkeys(theirs, 0)
    for name, faces_of_it in zip(theirs, faces.counts.values(), strict=True):  # two may be aliases of one
        counts[name] += faces_of_it
    pairs = {name: target or "" for name, target in zip(theirs, targets, strict=True)}
    matched = Matched(
        mapped={name: target for name, target in pairs.items() if target and counts[name]},
        counts=counts,
        left_out={name: counts[name] for name, target in pairs.items() if not target},
        absent=tuple(name for name in ours if not any(pairs[one] == name and counts[one] for one in pairs)),
        same=set(ours) == set(theirs) and all(name == target for name, target in pairs.items()),
    )
    if not matched.mapped:
        raise DatasetError(f"{model} knows {', '.join(ours)}; no face of {faces.name} is of one of these classes.")
    if all(name == target for name, target in pairs.items()):
        return faces, matched
    numbers = np.array([ours.index(target) if target else -1 for target in targets])
    kept = faces.select(matched.keeps(faces))
    # Votes have columns of the old classes, and those for a class that is left out have no place.
    relabelled = replace(kept, labels=numbers[kept.labels], classes=tuple(ours), votes=None, voted=None)
    return relabelled, matched


def cross_dataset_report(report: Report, matched: Matched) -> CrossDataset:
    """Both results, from a report on the faces of `match_classes`."""
    shared = [label for label, one in enumerate(report.per_class.values()) if one.n]
    if len(shared) in (1, len(report.classes)):
        return CrossDataset(matched, report, None if len(shared) == 1 else report)
    probabilities = report.probabilities[:, shared].astype(np.float64)
    sums = probabilities.sum(axis=1, keepdims=True)
    # All of the probability may be on the other classes: then nothing is known among these.
    probabilities = np.where(sums > 0, probabilities / np.maximum(sums, 1e-30), 1 / len(shared))
    number = np.full(len(report.classes), -1)
    number[shared] = np.arange(len(shared))
    faces = replace(
        report.faces,
        labels=number[report.faces.labels],
        classes=tuple(report.classes[label] for label in shared),
        votes=None,
        voted=None,
    )
    seconds = report.n / report.faces_per_second
    common = measure(probabilities.astype(np.float32), faces, model=report.model, seconds=seconds, tta=report.tta)
    return CrossDataset(matched, report, common)


def _check_map(label_map: Mapping[str, str], ours: Sequence[str], theirs: Sequence[str], model: str) -> None:
    if strange := [target for target in label_map.values() if target and target not in ours]:
        raise UsageError(f"The label map names {strange[0]!r}. {model} knows {', '.join(ours)}: name one of these.")
    if absent := [name for name in label_map if name != OTHERS and name not in theirs]:
        raise DatasetError(
            f"The label map names {absent[0]!r}, and the data has {', '.join(theirs)}. Correct it or leave it out."
        )


def _sentence(matched: Matched) -> str:
    """How the classes match, in words."""
    shared = tuple(dict.fromkeys(matched.mapped.values()))
    said = [f"{len(shared)} classes are shared: {', '.join(shared)}."]
    if matched.note:
        said.append(matched.note)
    if matched.absent:
        said.append(
            f"No face is labelled {', '.join(matched.absent)}: such predictions are wrong, unless they are restricted."
        )
    return " ".join(said)


def _scores(report: Report) -> tuple[str, ...]:
    shares = percent(report.accuracy), interval(report.accuracy_ci95), percent(report.balanced_accuracy)
    return (*shares, number(report.macro_f1))


def _per_class(found: CrossDataset) -> DataTable:
    rows = []
    for name, one in found.everything.per_class.items():
        if not one.n:
            continue
        shares = [one.recall, one.precision]
        if found.restricted:
            among = found.restricted.per_class[name]
            shares += [among.recall, among.precision]
        rows.append((ClassName(name), f"{one.n:,}", *map(percent, shares)))
    more = ("Recall among shared", "Precision among shared") if found.restricted else ()
    return DataTable(("Class", "Faces", "Recall", "Precision", *more), tuple(rows), detail=True)


def _mapping(matched: Matched) -> DataTable:
    rows: list[Row] = [
        (theirs, f"{matched.counts[theirs]:,}", ClassName(ours)) for theirs, ours in matched.mapped.items()
    ]
    rows += [(name, f"{n:,}", "left out") for name, n in matched.left_out.items()]
    rows += [("-", "0", ClassName(name)) for name in matched.absent]
    columns = ("In the data", "Faces", Column("In the model", left=True))
    return DataTable(columns, tuple(rows), folded="Class mapping", detail=True)


def _figures(report: Report) -> dict[str, Any]:
    document = report.to_dict()
    wanted = ("n", "accuracy", "accuracy_ci95", "macro_f1", "balanced_accuracy", "nll", "ece", "per_class", "confusion")
    return {name: document[name] for name in wanted} | {"classes": list(report.classes)}
