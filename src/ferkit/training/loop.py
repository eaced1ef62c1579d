"""Train a network on a data set: `train` reads top to bottom from set-up to model folder.

A run lives in one folder: `config.json`, `environment.json`, `history.csv`, `curves.png`, `tensorboard/`,
`checkpoints/last.npz` and `best.npz`, and at the end the model folder's own files. Killed at any moment, a run goes on
from its last whole epoch and ends at the same weights, because everything random starts from the seed and the state in
the checkpoint.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ferkit._support.devices import Devices
from ferkit._support.devices import choose as choose_devices
from ferkit._support.devices import parse as parse_devices
from ferkit._support.keras_backend import load_keras
from ferkit.data import Dataset, Faces, FaceSet
from ferkit.errors import TrainingError
from ferkit.evaluation import figures as plots
from ferkit.evaluation import prior_of
from ferkit.models import EmotionClassifier, recalibrate_normalization
from ferkit.models import take_weights as take_pretrained
from ferkit.render import duration
from ferkit.training import run_folder
from ferkit.training import run_folder as checkpoints
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import RECIPES, TrainConfig
from ferkit.training.finish import about_run, write_model
from ferkit.training.schedules import plateau_rate
from ferkit.training.start import (
    Data,
    check_activation,
    check_sources,
    check_splits,
    config_of,
    load_data,
    phase_of,
    phases_of,
    take_weights,
)
from ferkit.training.step import (
    VOTES_HEAD,
    averaged,
    batches_of,
    compiled_model,
    untrained_network,
    use_average,
    with_votes_head,
)
from ferkit.training.targets import (
    Targets,
    check_targets,
    open_teachers,
    store_answers,
    stored_answers,
    teachers_answers,
    training_targets,
    validation_targets,
    view_bank,
)


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
        state = f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.3f}  {speed:,.0f} faces/s  {duration(left)} left"
        self.bar.update(self.task, completed=step, state=state)

    def epoch_ended(self, row: Mapping[str, float], best: bool) -> None:
        left = (self.epochs - row["epoch"]) * row["seconds"]
        self.say(
            f"epoch {row['epoch']:>3.0f}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}{'*' if best else ' '} "
            f"rate {row['learning_rate']:.2e}  {row['faces_per_second']:,.0f} faces/s  {duration(left)} left"
        )


# Held-out faces are measured in batches of this size; it changes speed, not figures.
_VAL_BATCH = 256

History = list[dict[str, float]]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    folder: run and model folder in one. config: what was done. history: one dict per epoch with epoch, loss, accuracy,
    val_loss, val_accuracy, learning_rate, seconds, faces_per_second (loss and accuracy are taken in training, over
    augmented faces and with dropout, so they lie below what the network can do).
    """

    folder: Path
    config: TrainConfig
    history: History

    @cached_property
    def classifier(self) -> EmotionClassifier:
        """The network of the best epoch."""
        return EmotionClassifier.load(self.folder)


def train(
    data: Data,
    recipe: str | TrainConfig = "tutorial",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    devices: int | str | None = None,
    **changes: Any,
) -> Run:
    """Train a network and leave a model folder.

    Args:
        data: faces with a training and a validation split, from `load_dataset`, or the path of such data.
        recipe: name of a recipe, or a `TrainConfig`.
        out: run folder; None picks `runs/<recipe>`, numbered if taken.
        resume: go on with the run in `out` (with None: the newest of this recipe) from its last whole epoch.
        quiet: no progress on standard error.
        on_epoch: called after each epoch, when its checkpoint is on the disk, with its row of the history; what it
            raises ends the run, which can be resumed.
        devices: how many devices of this machine share each batch, or "all"; None takes one. Decides where the work is
            done, not how it goes: the weights are those of one device within rounding, and a run may be resumed on
            others.
        **changes: values of `TrainConfig` to change, e.g. `epochs=10`, `**{"augmentation.erase": 0.2}`.

    Raises:
        UsageError: a choice or value that makes no sense, or a batch that does not divide by the devices.
        TrainingError: the folder is taken or unwritable, or there is nothing to resume. The last checkpoint survives.
    """
    # Set-up: what to do and where.
    # A run that is resumed has its config already, and the model that it started from may be gone.
    config = config_of(recipe if isinstance(recipe, TrainConfig) or not resume else RECIPES[recipe].config, changes)
    named = recipe if isinstance(recipe, str) else "custom"
    if devices is not None:
        parse_devices(str(devices))
    folder = run_folder.choose(out, named, resume)
    dataset = load_data(data)
    check_splits(dataset)
    if resume:
        config, begun_as = run_folder.stored_config(folder, dataset, changes)
        named = begun_as or named
    load_keras()
    check_activation(config.activation)
    session = _Session(dataset, config, folder, named, resume, choose_devices(devices))
    session.devices.check_batch(session.batch_size)
    progress = TrainingProgress(config.epochs, session.steps, session.batch_size, quiet=quiet)

    with ExitStack() as held:
        with session.devices.scope():
            network, trained, history = _learn(session, progress, on_epoch, held)

        # The best epoch becomes the model.
        about = about_run(folder, dataset, config, history, named)
        for trouble in _write_models(folder, network, trained, dataset, config, about):
            progress.say(trouble)
        plots.training_curves(history, folder / "curves.png")
    return Run(folder, config, history)


