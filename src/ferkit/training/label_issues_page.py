"""Label issues as a report: how many, in which classes, and the faces, to look at before anything is changed."""

from pathlib import Path

import numpy as np

from ferkit.errors import count
from ferkit.render import (
    ClassName,
    Code,
    Column,
    DataTable,
    Document,
    FaceGallery,
    FaceTile,
    Metric,
    Metrics,
    Section,
    Text,
    percent,
)
from ferkit.render import (
    write_page as write_document,
)
from ferkit.training.label_issues import LabelIssues, write_table

_FACES = 96
_IN_PICTURE = 36
_LONGEST = 40  # letters of a path in the table

_METHOD = (
    "A face is a label issue when its prediction is at least as confident of another class as predictions usually are for "
    "faces with that class's label (confident learning, Northcutt et al. 2021). Issues are ranked by the margin: the "
    "probability of the label minus that of the best other class."
)
_BEWARE = (
    "A label issue is not always a label error. The model makes errors too, mostly for rare classes and for people and "
    "expressions that are rare in its data. If you relabel all issues without looking, the data only agrees with the model. Look "
    "at each face, and ask several people about doubtful ones."
)
_FACES_TEXT = (
    "The label, then the suggested class, whose colour the strip has; below, the probabilities of both and where the face is. ",
    Code("suspects.csv"),
    " beside this page lists all.",
)


def write_page(issues: LabelIssues, folder: Path) -> Path:
    """Write `index.html`, which holds everything, with `suspects.csv`, `suspects.json` and a picture in `figures/`.

    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    page = write_document(issues_document(issues), Path(folder), data="suspects.json")
    write_table(issues, Path(folder) / "suspects.csv")
    return page


def issues_document(issues: LabelIssues, listed: int = 0) -> Document:
    """All that was found. listed: how many issues a table lists."""
    shown = min(_FACES, len(issues))
    most = min(listed, len(issues))
    warning = (Text(issues.warning),) if issues.warning else ()
    table = (Section(f"The {most} most likely label errors", (_listed(issues, most),), wide=True),) if most else ()
    return Document(
        title=f"Label issues in {issues.faces.name}",
        about=f"{count(len(issues.faces), 'face')}, predicted by {issues.by}",
        sections=(
            Section("Summary", (*warning, _tiles(issues)), wide=True),
            Section("Method", (Text(f"{issues.how} {_METHOD}".strip(), detail=True),)),
            Section("Before you relabel", (Text(_BEWARE),), notice=True),
            Section("By class", (Text(_CLASSES, detail=True), _by_class(issues)), wide=True),
            *table,
            Section(
                f"The {shown} most likely label errors", (Text(_FACES_TEXT, detail=True), _faces(issues)), wide=True
            ),
        ),
        data=issues.to_dict(),
    )


_CLASSES = (
    "How many faces of each label are issues, and what is suggested instead. Two classes that are suggested for each other "
    "are hard to tell apart, for people as well."
)


def _tiles(issues: LabelIssues) -> Metrics:
    n = len(issues.faces)
    return Metrics(
        (
            Metric("Label issues", f"{len(issues):,}", f"{percent(len(issues) / n)} of {count(n, 'face')}."),
            Metric(
                "Accuracy",
                percent(issues.accuracy),
                "Share of labels that the model agrees with; low means unreliable.",
            ),
            Metric(
                "Estimated label noise",
                percent(issues.wrong_share),
                "By the confident joint. It counts every confident error of the model as one of the label, so it is an upper "
                "bound.",
            ),
        )
    )


def _by_class(issues: LabelIssues) -> DataTable:
    classes, labels = issues.faces.classes, issues.faces.labels
    given = labels[issues.indices]
    rows = []
    for label, name in enumerate(classes):
        n, mine = int((labels == label).sum()), issues.suggested[given == label]
        if not n:
            continue
        counts = np.bincount(mine, minlength=len(classes))
        most = [f"{classes[k]} ({counts[k]:,})" for k in np.argsort(-counts, kind="stable")[:3] if counts[k]]
        rows.append((ClassName(name), f"{n:,}", f"{len(mine):,}", percent(len(mine) / n), ", ".join(most) or "-"))
    columns = ("Label", "Faces", "Issues", "Share", Column("Suggested most often", left=True))
    return DataTable(columns, tuple(rows))


def _listed(issues: LabelIssues, most: int) -> DataTable:
    rows = []
    for rank in range(most):
        row = issues.row(rank)
        face = row["face"] if len(row["face"]) <= _LONGEST else "..." + row["face"][3 - _LONGEST :]
        given, suggested = _probabilities(issues, rank)
        rows.append(
            (face, ClassName(row["label"]), ClassName(row["suggested"]), given, suggested, f"{row['margin']:+.2f}")
        )
    left = (Column("Face", left=True), Column("Label", left=True), Column("Suggested", left=True))
    return DataTable((*left, "p(label)", "p(suggested)", "Margin"), tuple(rows))


def _faces(issues: LabelIssues) -> FaceGallery:
    tiles = []
    for rank in range(min(_FACES, len(issues))):
        index, row = int(issues.indices[rank]), issues.row(rank)
        label, other = row["label"], row["suggested"]
        given, suggested = _probabilities(issues, rank)
        alt = f"Face labelled {label}, suggested {other}; probabilities {given} and {suggested}"
        caption, below = f"{label} \N{RIGHTWARDS ARROW} {other}", (f"{given} and {suggested}", row["face"])
        tiles.append(FaceTile(issues.faces.images[index], (other,), caption, below, alt))
    return FaceGallery(tuple(tiles), "suspects", _IN_PICTURE)


def _probabilities(issues: LabelIssues, rank: int) -> tuple[str, str]:
    """Those of the label and of the suggested class."""
    index = int(issues.indices[rank])
    given, suggested = int(issues.faces.labels[index]), int(issues.suggested[rank])
    return f"{issues.probabilities[index, given]:.0%}", f"{issues.probabilities[index, suggested]:.0%}"
