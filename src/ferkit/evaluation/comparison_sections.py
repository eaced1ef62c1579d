"""A comparison as a report: the verdict, what differs by class, what is predicted differently, and on which faces."""

from pathlib import Path

from ferkit.errors import count
from ferkit.evaluation import comparison_figures as plots
from ferkit.evaluation.comparison import Comparison, Pair
from ferkit.evaluation.report_sections import on_split, with_views
from ferkit.models import INTENDED_USE
from ferkit.render import (
    Beside,
    Cell,
    ClassName,
    Code,
    Column,
    DataTable,
    Document,
    FaceGallery,
    FaceTile,
    Figure,
    Metric,
    Metrics,
    Row,
    Section,
    Text,
    interval,
    p_equals,
    p_value,
    percent,
    point_interval,
    points,
    write_page,
)

_MOST_DISAGREEMENTS = 12
_FACES = 32
_DIFFERENCE = "B \N{MINUS SIGN} A"


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Write `index.html`, which holds everything, with `comparison.json` and the plots in `figures/` for use elsewhere.

    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    return write_page(found.document(), Path(folder), data="comparison.json")


def comparison_document(found: Comparison) -> Document:
    """All of a comparison, the verdict first."""
    tests = count(len(found.per_class), "test")
    classes = Text(
        f"Recall of each class. p-values are corrected for {tests} (Holm), the intervals are not. Rows in bold, and filled "
        "marks, differ significantly (p < 0.05)."
    )
    shown = [(one.a, one.b, one.n, one.a_right, one.b_right) for one in found.disagreements[:_MOST_DISAGREEMENTS]]
    plot_of_classes = Figure(
        "classes",
        lambda path, theme: plots.differences(_differences(found), path, theme=theme),
        "Difference of the two models by class, with 95% intervals; the table has the same numbers.",
    )
    plot_of_disagreements = Figure(
        "clashes",
        lambda path, theme: plots.disagreements(shown, path, theme=theme),
        "Predictions of the two models for the faces on which they differ; the table has the same counts.",
    )
    faces_text = Text(
        "The label, then the prediction of each model; the strip has both predictions' colours. Some of the labels are wrong "
        "themselves.",
        detail=True,
    )
    return Document(
        title=f"{found.a.model} and {found.b.model} on {on_split(found.a)}",
        about=f"A is {found.a.model}, B is {found.b.model}; {count(found.a.n, 'face')}{with_views(found.a)}",
        sections=(
            Section("Summary", (Text(found.verdict), _tiles(found), *_context(found)), wide=True),
            Section("Discordant pairs (McNemar)", (Text(_quarters_text(found), detail=True), _quarters(found))),
            Section("Intended use", (Text(INTENDED_USE, detail=True),), notice=True),
            Section("Metrics", (_metrics(found),), wide=True),
            Section("Per-class metrics", (classes, Beside((plot_of_classes,), (_per_class(found),))), wide=True),
            Section(
                "Disagreements",
                (Text(_agreement(found)), Beside((plot_of_disagreements,), (_disagreements(found),))),
                wide=True,
            ),
            Section("Most confident disagreements", (faces_text, _faces(found)), wide=True),
        ),
        data=found.to_dict(),
    )


def _differences(found: Comparison) -> list[plots.Difference]:
    whole = found.judged
    name = "all faces" if whole.n == found.overall.n else "distinct faces"
    rows = [plots.Difference(name, whole.n, whole.difference, *whole.interval, whole.differs())]
    for name, (pair, p) in found.per_class.items():
        rows.append(plots.Difference(name, pair.n, pair.difference, *pair.interval, pair.differs(p)))
    return rows


def _tiles(found: Comparison) -> Metrics:
    pair = found.judged
    a, b = (percent(share) for share in found.overall.accuracies)
    copies = "" if pair.n == found.overall.n else f"On {found.judged_name}. "
    return Metrics(
        (
            Metric("Accuracy of A", a, f"95% interval: {interval(found.a.accuracy_ci95)}."),
            Metric("Accuracy of B", b, f"95% interval: {interval(found.b.accuracy_ci95)}."),
            Metric(
                _DIFFERENCE,
                f"{points(pair.difference)} points",
                f"{copies}95% interval: {point_interval(pair.interval)} (Tango 1998). It is narrower than the two separate "
                "intervals suggest, since the faces are the same.",
            ),
            Metric(
                "McNemar's test",
                p_equals(pair.p),
                f"{copies}Probability of a split of the discordant pairs at least as uneven, if both were equally good (mid-p).",
            ),
        )
    )


