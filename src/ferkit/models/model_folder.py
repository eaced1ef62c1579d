"""The model folder: network, serving copy and card.

A model is a folder with `model.keras`, `model.onnx` and `card.json`. The card has the classes, `FaceInput`,
temperature, training data, metrics and the SHA-256 of the other files. Nothing here needs Keras.
"""

import dataclasses
import hashlib
import json
import math
import platform
import subprocess
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit.errors import ModelError, UsageError
from ferkit.models.calibration import check_prior, check_sensitivity
from ferkit.models.foreign import OUTPUTS, SOFTMAX, PixelScale
from ferkit.models.inspection import MAX_CARD_BYTES, check_file_size
from ferkit.sources import FaceInput

KERAS_FILE, ONNX_FILE, CARD_FILE = "model.keras", "model.onnx", "card.json"
# These stand on their own, as every exported file does.
INT8_FILE = "model.int8.onnx"
DEFAULT, FER2013 = "default", "fer2013"
# What the package carries, by the name that `find` takes, and where in its folder it lies. `voters` is an earlier name.
PACKAGED = {
    DEFAULT: "",
    "default-int8": INT8_FILE,
    FER2013: FER2013,
    "fer2013-int8": f"{FER2013}/{INT8_FILE}",
    "voters": "",
}


def sample_picture() -> Path:
    """Path of a portrait with one smiling face, 512x512 pixels, that comes with the package; `packaged/README.md` says more.

    >>> sample_picture().name
    'astronaut.jpg'
    """
    return Path(str(resources.files("ferkit.models"))) / "packaged" / "astronaut.jpg"


INTENDED_USE = (
    "Recognises the expression that people perceive in a face, not what a person feels. "
    "Not for decisions about people; inferring emotions at work and in education is prohibited in the European Union "
    "(Regulation (EU) 2024/1689, Art. 5(1)(f)); people exposed to it must be told (Art. 50(3))."
)

# The card decides the size of the arrays that faces are cropped to, and may be untrusted.
_LARGEST_SIDE = 4096
# Below it or above its inverse, probabilities are not finite.
_LEAST_FACTOR = 1e-3


