"""Labels in doubt as one page: how many, in which classes, and the faces, to look at before anything is changed."""

from html import escape
from pathlib import Path

import numpy as np

from ferkit._support.files import write_atomically
from ferkit.errors import count
from ferkit.evaluation import suspects_gallery
from ferkit.render import class_name, face_tile, scrolling_table, section
from ferkit.render.document import document, percent
from ferkit.training.label_issues import LabelIssues, write_figures, write_table

_FACES = 96
_IN_PICTURE = 36

_HOW = (
    "A face is a suspect when the answer to it is at least as sure of another class as answers usually are to faces that carry "
    "that class's label (confident learning, Northcutt et al. 2021). They are in order of the label's probability less that of "
    "the best other class."
)
_BEWARE = (
    "A suspect is not a mistake. The network is wrong as well, most of all about rare classes and about people and expressions "
    "that its data has few of: to delete or relabel all suspects unseen makes the data agree with the network. Look at each "
    "face, and have more than one person judge the doubtful ones."
)


def write_page(suspects: LabelIssues, folder: Path) -> Path:
    """Write `index.html`, which holds everything, with `suspects.csv`, `suspects.json` and a picture in `figures/`.

    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    folder = Path(folder)
    first = suspects.indices[:_IN_PICTURE]
    picture = folder / "figures" / "suspects.png"
    suspects_gallery(suspects.faces, first, suspects.suggested[:_IN_PICTURE], suspects.probabilities, picture)
    shown = min(_FACES, len(suspects))
    sections = [
        section("In short", escape(suspects.warning), _tiles(suspects), wide=True),
        section("How they were found", f"{escape(suspects.how)} {_HOW}".strip(), ""),
        section("What to do with them", _BEWARE, "", kind="notice"),
        section("By class", _CLASSES, _by_class(suspects), wide=True),
        section(f"The {shown} most suspicious", _FACES_TEXT, _faces(suspects), wide=True),
    ]
    about = f"{count(len(suspects.faces), 'face')} of {escape(suspects.faces.name)}, judged by <strong>{escape(suspects.by)}</strong>."
    page = document("Labels that are likely wrong", about, sections)
    write_table(suspects, folder / "suspects.csv")
    write_figures(suspects, folder / "suspects.json")
    with write_atomically(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


_CLASSES = (
    "Of the faces with a label, how many are suspects, and what they seem to be instead. Two classes that are suggested for each "
    "other are hard to tell apart, for people as well."
)
_FACES_TEXT = (
    "The label, then the class that is suggested, whose colour the strip has; below, the probabilities of both and where the "
    "face is. <code>suspects.csv</code> beside this page lists all."
)


def _tiles(suspects: LabelIssues) -> str:
    n = len(suspects.faces)
    tiles = [
        ("Suspects", f"{len(suspects):,}", f"of {count(n, 'face')}, {percent(len(suspects) / n)}."),
        (
            "Labels the network agrees with",
            percent(suspects.accuracy),
            "The lower this is, the less its doubts mean.",
        ),
        (
            "Estimate of wrong labels",
            percent(suspects.wrong_share),
            "by the confident joint. It takes every sure mistake of the network for one of the label, so it is too high: "
            "read it as a bound.",
        ),
    ]
    cells = "\n".join(
        f"<div><dt>{name}</dt><dd><strong>{value}</strong><small>{text}</small></dd></div>"
        for name, value, text in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _by_class(suspects: LabelIssues) -> str:
    classes, labels = suspects.faces.classes, suspects.faces.labels
    given = labels[suspects.indices]
    rows = []
    for label, name in enumerate(classes):
        n, mine = int((labels == label).sum()), suspects.suggested[given == label]
        if not n:
            continue
        counts = np.bincount(mine, minlength=len(classes))
        most = [f"{escape(classes[k])} ({counts[k]:,})" for k in np.argsort(-counts, kind="stable")[:3] if counts[k]]
        cells = "".join(f"<td>{cell}</td>" for cell in (f"{n:,}", f"{len(mine):,}", percent(len(mine) / n)))
        seems = f'<td class="words">{", ".join(most) or "-"}</td>'
        rows.append(f'<tr><th scope="row">{class_name(name)}</th>{cells}{seems}</tr>')
    head = "".join(f'<th scope="col">{text}</th>' for text in ("Label", "Faces", "Suspects", "Share"))
    return scrolling_table(f'{head}<th scope="col" style="text-align:left">Suggested most often</th>', rows)


def _faces(suspects: LabelIssues) -> str:
    tiles = []
    for rank in range(min(_FACES, len(suspects))):
        index, row = int(suspects.indices[rank]), suspects.row(rank)
        label, other = escape(row["label"]), escape(row["suggested"])
        sure = [f"{suspects.probabilities[index, k]:.0%}" for k in _both(suspects, rank)]
        alt = f"Face labelled {label}, which seems to be {other}; probabilities {sure[0]} and {sure[1]}"
        below = f"{sure[0]} and {sure[1]}<br>{escape(row['face'])}"
        tiles.append(face_tile(suspects.faces.images[index], [row["suggested"]], alt, f"{label} &rarr; {other}", below))
    return f'<ul class="faces">{"".join(tiles)}</ul>' if tiles else "<p>There are none.</p>"


def _both(suspects: LabelIssues, rank: int) -> tuple[int, int]:
    """The label of a suspect, and what is suggested."""
    return int(suspects.faces.labels[suspects.indices[rank]]), int(suspects.suggested[rank])
