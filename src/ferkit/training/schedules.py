"""How the learning rate changes during training.

A schedule sees nothing but the step and the history so far, so a resumed run goes on at the rate it would have had.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ferkit._support.keras_backend import load_keras
from ferkit._support.registry import Registry

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Span:
    """What a schedule is stretched over. All in optimizer steps; `peak` is the configured learning rate."""

    peak: float
    warmup: int
    total: int


# By step: a number or a Keras schedule that the optimizer evaluates inside the compiled step.
Schedule = Callable[[Span], Any]
SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("constant")
def constant(span: Span) -> Any:
    """The same rate from first to last step."""
    return span.peak


@SCHEDULES.register("step")
def step(span: Span) -> Any:
    """A tenth of the rate after half of the steps, a hundredth after three quarters (He et al. 2016)."""
    keras = load_keras()
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [span.total // 2, span.total * 3 // 4], [span.peak, span.peak / 10, span.peak / 100]
    )


@SCHEDULES.register("cosine")
def cosine(span: Span) -> Any:
    """Linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017)."""
    keras = load_keras()
    if span.warmup == 0:
        return keras.optimizers.schedules.CosineDecay(span.peak, span.total)
    return keras.optimizers.schedules.CosineDecay(
        span.peak / 100, max(span.total - span.warmup, 1), warmup_target=span.peak, warmup_steps=span.warmup
    )


@SCHEDULES.register("onecycle")
def onecycle(span: Span) -> Any:
    """Up from a 25th of the rate for three tenths of the steps, then down to nothing, each as half a cosine (Smith 2018).

    Momentum stays as it is; Smith lets it fall while the rate rises.
    """
    keras = load_keras()
    ops, rise = keras.ops, max(round(0.3 * span.total), 1)
    low, high, end = span.peak / 25, span.peak, span.peak / 250_000

    def half_cosine(start: float, stop: float, share: Any) -> Any:
        return stop + (start - stop) * (1 + ops.cos(math.pi * ops.clip(share, 0.0, 1.0))) / 2

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, name-defined]
        def __call__(self, step: Any) -> Any:
            step = ops.cast(step, "float32")
            up = half_cosine(low, high, step / rise)
            down = half_cosine(high, end, (step - rise) / max(span.total - rise, 1))
            return ops.where(step < rise, up, down)

        def get_config(self) -> dict[str, Any]:
            return asdict(span)

    return OneCycle()


@SCHEDULES.register("plateau")
def plateau(span: Span) -> Any:
    """Halved whenever the validation loss has not fallen for 4 epochs, down to a thousandth of the start."""
    return span.peak


def plateau_rate(peak: float, history: History, *, factor: float = 0.5, patience: int = 4) -> float:
    """The rate of the next epoch under `plateau`, worked out from all epochs so far.

    >>> plateau_rate(0.1, [{"val_loss": 2.0}, {"val_loss": 1.9}])
    0.1
    >>> plateau_rate(0.1, [{"val_loss": 1.0}] * 5)
    0.05
    """
    rate, best, waited = peak, float("inf"), 0
    for epoch in history:
        if epoch["val_loss"] < best - 1e-4:
            best, waited = epoch["val_loss"], 0
            continue
        waited += 1
        if waited == patience:
            rate, waited = max(rate * factor, peak / 1000), 0
    return rate
