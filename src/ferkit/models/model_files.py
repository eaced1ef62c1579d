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

# What Keras 3 no longer reads, and what other libraries write: what to do there.
_ELSEWHERE = "Load it where its classes and functions are defined, and save it as ONNX"
TO_ONNX = f"{_ELSEWHERE}: model.export('model.onnx', format='onnx')."
_OTHER_FORMATS = {
    (
        ".pt",
        ".pth",
        ".ckpt",
        ".safetensors",
    ): "PyTorch. Save it as ONNX there: torch.onnx.export(model, pixels, 'model.onnx').",
    (".pb",): "TensorFlow. Save it as ONNX there: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
}

# Layers that run code or load files of the author's choice when a model is opened.
_CODE_LAYERS = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5 by its suffix, which decides how Keras reads it."""
    return path.suffix.lower() in (".h5", ".hdf5")


def embed_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a card into a `.keras`, `.h5` or `.tflite` file."""
    text = card_text(card)
    if is_hdf5(path):
        import h5py  # comes with Keras

        with h5py.File(path, "r+") as file:
            file.attrs[CARD_KEY] = text
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(CARD_MEMBER, text)


def embedded_card(path: Path) -> dict[str, Any] | None:
    """The card inside a `.keras`, `.h5` or `.tflite` file, checked; None if it has none."""
    try:
        if is_hdf5(path):
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
        config = _network_config(path)
        # Losses and metrics of one's own are harmless: with compile=False Keras passes over them.
        parts = list(_parts({**config, "compile_config": None} if isinstance(config, dict) else config))
    except RecursionError as problem:
        raise ModelError(f"{path} nests its layers too deeply to be checked, so it is not opened.") from problem
    for part in parts:
        name, module = part.get("class_name"), part.get("module")
        foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if not isinstance(name, str) or name in _CODE_LAYERS or name == "__lambda__" or foreign:
            raise ModelError(
                f"{path} contains code (layer {name!r}{f' of {module!r}' if foreign else ''}). ferkit never runs code "
                f"from a model. {TO_ONNX}"
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
# Operators that leave every number as it is.
_SAME_NUMBERS = frozenset({b"Identity", b"Reshape", b"Flatten", b"Squeeze", b"Unsqueeze", b"Cast", b"Dropout"})


def last_operator(path: Path) -> str | None:
    """Name of the operator that makes the only output of an `.onnx` file, before mere rearrangement; None if not found."""
    try:
        (graph,) = _values(memoryview(path.read_bytes()), 7)
        nodes = list(_values(graph, 1))
        makers = {bytes(name): node for node in nodes for name in _values(node, 2)}
        (output,) = _values(graph, 12)
        (edge,) = map(bytes, _values(output, 1))
        for _ in nodes:
            (operator,) = map(bytes, _values(makers[edge], 4))
            if operator not in _SAME_NUMBERS:
                return operator.decode()
            edge = bytes(next(_values(makers[edge], 1)))
    except (OSError, ValueError, LookupError, StopIteration):
        pass
    return None


def _values(message: memoryview, number: int) -> Iterator[memoryview]:
    """The parts of a protobuf message that have this number."""
    return (value for one, value in _fields(message) if one == number and isinstance(value, memoryview))


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


def other_format(path: Path) -> str:
    """What wrote a file that ferkit does not read, and what to do there; "" where that is not known."""
    for suffixes, hint in _OTHER_FORMATS.items():
        if path.suffix.lower() in suffixes:
            return f" {path.name} looks like a file of {hint}"
    return ""


_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def _check_kind(path: Path) -> None:
    """Raise `ModelError` for a file of the other kind than its suffix says, and for weights without a network."""
    with path.open("rb") as file:
        head = file.read(8)
    wanted = ".h5" if head == _HDF5 else ".keras" if head.startswith(_ZIP) else None
    if wanted is not None and is_hdf5(path) != (wanted == ".h5"):
        what = "HDF5" if wanted == ".h5" else "of the .keras format"
        raise ModelError(f"{path} is {what} inside. Rename it: mv {path.name} {path.stem}{wanted}")
    if head != _HDF5:
        return
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs and (
            "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file
        ):
            raise ModelError(
                f"{path} has weights without a network (save_weights). Build the network in Python, then "
                f"model.load_weights({path.name!r}) and model.save('model.keras'), and give that file."
            )


def _network_config(path: Path) -> Any:
    """The layers of a file, read where Keras will read them: by its suffix, for one file may be both of these."""
    try:
        _check_kind(path)
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
