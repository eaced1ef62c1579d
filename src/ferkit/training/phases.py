"""The phases of a run: usually one; in fine-tuning first the head alone, then the base with it at a lower rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.models.transfer import freeze_base, thaw
from ferkit.recipes import TrainConfig
from ferkit.training.step import compiled_model


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with an optimizer and a schedule of its own.

    config: as if the phase were a run, so `epochs` and `learning_rate` are the phase's. first: epochs of the run before
    it. head_only: whether only the last layer learns.
    """

    config: TrainConfig
    first: int
    head_only: bool

    def compiled(self, network: Any, steps: int, counts: npt.NDArray[np.int64]) -> Any:
        """The training model of this phase, its optimizer new; see `ferkit.training.step.compiled_model`."""
        if self.head_only:
            freeze_base(network)
        elif self.first or self.config.thaw or self.config.weights != "none":
            thaw(network, self.config.thaw)
        return compiled_model(network, self.config, steps, counts)


def phases_of(config: TrainConfig) -> Sequence[Phase]:
    """The phases that a config asks for, in their order."""
    if not config.head_epochs:
        return [Phase(config, 0, head_only=False)]
    rate = config.thaw_rate or config.learning_rate / 10
    head = replace(config, epochs=config.head_epochs, head_epochs=0, thaw_rate=None)
    rest = replace(config, epochs=config.epochs - config.head_epochs, head_epochs=0, learning_rate=rate, thaw_rate=None)
    return [Phase(head, 0, head_only=True), Phase(rest, config.head_epochs, head_only=False)]


def phase_of(epoch: int, phases: Sequence[Phase]) -> Phase:
    """The phase that an epoch, counted from 1, belongs to."""
    return [phase for phase in phases if phase.first < epoch][-1]
