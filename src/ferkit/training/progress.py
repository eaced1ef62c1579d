"""What a person sees of a training run: a live bar on a terminal, a line per epoch in a log."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class TrainingProgress:
    """A context that shows epochs and steps on standard error; `quiet` shows nothing.

    Callers tell it of steps and epochs; it knows nothing of networks.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int, *, quiet: bool = False) -> None:
        self.epochs, self.steps, self.batch_size, self.quiet = epochs, steps, batch_size, quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}  {task.fields[state]}"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=steps, epoch=f"1/{epochs}", state="starting: compiling the network ...")
        self.started = 0.0

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, markup=False)

    def epoch_begins(self, epoch: int) -> None:
        self.started = time.perf_counter()
        self.bar.reset(self.task, epoch=f"{epoch}/{self.epochs}", state="")

    def step_ended(self, epoch: int, step: int, logs: Mapping[str, float]) -> None:
        speed = step * self.batch_size / max(time.perf_counter() - self.started, 1e-9)
        left = ((self.epochs - epoch + 1) * self.steps - step) * self.batch_size / speed
        state = (
            f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.3f}  {speed:,.0f} faces/s  {_duration(left)} left"
        )
        self.bar.update(self.task, completed=step, state=state)

    def epoch_ended(self, row: Mapping[str, float], best: bool) -> None:
        left = (self.epochs - row["epoch"]) * row["seconds"]
        self.say(
            f"epoch {row['epoch']:>3.0f}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}{'*' if best else ' '} "
            f"rate {row['learning_rate']:.2e}  {row['faces_per_second']:,.0f} faces/s  {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
