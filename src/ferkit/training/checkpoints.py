"""The state of a training run on disk, exact to the bit, and readable without running anything.

One `.npz` holds every variable of the training model (weights, batch statistics, random states), every variable of the
optimizer (moments, step count) and the history. It is written beside and renamed, so `kill -9` leaves the one before.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import TrainingError
from ferkit.files import write_atomically

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Variables in their model's order, and the epochs done so far, one dict each."""

    model: list[npt.NDArray[Any]]
    optimizer: list[npt.NDArray[Any]]
    history: list[dict[str, float]]


def take(model: Any, history: list[dict[str, float]]) -> Checkpoint:
    """Copy the state out of a compiled Keras model."""
    return Checkpoint(
        model=[variable.numpy() for variable in model.variables],
        optimizer=[variable.numpy() for variable in model.optimizer.variables],
        history=list(history),
    )


def put(checkpoint: Checkpoint, model: Any) -> None:
    """Set a compiled Keras model to a state; raises `TrainingError` if it is another network's."""
    model.optimizer.build(model.trainable_variables)
    for variables, values in ((model.variables, checkpoint.model), (model.optimizer.variables, checkpoint.optimizer)):
        shapes = [tuple(variable.shape) for variable in variables]
        stored = [value.shape for value in values]
        if shapes != stored:
            raise TrainingError(
                f"The checkpoint belongs to another network or optimizer: it holds {len(stored)} variables, "
                f"this run has {len(shapes)}, or their shapes differ. Start a new run in another folder."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; the one before survives any failure."""
    arrays: dict[str, Any] = {f"model/{i:04d}": value for i, value in enumerate(checkpoint.model)}
    arrays |= {f"optimizer/{i:04d}": value for i, value in enumerate(checkpoint.optimizer)}
    meta = json.dumps({"format": _FORMAT, "history": checkpoint.history})
    with write_atomically(path, TrainingError) as draft, draft.open("wb") as file:
        np.savez(file, meta=np.array(meta), **arrays)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raises `TrainingError` where there is none or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = sorted(stored.files)
            meta = json.loads(str(stored["meta"]))
            return Checkpoint(
                model=[stored[name] for name in names if name.startswith("model/")],
                optimizer=[stored[name] for name in names if name.startswith("optimizer/")],
                history=meta["history"],
            )
    except FileNotFoundError as problem:
        raise TrainingError(f"No checkpoint at {path}: nothing to resume. Start the run without --resume.") from problem
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise TrainingError(f"The checkpoint {path} cannot be read ({problem}). Start a new run.") from problem
