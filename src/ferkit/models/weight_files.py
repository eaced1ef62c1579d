"""Readers of published weight files: numbers by name, from files that nobody vouches for.

Nothing in a file is executed, and no size that a file states is believed before its bytes are there.
"""

import json
import math
import pickletools
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import ModelError

Numbers = dict[str, npt.NDArray[Any]]

# The largest files of the packages that are read have 25 MB of numbers, and 64 kB of JSON.
LARGEST_FILE, LARGEST_JSON = 256 * 2**20, 4 * 2**20

_PROBLEMS = (ValueError, OSError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def read_manifest(path: Path) -> Numbers:
    """The weights of a TensorFlow.js model: JSON with their names and shapes, and files of plain numbers beside it.

    Raises:
        ModelError: there is no such file, or it says something else than the numbers beside it.
    """
    try:
        document = json.loads(_content(path, LARGEST_JSON))
        groups = document["weightsManifest"] if isinstance(document, dict) else document
        return {name: value for group in groups for name, value in _group(path.parent, group)}
    except _PROBLEMS as problem:
        raise _unreadable(path, "a manifest of TensorFlow.js", problem) from problem


def _group(folder: Path, group: dict[str, Any]) -> list[tuple[str, npt.NDArray[Any]]]:
    data, start, found = b"", 0, []
    for name in group["paths"]:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not in the same folder")
        data += _content(folder / name, LARGEST_FILE - len(data))
    for weight in group["weights"]:
        name, packed = weight["name"], weight.get("quantization")
        kind = (packed or weight)["dtype"]
        if kind not in (("uint8", "uint16") if packed else ("float32", "int32")):
            raise ValueError(f"{name} has numbers of type {kind!r}")
        shape, kind = _sizes(weight["shape"]), np.dtype(kind)
        values = np.frombuffer(data, kind, math.prod(shape), start)
        start += values.nbytes
        if packed:
            values = (values * float(packed["scale"]) + float(packed["min"])).astype(np.float32)
        found.append((name, values.reshape(shape)))
    if start != len(data):
        raise ValueError(f"{len(data):,} bytes of numbers where {start:,} are described")
    return found


@dataclass(frozen=True)
class _Name:
    """A name in a pickle. Python would import it; here it is compared, and never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: where it starts, and how many numbers lie between neighbours along each axis."""

    storage: _Storage
    offset: int
    shape: list[int]
    strides: list[int]

    def of(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        end = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > len(numbers) or end >= len(numbers):
            raise ValueError(f"a tensor {self.shape} reaches beyond the {len(numbers):,} numbers of its storage")
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


_KINDS = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_DICT, _REBUILD = _Name("collections OrderedDict"), _Name("torch._utils _rebuild_tensor_v2")
_KNOWN = {_DICT, _REBUILD, *map(_Name, _KINDS)}
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_torch(path: Path) -> Numbers:
    """The tensors of a state dict that PyTorch wrote before version 1.6: five pickles, then the numbers of each storage.

    Raises:
        ModelError: there is no such file, it is cut off, or holds anything else.
    """
    try:
        data = _content(path, LARGEST_FILE)
        if data.startswith(b"PK"):
            raise ValueError("the zip format of later versions is not read")
        stream = BytesIO(data)
        magic, version, system, state, keys = (_unpickled(stream) for _ in range(5))
        if (magic, version) != (_MAGIC, _VERSION) or system["little_endian"] is not True:
            raise ValueError("another version of the format")
        tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        numbers, start = {}, stream.tell()
        for key in keys:
            if type(key) is not str:
                raise ValueError("a storage whose key is not text")
            storage = storages[key]
            (count,) = np.frombuffer(data, "<i8", 1, start)
            if count != storage.count:
                raise ValueError(f"a storage of {count:,} numbers where {storage.count:,} are described")
            numbers[key] = np.frombuffer(data, storage.kind, storage.count, start + 8)
            start += 8 + numbers[key].nbytes
        return {name: tensor.of(numbers[tensor.storage.key]) for name, tensor in tensors.items()}
    except _PROBLEMS as problem:
        raise _unreadable(path, "a state dict of PyTorch in its format before 1.6", problem) from problem


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _unpickled(stream: BytesIO) -> Any:
    """The value of the next pickle. Only the codes that a state dict is written in are known, and none calls anything.

    Nothing is hashed or printed but text: of tuples within tuples, which a file makes by doubling, that takes forever.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = marks.pop()
        values = stack[place:]
        del stack[place:]
        return values

    value: Any
    values: Any
    for code, value, _ in pickletools.genops(stream):
        match code.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[code.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = tuple(stack[-_TUPLES[code.name] :])
                del stack[-_TUPLES[code.name] :]
                stack.append(values)
            case "APPEND" | "APPENDS":
                values = since_mark() if code.name == "APPENDS" else [stack.pop()]
                stack[-1].extend(values)
            case "SETITEM" | "SETITEMS":
                values = since_mark() if code.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                if not all(type(key) is str for key in values[::2]):
                    raise ValueError("a key that is not text")
                stack[-1].update(zip(values[::2], values[1::2], strict=True))
            case "BUILD":  # attributes of the dict: versions of modules
                stack.pop()
            case "GLOBAL":
                if _Name(value) not in _KNOWN:
                    raise ValueError(f"it names {value[:60]!r}, which no state dict needs")
                stack.append(_Name(value))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_made(name, arguments))
            case _:
                raise ValueError(f"it has the pickle code {code.name}, which no state dict needs")
    raise ValueError("a pickle without an end")


def _storage(described: Any) -> _Storage:
    _, name, key, _, count, _ = described
    if type(key) is not str:
        raise ValueError("a storage whose key is not text")
    return _Storage(key, _KINDS[name.name], _sizes([count])[0])


def _made(name: object, arguments: Any) -> Any:
    if name == _DICT and arguments == ():
        return {}
    if name != _REBUILD or not isinstance(arguments[0], _Storage):
        raise ValueError("it calls what no state dict needs")
    storage, offset, shape, strides, *_ = arguments
    return _Tensor(storage, _sizes([offset])[0], _sizes(shape), _sizes(strides))


def _sizes(values: Any) -> list[int]:
    """A shape, or strides; whole numbers that NumPy can take."""
    sizes = list(values)
    if len(sizes) > 8 or not all(type(one) is int and 0 <= one < 2**31 for one in sizes):
        raise ValueError("a shape, stride or offset is not a whole number from 0 to 2**31, or one has more than 8 axes")
    return sizes


def _content(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    with path.open("rb") as stream:  # a size that was asked for before may be another by now
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")
    return content


def _unreadable(path: Path, wanted: str, problem: Exception) -> ModelError:
    said = " ".join(str(problem).split())[:200].rstrip(".")
    return ModelError(
        f"{path} cannot be read as {wanted}: {said}. Fetch the file again (docs/fine-tuning.md shows how)."
    )
