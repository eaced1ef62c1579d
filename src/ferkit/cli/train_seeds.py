"""`ferkit train --seeds`: several runs of one recipe, and a table of how they differ."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferkit.cli.console import notes, output, print_json
from ferkit.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from ferkit.datasets import Dataset
    from ferkit.runs import Where
    from ferkit.sweeps import Spread, Sweep


@dataclass(frozen=True)
class SeveralRuns:
    """What `--seeds` and its company ask for; `check` before minutes are spent on data."""

    recipe: str
    seeds: list[int]
    out: Path
    resume: bool
    where: "Where"

    def check(self) -> None:
        from ferkit.sweeps import check_folder

        self.where.check()
        check_folder(self.out, self.seeds, resume=self.resume)

    def train(self, dataset: "Dataset", changes: dict[str, Any]) -> "Sweep":
        """Train, telling on standard error what happens."""
        from ferkit.sweeps import train_seeds

        options: dict[str, Any] = {"out": self.out, "resume": self.resume, "where": self.where}
        try:
            return train_seeds(dataset, self.recipe, self.seeds, say=_say, **options, **changes)
        except KeyboardInterrupt:
            notes.print("Whole epochs are kept. To go on: the same command with --resume.")
            raise


def parse_seeds(text: str) -> list[int]:
    """`42,43,44` as numbers.

    >>> parse_seeds("42, 43")
    [42, 43]
    """
    from ferkit.sweeps import check_seeds

    try:
        seeds = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UsageError(f"seeds are different whole numbers from 0, as in 42,43,44. Received: {text}.") from None
    check_seeds(seeds)
    return seeds


def show(sweep: "Sweep", data: Path, *, json_: bool) -> None:
    """The table, or all of it as JSON; `TrainingError` where a seed failed."""
    if json_:
        print_json({"folder": str(sweep.folder), **sweep.to_dict()})
    else:
        _table(sweep)
        folders = " ".join(str(sweep.folder / run.folder) for run in sweep.done)
        _say(
            f"\nThe interval is that of the mean over seeds, on the {sweep.n:,} faces of {sweep.split}, on which each run's "
            f"best epoch was chosen.\nNext: ferkit evaluate {folders} {data} --ensemble"
        )
    failed = [run for run in sweep.runs if not run.figures]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(sweep.runs)} seeds failed; {failed[-1].folder}: {failed[-1].why}")


def _say(text: str) -> None:
    notes.print(text, markup=False)


def _table(sweep: "Sweep") -> None:
    from rich.table import Table

    from ferkit.sweeps import FIGURES

    table = Table("seed", *(_HEADINGS[name] for name in FIGURES), box=None)
    for column in table.columns:
        column.justify = "right"
    for run in sweep.runs:
        figures = run.figures
        table.add_row(str(run.seed), *(_text(name, figures[name]) if figures else "failed" for name in FIGURES))
    table.add_section()
    for heading, part in _PARTS.items():
        table.add_row(heading, *(part(name, sweep.spreads[name]) for name in FIGURES))
    output.print(table)


_HEADINGS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "log loss", "ece": "ECE"}


def _text(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.3f}"


def _interval(name: str, spread: "Spread") -> str:
    if spread.ci95 is None:
        return "-"
    low, high = (_text(name, end).removesuffix(" %") for end in spread.ci95)
    return f"{low} to {high}"


_PARTS: "dict[str, Callable[[str, Spread], str]]" = {
    "mean": lambda name, spread: _text(name, spread.mean),
    "sd": lambda name, spread: "-" if spread.sd is None else _text(name, spread.sd),
    "95 % interval": _interval,
}
