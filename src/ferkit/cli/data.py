"""`ferkit data`: what is in a data set, before anything is trained on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.label_issues import Wanted, show, write
from ferkit.cli.options import Data, DropDuplicates, Split, say
from ferkit.errors import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from ferkit.data import Dataset
    from ferkit.training import LabelIssues

# A terminal page of them says enough; --json lists all.
_SHOWN = 20


def data(
    source: Data,
    split: Split = "official",
    votes: Annotated[Path | None, typer.Option(help="FER+ votes (CSV) to join to a FER-2013 CSV.")] = None,
    drop_duplicates: DropDuplicates = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Broken rows are reported but are no failure.")
    ] = False,
    sheet: Annotated[Path, typer.Option(help="Where to draw the contact sheet: some faces of every class.")] = Path(
        "contact_sheet.png"
    ),
    label_issues: Annotated[
        str | None,
        typer.Option(
            "--label-issues",
            "--suspects",
            metavar="N|FILE.csv",
            help="Find likely label errors (confident learning): list N, or write all to a CSV.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="With --label-issues: use this model's predictions instead of training; it must not have been trained on the faces. Repeatable.",
        ),
    ] = None,
    among: Annotated[
        str | None,
        typer.Option(
            help="With --label-issues: split to check, or all. [default: all; with --predictions: not training]"
        ),
    ] = None,
    folds_in: Annotated[
        Path | None, typer.Option(help="With --label-issues: folder of the trained networks. [default: in runs/]")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="With --label-issues: number of cross-validation folds.")] = None,
    epochs: Annotated[int | None, typer.Option(help="With --label-issues: epochs per fold.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="With --label-issues: folder for a report page with the faces.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Inspect a dataset: class counts, duplicates, label issues.

    Also reports label conflicts and invalid rows, and draws a contact sheet.

    With broken rows the whole report is printed and the exit code is 1, unless --skip-broken is given. --label-issues
    trains three networks, each on two thirds of the faces, and keeps them for the next time; with --predictions it trains none.

    Example: ferkit data fer2013.csv --sheet faces.png

    Example: ferkit data fer2013.csv --label-issues 50 --report issues/
    """
    from ferkit.cli.console import reading_bar
    from ferkit.data import broken_error, check_target, load_dataset, write_contact_sheet

    wanted = Wanted(label_issues, predictions or (), among, folds_in, folds, epochs, report)
    wanted.check()
    check_target(sheet)
    with reading_bar() as progress:
        load = partial(
            load_dataset,
            source,
            split=split,
            votes=votes,
            drop_duplicates=drop_duplicates,
            skip_broken=True,
            progress=progress,
        )
        dataset = load()
    if not as_json:
        _print(dataset)
    write_contact_sheet(dataset, sheet)
    unusable = bool(dataset.broken) and not skip_broken
    found = _label_issues(wanted, dataset, load) if wanted.issues and not unusable else None
    if as_json:
        more = {} if found is None else {"suspects": found.to_dict(wanted.count)}
        print_json({**to_dict(dataset), "contact_sheet": str(sheet), **more})
    elif found is not None:
        show(found, wanted.count)
    notes.print(f"Contact sheet: {sheet}", markup=False)
    if unusable:
        raise broken_error(source, dataset.broken)
    if found is not None:
        write(found, wanted)


def _label_issues(wanted: Wanted, dataset: "Dataset", load: "Callable[..., Dataset]") -> "LabelIssues":
    import ferkit

    with no_native_chatter():
        return ferkit.find_label_issues(
            dataset,
            wanted.predictions,
            among=wanted.among,
            out=wanted.folds_in,
            folds=wanted.folds,
            epochs=wanted.epochs,
            load=load,
            say=say,
        )


def to_dict(dataset: "Dataset") -> dict[str, Any]:
    """The report as JSON has it."""
    first = next(iter(dataset.splits.values()))
    found = dataset.findings
    return {
        "source": dataset.source,
        "n": sum(len(one) for one in dataset.splits.values()),
        "classes": list(dataset.classes),
        "image": dict(zip(("height", "width", "channels"), first.images.shape[1:], strict=True)),
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


def _print(dataset: "Dataset") -> None:
    from rich.markup import escape

    first = next(iter(dataset.splits.values()))
    height, width, channels = first.images.shape[1:]
    n = sum(len(one) for one in dataset.splits.values())
    kind = "gray" if channels == 1 else "colour"
    output.print(
        f"[bold]{escape(dataset.source)}[/]: {count(n, 'face')}, {len(dataset.classes)} classes, {width}x{height} {kind}"
    )
    output.print(_counts(dataset))
    _print_duplicates(dataset)
    if dataset.broken:
        output.print(f"\n[bold]Broken[/]: {len(dataset.broken):,}, left out of the counts")
        for one in dataset.broken[:_SHOWN]:
            output.print(f"  {one.where}: {one.reason}", markup=False, soft_wrap=True)
        if len(dataset.broken) > _SHOWN:
            output.print(f"  and {len(dataset.broken) - _SHOWN:,} more (--json lists all)")
    output.print("\n[bold]Notes[/]" if dataset.notes else "", end="\n" if dataset.notes else "")
    for note in dataset.notes:
        output.print(f"  - {note}", markup=False, soft_wrap=True)


def _counts(dataset: "Dataset") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    total = sum(len(one) for one in dataset.splits.values())
    columns = [(name, one.counts, len(one)) for name, one in dataset.splits.items()]
    whole = {label: sum(counts[label] for _, counts, _ in columns) for label in dataset.classes}
    columns.append(("all", whole, total))
    table = Table()
    table.add_column("class")
    for name, _, _ in columns:
        table.add_column(escape(name), justify="right")
    for label in dataset.classes:
        table.add_row(escape(label), *(_share(counts[label], n) for _, counts, n in columns))
    table.add_section()
    table.add_row("all", *(_share(n, total) for _, _, n in columns))
    return table


def _share(n: int, total: int) -> str:
    return f"{n:,} {f'{n / max(total, 1):.1%}':>7}"


def _print_duplicates(dataset: "Dataset") -> None:
    found = dataset.findings
    if found is None:
        return
    output.print(
        f"\n[bold]Duplicates[/] (identical pixels): {count(found.redundant, 'face')} like an earlier one",
        soft_wrap=True,
    )
    for name, n in found.within.items():
        if n:
            output.print(f"  {n:,} within {name}", markup=False, soft_wrap=True)
    for (earlier, later), n in found.across.items():
        output.print(f"  {n:,} of {later} also in {earlier}", markup=False, soft_wrap=True)
    output.print(
        f"[bold]Conflicts[/]: {count(len(found.conflicts), 'group')} of identical faces with more than one label",
        soft_wrap=True,
    )
    kinds: dict[tuple[str, ...], int] = {}
    for group in found.conflicts:
        labels = {label for _, label in group}
        kind = tuple(one for one in dataset.classes if one in labels)
        kinds[kind] = kinds.get(kind, 0) + 1
    common = sorted(kinds.items(), key=lambda item: -item[1])[:5]
    if common:
        listed = ", ".join(f"{' / '.join(kind)} ({n})" for kind, n in common)
        output.print(f"  most often: {listed}", markup=False, soft_wrap=True)