def find(model: str | Path) -> Path:
    """Path of a model: a folder, a bare file, or the name of one that the package carries (`PACKAGED`).

    Raises:
        ModelError: there is no model, or the training run is not finished.
    """
    path = Path(model)
    if str(model) in PACKAGED:
        path = Path(str(resources.files("ferkit.models") / "packaged")) / PACKAGED[str(model)]
    if not path.exists():
        raise ModelError(
            f"No model at {path}. Expected a model of the package ({', '.join(PACKAGED)}), a model folder with "
            f"{CARD_FILE}, or a .keras, .h5, .onnx or .tflite file."
        )
    if not path.is_dir() and not path.is_file():
        raise ModelError(f"{path} is a pipe, socket or device. Expected a model folder or a file.")
    if path.is_dir() and not (path / CARD_FILE).is_file():
        if (path / "checkpoints").is_dir():
            raise ModelError(
                f"The run in {path} is not finished. Resume it with: ferkit train DATA --out {path} --resume"
            )
        if (path / "saved_model.pb").is_file():
            raise ModelError(
                f"{path} is a TensorFlow SavedModel, which Keras 3 does not read. Save the model as .keras where it was "
                f"made, or as ONNX: python -m tf2onnx.convert --saved-model {path} --output model.onnx"
            )
        raise ModelError(f"{path} is not a model folder: it has no {CARD_FILE}.")
    return path


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model folder, checked for what the classifier needs."""
    path = folder / CARD_FILE
    return check_card(_json_of(path), path)


def _json_of(path: Path) -> Any:
    check_file_size(path, MAX_CARD_BYTES)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"{path} is not a ferkit model card ({type(problem).__name__}: {problem}).") from problem


def card_beside(file: Path, shape: tuple[int, int, int]) -> dict[str, Any] | None:
    """What the `card.json` beside a bare file says of it, checked; None where there is none, or one of other files.

    It may hold as little as `classes`, or `pixel_scale`: size and channels are those of the network, `shape`, and what
    nothing is said about is left out.
    """
    path = file.with_name(CARD_FILE)
    if not path.is_file():
        return None
    given = _json_of(path)
    if not isinstance(given, dict):
        raise ModelError(f"{path} is not a ferkit model card. Expected a JSON object with classes.")
    if isinstance(sums := given.get("sha256"), dict):
        if file.name not in sums:
            return None
        check_sum(file.parent, file.name, given)
    sides = dataclasses.asdict(FaceInput(*shape))
    stated = given.get("face_input", {})
    # Two names stand in where only the scale is told, so that all of the rest is checked as ever.
    whole = {
        "temperature": 1.0,
        "classes": ["0", "1"],
        **given,
        "face_input": {**sides, **stated} if isinstance(stated, dict) else stated,
    }
    checked = check_card(whole, path)
    # A model folder's network scales pixels itself.
    scale = {"pixel_scale": 1.0} if sums is not None else {}
    return scale | {
        name: value for name, value in checked.items() if name in given or name in ("face_input", "temperature")
    }


def check_card(card: Any, path: Path) -> dict[str, Any]:
    """Validate a card that was read from a folder or from inside a file.

    Raises:
        ModelError: it is not a card, or has invalid values; the message names `path`.
    """
    try:
        face_input = FaceInput(**card["face_input"])
        classes, temperature = card["classes"], float(card["temperature"])
        margin = float(face_input.margin)
        PixelScale.parse(card.get("pixel_scale", 1.0))
    except UsageError as problem:
        raise ModelError(f"{path}: {problem}") from problem
    except (ValueError, KeyError, TypeError, OverflowError) as problem:
        raise ModelError(f"{path} is not a ferkit model card ({type(problem).__name__}: {problem}).") from problem
    names_ok = isinstance(classes, list) and len(classes) >= 2 and all(isinstance(name, str) for name in classes)
    if not names_ok or len(set(classes)) != len(classes):
        raise ModelError(f"{path}: classes must be at least two different names. Received: {classes!r}.")
    if not _LEAST_FACTOR <= temperature <= 1 / _LEAST_FACTOR:
        raise ModelError(f"{path}: temperature must be above 0, and neither tiny nor huge. Received: {temperature}.")
    if card.get("outputs", SOFTMAX) not in OUTPUTS:
        raise ModelError(f"{path}: outputs must be one of {', '.join(OUTPUTS)}. Received: {card['outputs']!r}.")
    sides_ok = all(type(one) is int and 1 <= one <= _LARGEST_SIDE for one in (face_input.height, face_input.width))
    channels_ok = type(face_input.channels) is int and face_input.channels in (1, 3)
    if not sides_ok or not channels_ok or not math.isfinite(margin) or not -0.9 <= margin <= 10:
        raise ModelError(
            f"{path}: face_input must be whole, positive pixels (at most {_LARGEST_SIDE}), 1 or 3 channels, and a margin "
            f"of -0.9 to 10. Received: {face_input}."
        )
    _check_prior(card, path)
    if any(_is_unprintable(name) for name in classes):
        raise ModelError(f"{path}: classes must have names that can be shown and sent. Received: {classes!r}.")
    if not isinstance(card.get("sha256", {}), dict):
        raise ModelError(f"{path}: sha256 must be the checksums by file name. Received: {card['sha256']!r}.")
    for name in ("metrics", "training", "versions"):
        if not isinstance(card.get(name, {}), dict):
            raise ModelError(f"{path}: {name} must be values by their names. Received: {card[name]!r}.")
    return {**card, "face_input": dataclasses.asdict(face_input), "temperature": temperature}


def _check_prior(card: Mapping[str, Any], path: Path) -> None:
    """What a card says of the classes among the faces that it learnt from, and what is done about it."""
    if "prior" not in card:
        return
    try:
        check_prior(card["prior"], len(card["classes"]))
        for name in ("sensitivity", "sensitivity_inside"):
            check_sensitivity(card.get(name, 0.0))
        inside = float(card.get("temperature_inside", 1.0))
    except (UsageError, ValueError, TypeError, OverflowError) as problem:
        raise ModelError(f"{path}: prior and sensitivity make no sense. {problem}") from problem
    if not _LEAST_FACTOR <= inside <= 1 / _LEAST_FACTOR:
        raise ModelError(f"{path}: temperature_inside must be neither tiny nor huge. Received: {inside}.")


def trained_on(card: Mapping[str, Any]) -> dict[str, Any]:
    """The training data of a card: source, fingerprint and faces of each split; {} if it is not recorded."""
    data = card.get("training", {}).get("data")
    return {**_NOTHING_KNOWN, **data} if _is_data(data) else {}


def learnt_from(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The training data of the models that it was initialized or distilled from, and of their own ones."""
    given = card.get("training", {}).get("learnt_from")
    return [{**_NOTHING_KNOWN, **one} for one in given if _is_data(one)] if isinstance(given, list) else []


