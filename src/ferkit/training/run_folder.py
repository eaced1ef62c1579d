"""The folder of a training run: which one, what is written into it, and what a resumed run must agree with.

A checkpoint is exact to the bit and readable without running anything: one `.npz` holds every variable of the training
model (weights, batch statistics, random states), every variable of the optimizer (moments, step count) and the history.
It is written beside and renamed, so `kill -9` leaves the one before.
"""

import csv
import hashlib
import importlib.util
import json
import os
import platform
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.files import blame, create, sweep, write_atomically
from ferkit._support.keras_backend import load_keras
from ferkit.data import Dataset
from ferkit.errors import TrainingError
from ferkit.models import model_folder
from ferkit.training.config import TrainConfig

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


CONFIG_FILE = "config.json"
_ENVIRONMENT_FILE = "environment.json"
_LOCK_FILE = ".lock"
_VOTES_PRINT = "votes_fingerprint"


def choose(out: str | Path | None, recipe: str, resume: bool) -> Path:
    """The folder to use: `out`, or `runs/<recipe>` with a number where that is taken; to resume, the newest taken one."""
    if out is not None:
        folder = Path(out)
        if not resume and (folder / CONFIG_FILE).is_file():
            raise TrainingError(f"{folder} holds a run already. Go on with --resume, or choose another --out.")
        if resume and not (folder / CONFIG_FILE).is_file():
            raise TrainingError(f"{folder} holds no run: nothing to resume. Start it without --resume.")
        return folder
    taken = [Path("runs") / recipe]
    while (taken[-1] / CONFIG_FILE).is_file():
        taken.append(Path("runs") / f"{recipe}-{len(taken) + 1}")
    if resume:
        if len(taken) == 1:
            raise TrainingError(f"No run of {recipe!r} under runs: nothing to resume. Name its folder with --out.")
        return taken[-2]
    return taken[-1]


def claim(folder: Path, config: TrainConfig, dataset: Dataset, recipe: str = "custom") -> None:
    """Make the folder this run's by writing its config; of two runs that chose the same one, the second is refused."""
    text = json.dumps({**config.to_dict(), "data": about(dataset), "recipe": recipe}, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not a rename: only the creation of a file tells two processes apart.
        create(folder / CONFIG_FILE, text.encode())
    except FileExistsError as problem:
        what = "another run has just taken it" if folder.is_dir() else "a file of that name is in the way"
        raise TrainingError(f"Cannot train into {folder}: {what}. Choose another --out.") from problem
    except OSError as problem:
        raise TrainingError(
            f"Cannot write {folder / CONFIG_FILE}: {problem.strerror}. Free space or choose another place."
        ) from problem


def tidy(folder: Path) -> None:
    """Remove what a run that was killed had begun to write; whoever resumes it is the only one to write there."""
    for place in (folder, folder / "checkpoints"):
        sweep(place, untouched_s=0)


@contextmanager
def alone(folder: Path, what: str, file: str = _LOCK_FILE) -> Iterator[None]:
    """Hold a folder, made if need be; the system lets go of it when the process ends, however it ends.

    what: what the folder is of, as in "Another search works in ...", which is the `TrainingError` of who comes second.
    file: what is locked in it.
    """
    with blame(folder / file, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / file).open("a")
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows has other locks; two drivers in one folder are rare enough
        except BlockingIOError as problem:
            raise TrainingError(f"Another {what} works in {folder}. Wait for it, or choose another --out.") from problem
        yield


def stored_config(folder: Path, dataset: Dataset, changes: Mapping[str, Any]) -> tuple[TrainConfig, str | None]:
    """The config of the run to resume; a change that would make it another run is refused.

    Also the name of its recipe; None for runs begun before this was noted down.
    """
    try:
        stored = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        trained_on, recipe = stored.pop("data"), stored.pop("recipe", None)
        config = TrainConfig.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TrainingError(
            f"{folder / CONFIG_FILE} cannot be read ({problem}). Remove {folder}, or start a new run in another."
        ) from problem
    if trained_on["fingerprint"] != dataset.fingerprint:
        raise TrainingError(
            f"{folder} was trained on other data ({trained_on['source']}, {trained_on['faces']}). "
            "Resume with the same data, --split and --drop-duplicates."
        )
    # Runs begun before this was noted down had no votes or cannot say.
    given = about(dataset)
    if "votes" in trained_on and trained_on["votes"] != given["votes"]:
        raise TrainingError(f"{folder} was trained {'with' if trained_on['votes'] else 'without'} votes. Resume it so.")
    if trained_on.get(_VOTES_PRINT, given.get(_VOTES_PRINT)) != given.get(_VOTES_PRINT):
        raise TrainingError(f"{folder} was trained with other votes. Resume with the same file of votes.")
    wanted = config.changed(**changes)
    if wanted != config:
        differing = [n for n, value in wanted.to_dict().items() if value != config.to_dict()[n]]
        raise TrainingError(
            f"{folder} was started with other values of {', '.join(differing)}. Resume without them, or start a new run."
        )
    return config, recipe


def about(dataset: Dataset) -> dict[str, Any]:
    """What the card and the config say of the data; paths of this machine stay out."""
    counts = {name: len(faces) for name, faces in dataset.splits.items()}
    voted = {name: faces.votes for name, faces in dataset.splits.items() if faces.votes is not None}
    facts = {
        "source": Path(dataset.source).name,
        "fingerprint": dataset.fingerprint,
        "faces": counts,
        "split_by": dict(dataset.split_by),
        "votes": bool(voted),
    }
    if voted:
        # Faces may stay as they are while somebody corrects what was said of them.
        digest = hashlib.sha256()
        for name, votes in voted.items():
            digest.update(name.encode())
            digest.update(votes.astype("<f4").tobytes())
        facts[_VOTES_PRINT] = digest.hexdigest()
    return facts


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Where and with what the run was done: one entry per start, so a run resumed elsewhere says so."""
    try:
        return list(json.loads((folder / _ENVIRONMENT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def add_session(folder: Path, devices: Sequence[str]) -> None:
    now = {
        "backend": load_keras().backend.backend(),
        "commit": model_folder.git_commit(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": list(devices),
        "versions": model_folder.versions(),
    }
    write_json(folder / _ENVIRONMENT_FILE, [*sessions(folder), now])


def write_json(path: Path, document: Any) -> None:
    with write_atomically(path, TrainingError) as draft:
        draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    # Written whole each time: a table of a few hundred rows, never half a row, and no row twice after a resume.
    with write_atomically(path, TrainingError) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


class TensorBoard:
    """Scalars for TensorBoard, written with its own writer: Keras' callback needs TensorFlow on every backend.

    It is a view of `history.csv`, so trouble with its file, as on a full disk, ends it and not the run. A file is
    opened with the first row: a run that is resumed and has nothing left to do leaves none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None
        self.works = importlib.util.find_spec("tensorboard") is not None

    def add(self, row: Mapping[str, float]) -> str | None:
        """Write a row; what went wrong, once, in one line."""
        if not self.works:
            return None
        try:
            self._write(row)
        except Exception as problem:  # with TensorFlow its file errors are TensorFlow's own
            self.works = False
            return f"No more curves in {self.folder}: {str(problem).splitlines()[0]}"
        return None

    def _write(self, row: Mapping[str, float]) -> None:
        if self.writer is None:
            if load_keras().backend.backend() != "tensorflow":
                # TensorBoard's own word for "take the stub": else it brings TensorFlow with it, where it is installed.
                sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self.writer = EventFileWriter(str(self.folder))
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
        step = int(row["epoch"])
        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self.writer.flush()
