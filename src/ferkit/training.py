"""Train a network on a data set: `train` reads top to bottom from set-up to model folder.

A run lives in one folder: `config.json`, `environment.json`, `history.csv`, `curves.png`, `tensorboard/`,
`checkpoints/last.npz` and `best.npz`, and at the end the model folder's own files. Killed at any moment, a run goes on
from its last whole epoch and ends at the same weights, because everything random starts from the seed and the state in
the checkpoint.
"""

import difflib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferkit import checkpoints, evaluation, export, metrics, model_folder, plots, run_folder
from ferkit.averaging import averaged, use_average
from ferkit.classifier import EmotionClassifier, keras_network
from ferkit.datasets.records import Dataset, FaceSet
from ferkit.errors import FerkitError, TrainingError, UsageError
from ferkit.files import write_atomically
from ferkit.images import FaceInput
from ferkit.keras_backend import load_keras
from ferkit.models import ARCHITECTURES
from ferkit.models.size import multiply_adds
from ferkit.models.statistics import recalibrate_normalization
from ferkit.progress import TrainingProgress
from ferkit.recipes import RECIPES, TrainConfig
from ferkit.schedules import plateau_rate
from ferkit.training_step import batches_of, compiled_model, untrained_network

if TYPE_CHECKING:
    from collections.abc import Sequence

# Held-out faces are measured in batches of this size; it changes speed, not figures.
_VAL_BATCH = 256
# A temperature from fewer held-out faces says more about them than about the network.
_FEWEST_TO_CALIBRATE = 200

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
    dataset: Dataset,
    recipe: str | TrainConfig = "tutorial",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> Run:
    """Train a network and leave a model folder.

    Args:
        dataset: faces with a training and a validation split, from `load_dataset`.
        recipe: name of a recipe, or a `TrainConfig`.
        out: run folder; None picks `runs/<recipe>`, numbered if taken.
        resume: go on with the run in `out` (with None: the newest of this recipe) from its last whole epoch.
        quiet: no progress on standard error.
        **changes: values of `TrainConfig` to change, e.g. `epochs=10`.

    Raises:
        UsageError: a choice or value that makes no sense.
        TrainingError: the folder is taken or unwritable, or there is nothing to resume. The last checkpoint survives.
    """
    # Set-up: what to do and where.
    base = recipe if isinstance(recipe, TrainConfig) else RECIPES[recipe].config
    config = base.changed(**changes)
    if config.init is not None and changes.get("model") is None:
        config = config.changed(model=_architecture_of(config.init))
    folder = run_folder.choose(out, recipe if isinstance(recipe, str) else "custom", resume)
    if resume:
        config = run_folder.stored_config(folder, dataset, changes)
    keras = load_keras()
    _check_activation(config.activation)
    faces, val = dataset.train, dataset.val
    batch_size = min(config.batch_size, len(faces))
    steps = len(faces) // batch_size

    # Network and optimizer. All initial weights and random states follow from the seed.
    keras.utils.set_random_seed(config.seed)
    network = untrained_network(faces, config)
    if config.init is not None:
        _take_weights(network, config.init)
    model = compiled_model(network, config, steps)

    # State: from the checkpoint, or from the beginning. Nothing is written before all the above has proved possible.
    if not resume:
        run_folder.claim(folder, config, dataset)
    run_folder.add_sitting(folder)
    last, best = folder / "checkpoints" / "last.npz", folder / "checkpoints" / "best.npz"
    history: History = []
    if resume and last.is_file():
        checkpoint = checkpoints.load(last)
        checkpoints.put(checkpoint, model)
        history = checkpoint.history
        # The table lags behind if the process died between the two.
        run_folder.write_history(folder / "history.csv", history)
    batches = batches_of(faces, batch_size, config)
    targets = np.eye(len(dataset.classes), dtype=np.float32)[val.labels]

    # Loop over epochs.
    board = run_folder.TensorBoard(folder / "tensorboard")
    with TrainingProgress(config.epochs, steps, batch_size, quiet=quiet) as progress:
        if history:
            progress.say(f"Resuming {folder} after epoch {len(history)}.")
        while len(history) < config.epochs and not _out_of_patience(history, config.patience):
            epoch = len(history) + 1
            if config.schedule == "plateau":
                model.optimizer.learning_rate = plateau_rate(config.learning_rate, history)
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
                val_loss, val_accuracy = model.evaluate(val.images, targets, batch_size=_VAL_BATCH, verbose=0)
            if not np.isfinite(logs["loss"][0]):
                raise TrainingError(
                    f"The loss became {logs['loss'][0]} in epoch {epoch}: the learning rate is too high. "
                    f"{folder} keeps the state before; start again with a lower --learning-rate."
                )
            row = {
                "epoch": epoch,
                "loss": float(logs["loss"][0]),
                "accuracy": float(logs["accuracy"][0]),
                "val_loss": float(val_loss),
                "val_accuracy": float(val_accuracy),
                "learning_rate": rate,
                "seconds": seconds,
                "faces_per_second": steps * batch_size / seconds,
            }
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

    # The best epoch becomes the model, in float32 whatever it was trained in.
    checkpoints.put(checkpoints.load(best), model)
    use_average(model)
    final = untrained_network(faces, config.changed(precision="float32"))
    final.set_weights(network.get_weights())
    if trouble := _finish(folder, final, dataset, config, history, val):
        progress.say(trouble)
    return Run(folder, config, history)