_NOTHING_KNOWN: dict[str, Any] = {"source": None, "fingerprint": None, "faces": {}}


def _is_data(one: object) -> bool:
    """Whether it has the form that ferkit writes; a card may be untrusted."""
    return isinstance(one, dict) and isinstance(one.get("faces", {}), dict)


def _is_unprintable(name: str) -> bool:
    """Whether a name is blank, or has control characters or surrogates."""
    return not name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def write_card(
    folder: Path, *, classes: tuple[str, ...], face_input: FaceInput, temperature: float, details: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `card.json` for the files in the folder; write it last, so that all files that it names exist."""
    card = {
        "format": 1,
        "classes": list(classes),
        "face_input": dataclasses.asdict(face_input),
        "temperature": temperature,
        **details,
        "intended_use": INTENDED_USE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "sha256": {
            name: sha256(folder / name) for name in (KERAS_FILE, ONNX_FILE, INT8_FILE) if (folder / name).is_file()
        },
    }
    with write_atomically(folder / CARD_FILE, ModelError) as draft:
        draft.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def check_sum(folder: Path, name: str, card: Mapping[str, Any]) -> Path:
    """Path of a file of the folder, after its checksum was compared with the card."""
    path = folder / name
    expected = card.get("sha256", {}).get(name)
    if not path.is_file():
        raise ModelError(f"{folder} has no {name}, which its card names. Copy the whole folder again.")
    check_file_size(path)
    if sha256(path) != expected:
        raise ModelError(f"{path} is not the file its card describes (SHA-256 differs). Copy the whole folder again.")
    return path


def serving_file(card: Mapping[str, Any]) -> str | None:
    """Which file of a model folder ONNX Runtime takes: the serving copy, else the one in eight bits; None without either."""
    return next((name for name in (ONNX_FILE, INT8_FILE) if name in card.get("sha256", {})), None)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(model: Path) -> str:
    """SHA-256 of a model file, or of the card of a folder, hex.

    The card holds the checksums of the other files, and loading compares them.
    """
    return sha256(model / CARD_FILE if model.is_dir() else model)


def versions() -> dict[str, str]:
    """Versions of the packages that affect the results."""
    found = {"python": platform.python_version()}
    for package in ("ferkit", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "onnxruntime"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the ferkit checkout that runs, with "+changes" if it is not clean; None outside a checkout."""
    here = Path(__file__).parent
    try:
        # Installed into a virtual environment, ferkit may lie in the checkout of another project.
        ask = ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(ask, capture_output=True, timeout=10, check=True)  # noqa: S603
        ask = ["git", "-C", str(here), "rev-parse", "HEAD"]
        commit = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603
        ask = ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if dirty else commit
