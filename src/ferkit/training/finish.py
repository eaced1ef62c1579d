"""From a trained network to a model folder: network, serving copy, calibration, figures, card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferkit._support.files import write_atomically
from ferkit.data import Dataset, FaceSet
from ferkit.errors import FerkitError, ModelError, TrainingError
from ferkit.evaluation import best, curve, metrics, model_card
from ferkit.evaluation import report as evaluation
from ferkit.models import (
    KerasNetwork,
    adjust,
    apply_temperature,
    fit_temperature,
    model_folder,
    multiply_adds,
    start_of,
)
from ferkit.models import exporting as export
from ferkit.sources import FaceInput
from ferkit.training import run_folder
from ferkit.training.config import TrainConfig
from ferkit.training.start import sources_of

# A temperature from fewer held-out faces says more about them than about the network.
_FEWEST_TO_CALIBRATE = 200
_BATCH = 256


def write_model(
    folder: Path,
    network: Any,
    val: FaceSet,
    training: Mapping[str, Any],
    *,
    architecture: str,
    prior: Sequence[float] | None = None,
) -> str | None:
    """Write network, serving copy, and the card last of all; returns what the user must know, if anything.

    val: the faces that temperature, sensitivity and figures are taken on. training: what the card says of the run.
        prior: the share of each class that the network learnt; with one, the card gets the best sensitivity.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
    run = KerasNetwork(network)
    raw = np.concatenate([run(val.images[i : i + _BATCH]) for i in range(0, len(val), _BATCH)])
    enough = len(val) >= _FEWEST_TO_CALIBRATE
    adjusted, details = raw, {}
    if prior is not None:
        chosen = best(curve(raw, val.labels, prior)).sensitivity if enough else 0.0
        adjusted, details = adjust(raw, prior, chosen), {"prior": [*prior], "sensitivity": chosen}
    temperature = fit_temperature(adjusted, val.labels) if enough else 1.0
    report = evaluation.measure(apply_temperature(adjusted, temperature), val, model=architecture, seconds=0)
    figures = report.to_dict()
    for name in ("model", "faces_per_second", "confusion", "coverage", "tta"):
        del figures[name]
    card = model_folder.write_card(
        folder,
        classes=val.classes,
        face_input=face_input,
        temperature=temperature,
        details={
            **details,
            "architecture": architecture,
            "parameters": int(network.count_params()),
            "multiply_adds": multiply_adds(network),
            "training": dict(training),
            "metrics": {
                **figures,
                "ece_uncalibrated": metrics.ece(adjusted, val.labels),
                "note": f"Epoch and temperature were chosen on {val.name}, so expect a little less on unseen faces.",
            },
            "serving": serving,
        },
    )
    model_card.write(folder, card)
    missing = serving.get("onnx_missing")
    return missing and f"No {model_folder.ONNX_FILE}, so this model runs only where Keras is installed: {missing}"


def about_run(
    folder: Path, dataset: Dataset, config: TrainConfig, history: Sequence[Mapping[str, float]], recipe: str
) -> dict[str, Any]:
    """What a card says of how the model came about."""
    try:
        sources = [one for data in sources_of(config).values() for one in data]
        learnt_from = [one for number, one in enumerate(sources) if one not in sources[:number]]
    except ModelError:  # a run that was resumed can do without them
        learnt_from = []
    start = start_of(config.weights)
    return {
        "data": run_folder.about(dataset),
        **({"note": f"Its weights began as those of {start.note}"} if start else {}),
        **({"learnt_from": learnt_from} if learnt_from else {}),
        "recipe_name": recipe,
        "recipe": config.to_dict(),
        "epochs_done": len(history),
        "best_epoch": int(max(history, key=lambda row: row["val_accuracy"])["epoch"]),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "sessions": run_folder.sessions(folder),
    }
