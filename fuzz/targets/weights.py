"""Published weights: state dicts of PyTorch and manifests of TensorFlow.js, with their numbers beside them."""

import json
import pickle
import struct

from ferkit.models.weight_files import read_manifest, read_torch
from fuzz.judge import Choices, refusals_allowed, scratch

WORDS = (b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cos\nsystem\n",
         b"X\x07\x00\x00\x00storage", b"K\x02", b"J\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"2\x86", b"tQ", b"tR", b"R", b"b",
         b'"paths"', b'"weights"', b'"shape"', b'"quantization"', b'"uint8"', b'"scale"', b'"min"', b"1e999", b"../")  # fmt: skip
LONGEST = 4000

TENSOR = (
    b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04NtQK\x00(K\x02K\x02t(K\x01K\x02t\x89}tRs."
)


def seeds() -> dict[str, bytes]:
    head = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    numbers = struct.pack("<q4f", 4, 1, 2, 3, 4)
    weight = {"name": "w", "shape": [2, 3], "dtype": "float32"}
    packed = {
        "name": "v",
        "shape": [4],
        "dtype": "float32",
        "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1},
    }
    group = {"paths": ["numbers.bin"], "weights": [weight, packed]}
    return {
        "state dict": b"\0" + head + TENSOR + pickle.dumps(["0"], 2) + numbers,
        "no tensors": b"\0" + head + pickle.dumps({}, 2) + pickle.dumps([], 2),
        "list": b"\1" + json.dumps([group]).encode(),
        "model": b"\1" + json.dumps({"weightsManifest": [group]}).encode(),
    }


def look(data: bytes) -> None:
    choices = Choices(data)
    kind, content = choices.number(2), choices.bytes()
    path = scratch("weights.pth" if kind == 0 else "weights.json", content)
    (path.parent / "numbers.bin").write_bytes(bytes(range(28)))
    with refusals_allowed():
        numbers = (read_torch if kind == 0 else read_manifest)(path)
        for value in numbers.values():
            value.sum()  # every number lies within the file
