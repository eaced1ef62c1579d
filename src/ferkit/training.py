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
import numpy.typing as npt

from ferkit import checkpoints, evaluation, export, metrics, model_folder, plots, run_folder
from ferkit.augmentation import augmenter
from ferkit.averaging import averaged, keep_weights, use_average
from ferkit.classifier import EmotionClassifier, keras_network
from ferkit.datasets.records import Dataset, FaceSet
from ferkit.errors import FerkitError, TrainingError, UsageError
from ferkit.files import write_atomically
from ferkit.images import FaceInput
from ferkit.keras_backend import load_keras
from ferkit.mixing import mixed
from ferkit.models import ARCHITECTURES
from ferkit.models.kernels import use_fused_normalization
from ferkit.models.size import multiply_adds
from ferkit.models.statistics import recalibrate_normalization
from ferkit.progress import TrainingProgress
from ferkit.recipes import RECIPES, TrainConfig
from ferkit.schedules import SCHEDULES, Span, plateau_rate

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


def untrained_network(faces: FaceSet, config: TrainConfig) -> Any:
    """The network that a config asks for, fitting these faces.

    Under bfloat16 its layers compute in 16 bits and keep their weights in 32.
    """
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if config.precision == "bfloat16" else "float32")
    try:
        build = ARCHITECTURES[config.model]
        return build(len(faces.classes), input_shape=faces.images.shape[1:], activation=config.activation)
    finally:
        keras.config.set_dtype_policy(before)


def compiled_model(network: Any, config: TrainConfig, steps: int) -> Any:
    """The network with the augmentation in front of it, compiled: one step takes bytes and does all the rest.

    `steps` are the optimizer steps of an epoch, which the schedule is stretched by.
    """
    keras = load_keras()
    use_fused_normalization(network)
    pixels = keras.Input(network.input_shape[1:], dtype="uint8", name="faces")
    model = keras.Model(pixels, network(augmenter(config.augmentation, config.seed)(pixels)), name="training")
    model.compile(
        optimizer=_optimizer(config, steps),
        loss="categorical_crossentropy",
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        # On the CPU XLA makes TensorFlow slower; JAX is always compiled.
        jit_compile="auto" if keras.backend.backend() != "tensorflow" else _has_accelerator(),
    )
    return model


def _optimizer(config: TrainConfig, steps: int) -> Any:
    keras = load_keras()
    warmup = round(config.warmup_epochs * steps)
    rate = SCHEDULES[config.schedule](Span(config.learning_rate, warmup, config.epochs * steps))
    options: dict[str, Any] = {"weight_decay": config.weight_decay or None}
    if config.average:
        options |= {"use_ema": True, "ema_momentum": config.average}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, **{**options, "weight_decay": config.weight_decay})
    else:
        optimizer = keras.optimizers.Adam(rate, **options)
    if config.weight_decay:
        # Decay is for kernels: on biases and batch normalisation it only hurts (Loshchilov & Hutter use the same).
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    keep_weights(optimizer)
    return optimizer


def batches_of(faces: FaceSet, batch_size: int, config: TrainConfig) -> Any:
    """Batches as a Keras `PyDataset`: uint8 faces and float32 targets, in an order that the seed and epoch decide."""
    keras = load_keras()
    classes = len(faces.classes)
    targets = np.eye(classes, dtype=np.float32)[faces.labels] if faces.votes is None else faces.votes
    # Smoothing goes into the targets, not into the loss, so that the validation loss stays a plain log loss.
    targets = targets * (1 - config.label_smoothing) + config.label_smoothing / classes

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.order = np.arange(len(faces))
            self.epoch = 0

        def __len__(self) -> int:
            return len(faces) // batch_size

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
            chosen = self.order[index * batch_size : (index + 1) * batch_size]
            images, wanted = faces.images[chosen], targets[chosen]
            rng = np.random.default_rng([config.seed, self.epoch, index])
            if rng.random() < config.mix_share:
                images, wanted = mixed(images, wanted, mixup=config.mixup, cutmix=config.cutmix, rng=rng)
            return images, wanted

        def shuffle(self, epoch: int) -> None:
            self.epoch = epoch
            self.order = np.random.default_rng([config.seed, epoch]).permutation(len(faces))

    return Batches()


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


def _has_accelerator() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def _out_of_patience(history: "Sequence[dict[str, float]]", patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: history[i]["val_accuracy"])
    return len(history) - 1 - best >= patience
