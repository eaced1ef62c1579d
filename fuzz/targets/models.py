"""Model files: what is looked at before Keras sees `.keras` and `.h5`, cards in `.tflite`, and `.onnx` all the way."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from ferkit.models import model_files
from ferkit.models.classifier import EmotionClassifier
from fuzz.judge import Choices, Finding, refusals_allowed, scratch, zipped
from onnx_files import tiny_onnx

WORDS = (b"class_name", b"module", b"keras.layers", b"builtins", b"Lambda", b"__lambda__", b"TFSMLayer", b"registered_name",
         b"config.json", b"ferkit.json", b"model_config", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"PK\x05\x06", b"TFL3",
         b'{"class_name":', b"[[[[[[[[", b"face_input", b"classes", b"temperature", b"ReduceMean", b"MatMul", b"Softmax",
         b"probabilities", b"location", b"\xff\xff\xff\xff\x0f")  # fmt: skip
LONGEST = 12000

CONFIG = {
    "class_name": "Sequential",
    "module": "keras",
    "config": {"layers": [{"class_name": "Dense", "module": "keras.layers", "config": {"units": 7}}]},
}
CARD = {"classes": ["a", "b"], "face_input": {"height": 4, "width": 4}, "temperature": 2.0}
FORBIDDEN = (*model_files._CODE_LAYERS, "__lambda__")


def seeds() -> dict[str, bytes]:
    text, card = json.dumps(CONFIG).encode(), json.dumps(CARD)
    code = json.dumps({**CONFIG, "config": [{"class_name": "Lambda", "config": {}}]}).encode()
    return {
        "config in a zip": b"\0" + text,
        "code in a zip": b"\0" + code,
        "config in hdf5": b"\1" + text,
        "code in hdf5": b"\1" + code,
        "keras": b"\2" + zipped({"config.json": text, "ferkit.json": card.encode()}),
        "h5": b"\3" + _hdf5(text, card),
        "h5 and a zip": b"\3" + _hdf5(code, card) + zipped({"config.json": text}),
        "tflite": b"\4" + b"TFL3" * 9 + zipped({"ferkit.json": card.encode()}),
        "onnx": b"\5" + tiny_onnx(metadata={"ferkit": card}),
        "onnx without a card": b"\5" + tiny_onnx(),
        "onnx of three": b"\5" + tiny_onnx(3, metadata={"ferkit": card}),
    }


def look(data: bytes) -> None:
    choices = Choices(data)
    kind, content = choices.number(6), choices.bytes()
    if kind in (0, 2):
        path = scratch("model.keras", zipped({"config.json": content}) if kind == 0 else content)
    elif kind in (1, 3):
        path = scratch("model.h5", _hdf5(content) if kind == 1 else content)
    else:
        path = scratch("model.tflite" if kind == 4 else "model.onnx", content)
    if kind == 5:
        _onnx(path)
        return
    if kind != 4:
        with refusals_allowed():
            model_files.refuse_code(path)
            _compare(path)
    with refusals_allowed():
        model_files.embedded_card(path)


def _compare(path: Path) -> None:
    """What was let through asks for no code: looked up as Keras does, by the suffix, and looked through as text."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            config = file.attrs["model_config"]
    else:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
    found = json.dumps(json.loads(config))
    if any(f'"class_name": "{name}"' in found for name in FORBIDDEN):
        raise Finding(f"{path.suffix} with code was let through: {found[:300]}")


def _onnx(path: Path) -> None:
    with refusals_allowed():
        classifier = EmotionClassifier.load(path, threads=1)
        takes = classifier.face_input
        if takes.height * takes.width > 1 << 16:
            return
        faces = np.full((1, takes.height, takes.width, takes.channels), 99, np.uint8)
        probabilities = classifier.predict_proba(faces)
        if not np.isfinite(probabilities).all():
            raise Finding(f"probabilities {probabilities}")


def _hdf5(config: bytes, card: str | None = None) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        # Attributes hold 64 KiB; text with zeros is kept as bytes.
        made.attrs["model_config"] = config if config and b"\0" not in config else np.void(config or b"\0")
        if card is not None:
            made.attrs[model_files.CARD_KEY] = card
    return file.getvalue()