def _context(found: Comparison) -> list[Text]:
    said = [
        "The test compares these two models on faces like these. It does not cover the randomness of training: another seed of the "
        "same recipe gives another model (",
        Code("ferkit train --seeds"),
        ").",
    ]
    return [Text((*said, f" {found.a.note}" if found.a.note else ""), quiet=True)]


def _quarters_text(found: Comparison) -> str:
    return (
        "Faces that both models get right, or both wrong, do not show which model is better. McNemar's test looks at the "
        f"discordant pairs only: A right and B wrong, or the other way round. Counted on {found.judged_name}."
    )


def _quarters(found: Comparison) -> DataTable:
    pair = found.judged

    def row(name: str, *counts: int) -> Row:
        return (name, *(Cell(f"{n:,}", percent(n / pair.n)) for n in counts))

    rows = (row("A right", pair.both, pair.only_a), row("A wrong", pair.only_b, pair.neither))
    return DataTable((found.judged_name, "B right", "B wrong"), rows)


def _metrics(found: Comparison) -> DataTable:
    def paired(name: str, pair: Pair) -> tuple[str, ...]:
        shares = map(percent, pair.accuracies)
        return (name, f"{pair.n:,}", *shares, points(pair.difference), point_interval(pair.interval), p_value(pair.p))

    rows = [paired("Accuracy", found.overall)]
    if found.without_duplicates:
        rows.append(paired("Accuracy without duplicates", found.without_duplicates))
    f1 = found.macro_f1_interval
    for name, key, between in (
        ("Macro-F1", "macro_f1", "-" if f1 is None else f"{f1[0]:+.3f} to {f1[1]:+.3f}"),
        ("Log loss (nats)", "nll", "-"),
        ("Calibration error (ECE)", "ece", "-"),
    ):
        a, b = getattr(found.a, key), getattr(found.b, key)
        rows.append((name, f"{found.a.n:,}", f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", between, "-"))
    return DataTable(("", "Faces", "A", "B", _DIFFERENCE, "95% interval", "p-value"), tuple(rows))


def _per_class(found: Comparison) -> DataTable:
    rows: list[Row] = []
    for name, (pair, p) in found.per_class.items():
        said = (*map(percent, pair.accuracies), points(pair.difference), point_interval(pair.interval), p_value(p))
        strong = pair.differs(p)
        rows.append((ClassName(name), f"{pair.n:,}", *(Cell(text, strong=strong) for text in said)))
    return DataTable(
        ("Class", "Faces", "Recall of A", "Recall of B", _DIFFERENCE, "95% interval", "p-value"), tuple(rows)
    )


def _agreement(found: Comparison) -> str:
    kappa = "" if found.kappa is None else f"; Cohen's kappa, agreement beyond chance, is {found.kappa:.2f}"
    return f"Both predict the same class for {percent(found.agreement)} of the faces{kappa}. The most frequent disagreements:"


def _disagreements(found: Comparison) -> DataTable:
    rows = tuple(
        (
            ClassName(one.a),
            ClassName(one.b),
            *(f"{n:,}" for n in (one.n, one.a_right, one.b_right, one.n - one.a_right - one.b_right)),
        )
        for one in found.disagreements[:_MOST_DISAGREEMENTS]
    )
    return DataTable(("A predicts", Column("B predicts", left=True), "Faces", "A right", "B right", "Neither"), rows)


def _faces(found: Comparison) -> FaceGallery:
    tiles = []
    for index in found.confident_disagreements[:_FACES]:
        label = found.a.classes[int(found.a.faces.labels[index])]
        answers = tuple(found.a.classes[int(answers[index])] for answers in found.answers)
        confidence = [f"{one.probabilities[index].max():.0%}" for one in (found.a, found.b)]
        said = tuple(f"{letter}: {name} {p}" for letter, name, p in zip("AB", answers, confidence, strict=True))
        alt = f"Face labelled {label}; {', '.join(said)}"
        tiles.append(FaceTile(found.a.faces.images[index], answers, label, said, alt))
    return FaceGallery(tuple(tiles))