@dataclass(frozen=True)
class _Session:
    """One stretch of a run, from a start to its end: what to do and where."""

    dataset: Dataset
    config: TrainConfig
    folder: Path
    recipe: str
    resume: bool
    devices: Devices

    @property
    def batch_size(self) -> int:
        return min(self.config.batch_size, len(self.dataset.train))

    @property
    def steps(self) -> int:
        return len(self.dataset.train) // self.batch_size


def _learn(
    session: _Session,
    progress: TrainingProgress,
    on_epoch: Callable[[dict[str, float]], None] | None,
    held: ExitStack,
) -> tuple[Any, Any, History]:
    """The network of the best epoch, the one with all heads that was trained, and the history.

    held: gets the lock of the folder, which must last until the models are written.
    """
    keras = load_keras()
    dataset, config, folder, resume = session.dataset, session.config, session.folder, session.resume
    faces, val = dataset.train, dataset.val
    batch_size, steps = session.batch_size, session.steps
    last, best = folder / "checkpoints" / "last.npz", folder / "checkpoints" / "best.npz"
    checkpoint = checkpoints.load(last) if resume and last.is_file() else None
    history: History = checkpoint.history if checkpoint else []

    # Network and optimizer. All initial weights and random states follow from the seed.
    keras.utils.set_random_seed(config.seed)
    network = untrained_network(faces, config)
    said = warned = None
    if checkpoint is None:  # else it has them, and the file that they came from may be gone
        warned = check_sources(config, dataset)
        take_pretrained(network, config.weights, faces.images)
        if config.init is not None:
            said = take_weights(network, config.init, faces.classes)
    trained = with_votes_head(network) if config.votes_weight else network
    counts = np.bincount(faces.labels, minlength=len(faces.classes))
    check_targets(faces, config)
    wanted = validation_targets(val, config)
    kept = folder / "checkpoints" / "teachers.npy"
    distilled = stored_answers(kept, faces) if resume else None
    teachers = open_teachers(config, faces) if distilled is None else []
    # Views of a bank are augmented already.
    phases = phases_of(replace(config, augmentation=Augmentation()) if config.teacher_views else config)
    phase = phase_of(max(len(history), 1), phases)
    model = phase.compiled(trained, steps, counts)
    exact = None if config.precision == "float32" else _in_float32(faces, config, steps, counts)

    # State: from the checkpoint, or from the beginning. Nothing is written before all the above has proved possible.
    if not resume:
        run_folder.claim(folder, config, dataset, session.recipe)
    held.enter_context(run_folder.alone(folder, "run", run_folder.CONFIG_FILE))
    if resume:
        run_folder.tidy(folder)
    run_folder.add_session(folder, session.devices.names)
    if checkpoint:
        checkpoints.put(checkpoint, model)
        # The table lags behind if the process died between the two.
        run_folder.write_history(folder / "history.csv", history)
    if config.teacher_views:
        views, answers = view_bank(teachers, config, faces, progress.say)
        targets = [training_targets(faces, config, one) for one in answers]
    else:
        if teachers:
            distilled = teachers_answers(teachers, config, faces)
            store_answers(distilled, kept)
        views, targets = [faces.images], [training_targets(faces, config, distilled)]
    batches = batches_of(views, targets, batch_size, config)

    # Loop over epochs.
    board = run_folder.TensorBoard(folder / "tensorboard")
    with progress:
        for line in (warned, said):
            if line:
                progress.say(line)
        if history:
            progress.say(f"Resuming {folder} after epoch {len(history)}.")
        elif (config.head_epochs or config.unfreeze) and config.init is None and config.weights == "none":
            progress.say("Warning: frozen layers have random weights. Load pretrained ones with --init or --weights.")
        while len(history) < config.epochs and not _out_of_patience(history[phases[-1].first :], config.patience):
            epoch = len(history) + 1
            if phase_of(epoch, phases) is not phase:
                phase = phase_of(epoch, phases)
                model = phase.compiled(trained, steps, counts)
            if config.schedule == "plateau":
                model.optimizer.learning_rate = plateau_rate(phase.config.learning_rate, history[phase.first :])
            rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
            batches.shuffle(epoch)
            progress.epoch_begins(epoch)
            started = time.perf_counter()
            show = _ShowSteps(progress, epoch).callback()
            # shuffle=False: the order is ours. Keras would shuffle the batches from Python's global random state.
            logs = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[show]).history
            seconds = time.perf_counter() - started
            with averaged(model):
                if config.recalibrate:
                    recalibrate_normalization(network, faces.images)
                scores = _scores(_with_weights_of(model, exact), val.images, wanted, len(session.devices))
            if not np.isfinite(logs["loss"][0]):
                raise TrainingError(
                    f"The loss became {logs['loss'][0]} in epoch {epoch}: the learning rate is too high. "
                    f"{folder} keeps the state before; start again with a lower --learning-rate."
                )
            row = {
                "epoch": epoch,
                "loss": float(logs["loss"][0]),
                "accuracy": float(logs["accuracy"][0]),
                # The log loss on the labels, whatever it is that training makes small.
                "val_loss": float(scores.get("log_loss", scores["loss"])),
                "val_accuracy": float(scores["accuracy"]),
                "learning_rate": rate,
                "seconds": seconds,
                "faces_per_second": steps * batch_size / seconds,
            }
            if "votes_accuracy" in scores:
                row["val_votes_accuracy"] = float(scores["votes_accuracy"])
            is_best = row["val_accuracy"] > max((old["val_accuracy"] for old in history), default=-1.0)
            history.append(row)
            state = checkpoints.take(model, history)
            # Best before last: if the process dies between the two, the epoch is done again and nothing is lost.
            if is_best:
                checkpoints.save(state, best)
            checkpoints.save(state, last)
            run_folder.write_history(folder / "history.csv", history)
            progress.epoch_ended(row, is_best)
            if trouble := board.add(row):
                progress.say(trouble)
            if on_epoch is not None:
                on_epoch(row)

    best_state = checkpoints.load(best)
    model = phase_of(len(best_state.history), phases).compiled(trained, steps, counts)
    checkpoints.put(best_state, model)
    use_average(model)
    return network, trained, history