def _check_activation(name: str) -> None:
    keras = load_keras()
    try:
        keras.activations.get(name)
    except ValueError as problem:
        choices = [
            n for n in dir(keras.activations) if not n.startswith("_") and n not in ("get", "serialize", "deserialize")
        ]
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"Keras knows no activation {name!r}. {hint}Choices: {', '.join(choices)}.") from problem


class _ShowSteps:
    """Passes the steps of an epoch on to the progress bar."""

    def __init__(self, progress: TrainingProgress, epoch: int) -> None:
        self.progress, self.epoch = progress, epoch

    def callback(self) -> Any:
        def on_batch_end(batch: int, logs: dict[str, float] | None) -> None:
            # Reading the logs waits for the device, so it is done now and then only.
            if logs and batch % 20 == 0:
                self.progress.step_ended(self.epoch, batch + 1, {name: float(value) for name, value in logs.items()})

        return load_keras().callbacks.LambdaCallback(on_train_batch_end=on_batch_end)


def _finish(
    folder: Path, network: Any, dataset: Dataset, config: TrainConfig, history: History, val: FaceSet
) -> str | None:
    """Write the model folder: network, serving copy, and the card last; returns what the user must know, if anything."""
    # The card goes first and comes last: with it there, the files beside it are the ones it describes.
    (folder / model_folder.CARD_FILE).unlink(missing_ok=True)
    shape = network.input_shape
    face_input = FaceInput(height=shape[1], width=shape[2], channels=shape[3])
    with write_atomically(folder / model_folder.KERAS_FILE, TrainingError) as draft:
        network.save(draft)
    serving: dict[str, Any] = {}
    try:
        serving["onnx_max_difference"] = export.to_onnx(network, face_input, folder / model_folder.ONNX_FILE)
    except FerkitError as problem:
        if isinstance(problem.__cause__, OSError):
            raise  # of the disk, not of the network
        # Without TensorFlow there is no way to ONNX; the Keras file alone is a working model.
        (folder / model_folder.ONNX_FILE).unlink(missing_ok=True)
        serving["onnx_missing"] = str(problem)

    # Calibration and figures on the split that the best epoch was chosen on: the card says so.
    run = keras_network(network)
    raw = np.concatenate([run(val.images[i : i + _VAL_BATCH]) for i in range(0, len(val), _VAL_BATCH)])
    temperature = metrics.fit_temperature(raw, val.labels) if len(val) >= _FEWEST_TO_CALIBRATE else 1.0
    report = evaluation.measure(metrics.apply_temperature(raw, temperature), val, model=config.model, seconds=0)
    figures = report.to_dict()
    for name in ("model", "faces_per_second", "confusion", "coverage"):
        del figures[name]
    model_folder.write_card(
        folder,
        classes=dataset.classes,
        face_input=face_input,
        temperature=temperature,
        details={
            "architecture": config.model,
            "parameters": int(network.count_params()),
            "multiply_adds": multiply_adds(network),
            "training": {
                "data": run_folder.about(dataset),
                "recipe": config.to_dict(),
                "epochs_done": len(history),
                "best_epoch": int(max(history, key=lambda row: row["val_accuracy"])["epoch"]),
                "seconds": round(sum(row["seconds"] for row in history), 1),
                "sittings": run_folder.sittings(folder),
            },
            "metrics": {
                **figures,
                "ece_uncalibrated": metrics.ece(raw, val.labels),
                "note": f"Epoch and temperature were chosen on {val.name}, so expect a little less on unseen faces.",
            },
            "serving": serving,
        },
    )
    plots.training_curves(history, folder / "curves.png")
    missing = serving.get("onnx_missing")
    return missing and f"No {model_folder.ONNX_FILE}, so this model runs only where Keras is installed: {missing}"


def _architecture_of(init: str | Path) -> str | None:
    """The architecture that a model folder says it has; None where nothing says it, or it is not known here."""
    path = model_folder.find(init)
    name = model_folder.read_card(path).get("architecture") if path.is_dir() else None
    return name if name in ARCHITECTURES else None


def _take_weights(network: Any, init: str | Path) -> None:
    source = {layer.name: layer.get_weights() for layer in export.open_network(init).layers}
    taken = 0
    for layer in network.layers:
        weights = source.get(layer.name)
        if weights and [w.shape for w in weights] == [w.shape for w in layer.get_weights()]:
            layer.set_weights(weights)
            taken += 1
    if taken == 0:
        raise TrainingError(
            f"No layer of {init} fits the network {network.name!r}: choose the --model it was trained as."
        )


def _out_of_patience(history: "Sequence[dict[str, float]]", patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: history[i]["val_accuracy"])
    return len(history) - 1 - best >= patience
