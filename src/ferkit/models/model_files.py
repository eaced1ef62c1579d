"""Single-file models: the card inside a file, and checks for code and external data. Nothing here opens a network.

An exported file carries a card as a model folder does, written as JSON: in ONNX as the metadata entry `ferkit`, in HDF5
as the attribute `ferkit`, and in `.keras` and `.tflite` as the member `ferkit.json` of a zip archive. A `.keras` file
is one; to a `.tflite` file one is appended, as TensorFlow Lite itself does with label files.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ferkit.errors import ModelError
from ferkit.models.inspection import check_file_size, check_unpacked_size
from ferkit.models.model_folder import check_card

CARD_KEY = "ferkit"
CARD_MEMBER = "ferkit.json"
# Note beside metrics that were not measured with the exported file itself.
BEFORE_EXPORT = "Of the original, before it was exported."
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
SUFFIXES = (*KERAS_SUFFIXES, ".onnx", ".tflite")

# HDF5 holds attributes of 64 KiB at most; a thousand classes take a third of it.
_LARGEST_CARD = 1 << 16
# The layers of the largest networks that Keras itself offers take a tenth of it. Parsed, a bomb takes thirty times as much.
_LARGEST_CONFIG = 1 << 23

# Layers that run code or load files of the author's choice when a model is opened.
_CODE_LAYERS = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})


def embed_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a card into a `.keras`, `.h5` or `.tflite` file."""
    text = card_text(card)
    if path.suffix in (".h5", ".hdf5"):
        import h5py  # comes with Keras

        with h5py.File(path, "r+") as file:
            file.attrs[CARD_KEY] = text
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(CARD_MEMBER, text)


def embedded_card(path: Path) -> dict[str, Any] | None:
    """The card inside a `.keras`, `.h5` or `.tflite` file, checked; None if it has none."""
    try:
        if path.suffix in (".h5", ".hdf5"):
            import h5py

            with h5py.File(path, "r") as file:
                text = file.attrs.get(CARD_KEY)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text = _member(archive)
        else:
            return None
    except Exception as problem:  # zipfile and HDF5 meet damaged data with nearly any exception
        raise ModelError(f"{path} is damaged: its card cannot be read ({problem}).") from problem
    return None if text is None else parse_card(text, path)


def card_text(card: Mapping[str, Any]) -> str:
    text = json.dumps(card, ensure_ascii=False)
    if len(text.encode()) > _LARGEST_CARD:
        raise ModelError(f"The card takes {len(text.encode()):,} bytes. A file carries at most {_LARGEST_CARD:,}.")
    return text


def parse_card(text: object, path: Path) -> dict[str, Any]:
    """Parse the card inside a file, with the checks of `card.json`: the file may be untrusted."""
    try:
        card = json.loads(text) if isinstance(text, str | bytes) and len(text) <= _LARGEST_CARD else None
    except (ValueError, RecursionError):
        card = None
    return check_card(card, path)


def _member(archive: zipfile.ZipFile) -> bytes | None:
    if CARD_MEMBER not in archive.namelist():
        return None
    with archive.open(CARD_MEMBER) as file:
        return file.read(_LARGEST_CARD + 1)


def refuse_code(path: Path) -> None:
    """Reject a `.keras` or `.h5` file with layers that run code of its author. The model is not opened.

    Raises:
        ModelError: The file contains such a layer, is too large, or is not a Keras file.
    """
    check_unpacked_size(path)
    try:
        parts = list(_parts(_network_config(path)))
    except RecursionError as problem:
        raise ModelError(f"{path} nests its layers too deeply to be checked, so it is not opened.") from problem
    for part in parts:
        name, module = part.get("class_name"), part.get("module")
        foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if not isinstance(name, str) or name in _CODE_LAYERS or name == "__lambda__" or foreign:
            raise ModelError(
                f"{path} contains code (layer {name!r}{f' of {module!r}' if foreign else ''}). ferkit never "
                "runs code from a model: rebuild the network from standard layers and save it again."
            )


def refuse_data_outside(path: Path) -> None:
    """Reject an `.onnx` file with weights in other files, which may be anywhere on this machine and have no checksum.

    Raises:
        ModelError: The file has such weights, is too large, or is not an ONNX file.
    """
    check_file_size(path)
    try:
        names_others = _data_outside(memoryview(path.read_bytes()), "model", iter(range(_MOST_FIELDS)))
    except OSError as problem:
        raise ModelError(f"Cannot read {path}: {problem.strerror or problem}.") from problem
    except (ValueError, LookupError, RecursionError) as problem:
        raise ModelError(f"{path} is not a network that ONNX Runtime can run.") from problem
    if names_others:
        raise ModelError(
            f"{path} keeps weights in other files (external data), which ferkit does not open. Save it as one file, for "
            "instance with onnx.save(onnx.load(PATH), PATH)."
        )


# The fields of ONNX's messages that lead to tensors, as https://github.com/onnx/onnx/blob/main/onnx/onnx.proto numbers the fields.
_ONNX_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
# A network of ten thousand operators has a tenth of it. Each takes a microsecond here.
_MOST_FIELDS = 2_000_000


def _data_outside(message: memoryview, kind: str, left: Iterator[int]) -> bool:
    for number, value in _fields(message):
        if next(left, None) is None:
            raise ValueError(f"more than {_MOST_FIELDS:,} fields")
        if kind == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                return True
            continue
        inside = _ONNX_FIELDS[kind].get(number)
        if inside is not None and isinstance(value, memoryview) and _data_outside(value, inside, left):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: number, and value as a number or as bytes; numbers of fixed size are left out."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if key >> 32:
            # Readers in C++ drop the upper bits, and so find another field than this one.
            raise ValueError("the number of a field has more than 32 bits")
        number, form = key >> 3, key & 7
        if form == 0:
            value, at = _number(message, at)
            yield number, value
            continue
        length, at = _number(message, at) if form == 2 else ({1: 8, 5: 4}[form], at)
        if at + length > len(message):
            raise ValueError("a field ends behind its message")
        if form == 2:
            yield number, message[at : at + length]
        at += length


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without an end")


def _network_config(path: Path) -> Any:
    """The layers of a file, read where Keras will read them: by its suffix, for one file may be both of these."""
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
                text: Any = file.read(_LARGEST_CONFIG + 1)
                if any(name.lower().endswith(".npz") for name in archive.namelist()):
                    raise ModelError(
                        f"{path} keeps weights as NumPy does, among which pickles may be; these run code. Save it again "
                        "with Keras, which writes model.weights.h5."
                    )
        else:
            import h5py

            with h5py.File(path, "r") as file:
                text = file.attrs["model_config"]
        if len(text) > _LARGEST_CONFIG:
            raise ValueError(f"its layers take more than {_LARGEST_CONFIG:,} bytes")
        return json.loads(text)
    except ImportError as problem:
        raise ModelError(f"Reading {path} needs Keras: pip install 'ferkit[train]'.") from problem
    except (RecursionError, ModelError):
        raise
    except Exception as problem:  # zipfile and HDF5 meet damaged data with nearly any exception
        raise ModelError(
            f"{path} is not a Keras model (.keras, or .h5 with architecture and weights), or it is damaged."
        ) from problem


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)