def _in_float32(faces: FaceSet, config: TrainConfig, steps: int, counts: npt.NDArray[np.int64]) -> Any:
    """The training model as `_write_models` will write it: an epoch chosen in 16 bits is not the best one in 32."""
    config = replace(config, precision="float32")
    network = untrained_network(faces, config)
    return compiled_model(with_votes_head(network) if config.votes_weight else network, config, steps, counts)


def _with_weights_of(model: Any, exact: Any) -> Any:
    """What an epoch is measured by: the model itself, or its twin in float32 with its weights."""
    if exact is None:
        return model
    exact.set_weights(model.get_weights())
    return exact


def _scores(model: Any, images: Faces, wanted: Targets, devices: int) -> dict[str, float]:
    """Loss and metrics over any number of faces; the few that do not divide by the devices are measured on their own."""
    batch, even = -(-_VAL_BATCH // devices) * devices, len(images) // devices * devices
    # Every device gets all of the rest: their mean is the same.
    rest = np.tile(np.arange(even, len(images)), devices)
    parts = [(even, images[:even], wanted[:even]), (len(images) - even, images[rest], wanted[rest])]
    found = [
        (count, model.evaluate(*part, batch_size=batch, verbose=0, return_dict=True)) for count, *part in parts if count
    ]
    if len(found) == 1:
        return dict(found[0][1])
    return {name: sum(count * scores[name] for count, scores in found) / len(images) for name in found[0][1]}


def _write_models(
    folder: Path, network: Any, trained: Any, dataset: Dataset, config: TrainConfig, about: dict[str, Any]
) -> list[str]:
    """The model folder, in float32 whatever it was trained in, and for a head on votes one more in it; troubles."""
    faces, val = dataset.train, dataset.val
    final = untrained_network(faces, replace(config, precision="float32"))
    final.set_weights(network.get_weights())
    troubles = [write_model(folder, final, val, about, architecture=config.model)]
    if config.votes_weight and val.votes is not None:
        # Measured on what most voters said.
        final.set_weights([*network.get_weights()[:-2], *trained.get_layer(VOTES_HEAD).get_weights()])
        voted, _ = val.by_votes()
        if len(voted):
            prior = prior_of(faces)
            troubles.append(write_model(folder / "votes", final, voted, about, architecture=config.model, prior=prior))
        else:
            troubles.append(f"No face of {val.name} has a FER+ majority label, so there is no {folder / 'votes'}.")
    return [trouble for trouble in troubles if trouble]


class _ShowSteps:
    """Passes the steps of an epoch on to the progress bar."""

    def __init__(self, progress: TrainingProgress, epoch: int) -> None:
        self.progress, self.epoch = progress, epoch

    def callback(self) -> Any:
        def on_batch_end(batch: int, logs: dict[str, float] | None) -> None:
            # Reading the logs waits for the device, so it is done now and then only.
            if logs and batch % 20 == 0:
                self.progress.step_ended(self.epoch, batch + 1, {name: float(value) for name, value in logs.items()})

        # async_safe: else Keras on JAX waits for every step and reads its logs, whether or not they are looked at.
        return load_keras().callbacks.LambdaCallback(on_train_batch_end=on_batch_end, async_safe=True)


def _out_of_patience(history: Sequence[dict[str, float]], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: history[i]["val_accuracy"])
    return len(history) - 1 - best >= patience
